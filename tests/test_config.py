"""The configuration: every good file means what it says, every bad one is answered with exactly its sentences."""

from __future__ import annotations

import json
import re
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml
from inferometer import adapters
from inferometer.config import FLAGS, Config, costs, docs, dump, durations, load, slos
from inferometer.config.example import EXAMPLE
from inferometer.config.presets import PRESETS
from inferometer.config.schema import ENGINES
from inferometer.config.shapes import Table
from inferometer.config.tables import table
from inferometer.economics import prices
from inferometer.errors import ConfigError

FILES = Path(__file__).parent / "config"
DOCS = Path(__file__).parents[1] / "docs"
GOOD = sorted(FILES.glob("*.good.yaml"))
BAD = sorted(FILES.glob("*.bad.yaml"))
ENVIRON = {
    "NODE_IP": "10.0.0.7",
    "CLUSTER": "east",
    "HOST": "h",
    "INTERVAL": "2s",
    "RATE": "2.5",
    "GPUS": "8",
    "INSECURE": "true",
    "WORD": "cheap",
}
URL = "http://127.0.0.1:8000/metrics"


def good(name: str) -> Config:
    return load(str(FILES / f"{name}.good.yaml"), {}, ENVIRON)


def faults_of(path: str | None, flags: dict | None = None, environ: dict | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, flags or {}, ENVIRON if environ is None else environ)
    return caught.value.faults


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    return str(file)


# -- files -----------------------------------------------------------------------------------------


def test_there_are_enough_bad_files():
    """A glob that finds nothing must not pass for a suite."""
    assert len(BAD) >= 25
    assert len(GOOD) >= 5


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.name)
def test_bad_file_is_answered_with_its_sentences(file):
    """The leading comments of a bad file are the whole answer: each fault, its line, its key, its remedy."""
    comments = (line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith("# FILE"))
    assert faults_of(str(file)) == [line.replace("FILE", str(file), 1) for line in comments]


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.name)
def test_good_file_survives_its_own_dump(file, tmp_path):
    """What `check` prints is a file that means the same, without help from the environment."""
    config = load(str(file), {}, ENVIRON)
    assert load(written(tmp_path, dump(config)), {}, {}) == config


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.name)
def test_good_file_and_its_dump_fit_the_json_schema(file):
    """An editor that follows the schema marks nothing in a file that loads."""
    validator = jsonschema.Draft202012Validator(docs.schema())
    validator.validate(yaml.safe_load(file.read_text()) or {})
    validator.validate(yaml.safe_load(dump(load(str(file), {}, ENVIRON))))


@pytest.mark.parametrize(
    "text",
    [
        "{zebra: 1}",
        "{interval: 5}",
        "{workloads: [{}]}",
        "{prices: {a: {}}}",
        "{web: {port: 1}}",
        "{carbon: {source: x}}",
    ],
)
def test_json_schema_is_closed(text):
    """The schema refuses unknown keys, missing keys and durations without a unit."""
    assert list(jsonschema.Draft202012Validator(docs.schema()).iter_errors(yaml.safe_load(text)))


def test_example_of_the_contract():
    """The example of the design loads, and every value arrives in its unit."""
    config = good("design")
    chat = config.workloads[0]
    assert (config.currency, config.interval, config.windows) == ("USD", 5.0, (60.0, 300.0, 3600.0))
    assert (chat.name, chat.gpus, chat.share, chat.price) == ("chat", "auto", 1.0, "h100")
    assert (chat.engines[0].url, chat.engines[0].gpus, chat.engines[0].spans) == (URL, 4, {"service.name": "vllm-b"})
    assert chat.slo.thresholds == {"ttft": 0.5, "tpot": 0.05, "e2e": 10.0}
    assert (chat.budget.amount, chat.budget.period, chat.training.over) == (20000.0, "month", 180 * 86400.0)
    assert config.gpu.dcgm_url == "http://10.0.0.7:9400/metrics"
    assert (config.otlp.http, config.otlp.grpc) == ("127.0.0.1:4318", "127.0.0.1:4317")


def test_documented_example_loads(tmp_path):
    """The page's example is a good file."""
    config = load(written(tmp_path, EXAMPLE), {}, ENVIRON)
    assert [workload.price for workload in config.workloads] == ["h100", "spot"]
    jsonschema.Draft202012Validator(docs.schema()).validate(yaml.safe_load(EXAMPLE))


@pytest.mark.parametrize("name", ["empty", "comments"])
def test_empty_file_is_all_defaults(name):
    """Nothing written means every default, and no workload."""
    config = good(name)
    assert config == Config(scrape=config.scrape)
    assert config.scrape.timeout == 5.0


def test_references_are_read_like_what_they_stand_for():
    """The environment fills numbers, switches and parts of text alike."""
    config = good("references")
    workload = config.workloads[0]
    assert (config.interval, config.storage.path, workload.gpus) == (2.0, "/var/lib/east/ledger", 8)
    assert config.prices["default"].gpu_hour == 2.5
    assert workload.engines[0].tls.insecure_skip_verify is True


def test_merged_mappings_keep_their_own_keys():
    """`<<` fills in what a workload does not say itself."""
    chat, batch = good("shared").workloads
    assert (chat.share, batch.share, batch.name) == (0.6, 0.4, "team/batch")
    assert batch.gpus == chat.gpus == ("GPU-6d2f8a6c-0b0e-4c4e-9d55-3c1f3b0a7a11", "MIG-0f1e2d3c", 0)
    assert (batch.slo, batch.budget.period) == (chat.slo, 30 * 86400.0)
    assert chat.engines[0].url == "http://chat.internal:8000/metrics"
    assert [engine.url for engine in batch.engines] == ["recording:batch-0", "recording:batch-1"]


def test_presets_yield_to_what_is_written():
    """A preset brings limits and the 99th percentile; what stands beside it wins."""
    whole, partly, none, _ = (workload.slo for workload in good("presets").workloads)
    assert (whole.thresholds, whole.objective) == ({"ttft": 0.45, "tpot": 0.04}, 0.99)
    assert (partly.thresholds, partly.objective) == ({"ttft": 2.0, "tpot": 0.06}, 0.9)
    assert (none.thresholds, none.objective) == ({}, 0.95)


def test_models_may_have_limits_of_their_own():
    """What a model leaves out is as for all, unless it takes a preset."""
    slo = good("presets").workloads[3].slo
    assert slos.by_model(slo) == {
        "big": {"ttft": 2.0, "tpot": 0.05, "e2e": 10.0},
        "reasoning": {"ttft": 1.5, "tpot": 0.02},
    }


def test_scrape_timeout_follows_the_interval():
    """Left out, a page may take 10 s but never longer than the interval."""
    assert good("presets").scrape.timeout == 10.0
    assert good("references").scrape.timeout == 2.0


def test_missing_file_is_one_sentence():
    """A file that is not there is told by its path."""
    assert faults_of("nowhere.yaml") == ["nowhere.yaml: cannot be read: No such file or directory; check the path"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"currency: \xff\n", "{}: is not UTF-8 text; save it as UTF-8"),
        (
            b"interval: 5s\ncurrency: \x01\n",
            "{}:2: is not valid YAML: a character that is not allowed; check indentation, colons and quotes",
        ),
        (b"windows: " + b"[" * 3000 + b"]" * 3000, "{}: is nested too deeply; make it flatter"),
    ],
)
def test_file_that_is_no_text(content, sentence, tmp_path):
    """Bytes that no YAML reader takes are a fault, not a crash."""
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    assert faults_of(str(file)) == [sentence.format(file)]


def test_byte_order_mark_is_ignored(tmp_path):
    """Editors on some systems put one in front."""
    assert load(written(tmp_path, "\ufeffinterval: 1s\n"), {}, {}).interval == 1.0


def test_password_in_a_url_is_not_repeated(tmp_path):
    """A fault goes to logs; the secret it is about must not."""
    path = written(tmp_path, "workloads: [{name: a, engines: [{url: 'me:hunter2@a:1'}, {url: 'http://me:hunter2@a'}]}]")
    faults = faults_of(path)
    assert len(faults) == 2
    assert "hunter2" not in "".join(faults)


# -- flags and environment ---------------------------------------------------------------------------


def test_flags_alone_describe_one_workload():
    """Without a file, every flag of the short start arrives."""
    flags = {
        "engine.url": [URL, "http://b:1"],
        "workload": "chat",
        "gpus": "GPU-1, GPU-2",
        "price.gpu-hour": "2.50",
        "slo.ttft": "500ms",
        "slo.objective": "0.9",
    }
    config = load(None, flags, {})
    (workload,) = config.workloads
    assert (workload.name, workload.gpus, workload.price) == ("chat", ("GPU-1", "GPU-2"), "default")
    assert [engine.url for engine in workload.engines] == [URL, "http://b:1/metrics"]
    assert (workload.slo.ttft, workload.slo.objective) == (0.5, 0.9)
    assert config.prices["default"].gpu_hour == 2.5


def test_nothing_at_all_is_one_workload_without_price():
    """The shortest command still has a workload to count for."""
    (workload,) = load(None, {}, {}).workloads
    assert (workload.name, workload.engines, workload.gpus, workload.price) == ("default", (), "auto", None)


@pytest.mark.parametrize(("text", "gpus"), [("all", "all"), ("4", 4), ("0,1", (0, 1)), ("MIG-1", ("MIG-1",))])
def test_gpus_flag(text, gpus):
    """One flag has every form of the key."""
    assert load(None, {"gpus": text}, {}).workloads[0].gpus == gpus


def test_engines_are_those_that_there_are_adapters_of():
    """`engine:` takes the name of every adapter that ships, and no other."""
    assert ("auto", *sorted(adapters.builtin())) == ENGINES


def test_an_adapter_is_found_from_the_files_folder(tmp_path, monkeypatch):
    """Wherever the agent is started, and however the file was named."""
    text = "workloads: [{name: a, engines: [{url: 'http://a:1', adapter: ADAPTER}]}]"
    monkeypatch.chdir(tmp_path)
    for given, found in (("./mine.yaml", tmp_path / "mine.yaml"), ("/etc/mine.yaml", Path("/etc/mine.yaml"))):
        (tmp_path / "c.yaml").write_text(text.replace("ADAPTER", given))
        assert load("c.yaml", {}, {}).workloads[0].engines[0].adapter == str(found)


def test_precedence(tmp_path):
    """Default < file < environment < flag."""
    path = written(tmp_path, "interval: 2s\nlog: {level: debug, format: json}\nweb: {listen_address: ':1'}\n")
    environ = {"INFEROMETER_INTERVAL": "3s", "INFEROMETER_LOG_LEVEL": "error", "INFEROMETER_WEB_LISTEN_ADDRESS": ""}
    config = load(path, {"interval": "4s"}, environ)
    assert (config.interval, config.log.level, config.log.format) == (4.0, "error", "json")
    assert (config.web.listen_address, config.currency) == (":1", "USD")


def test_every_flag_has_a_working_variable():
    """Each variable reaches the configuration as its flag does."""
    values = {
        "engine.url": URL,
        "workload": "chat",
        "gpus": "2",
        "price.gpu-hour": "3",
        "slo.ttft": "1s",
        "slo.tpot": "2s",
        "slo.e2e": "3s",
        "slo.objective": "0.5",
        "interval": "7s",
        "web.listen-address": ":7",
        "web.config.file": "/web.yml",
        "web.enable-lifecycle": "true",
        "storage.path": "/x",
        "gpu.sources": "dcgm, nvml",
        "gpu.dcgm-url": "http://c:9400/metrics",
        "log.level": "error",
        "log.format": "json",
    }
    assert set(values) == {flag.name for flag in FLAGS}
    by_flag = load(None, values, {})
    assert load(None, {}, {flag.variable: values[flag.name] for flag in FLAGS}) == by_flag
    for name in values:
        others = {key: text for key, text in values.items() if key != name}
        assert name == "gpu.dcgm-url" or load(None, others, {}) != by_flag  # the source dcgm needs it


def test_engine_urls_in_the_environment_are_separated_by_commas():
    """A variable cannot be repeated."""
    (workload,) = load(None, {}, {"INFEROMETER_ENGINE_URL": f"{URL}, http://b:1/m"}).workloads
    assert [engine.url for engine in workload.engines] == [URL, "http://b:1/m"]


def test_config_file_in_the_environment(tmp_path):
    """INFEROMETER_CONFIG_FILE names the file where no flag does."""
    environ = {"INFEROMETER_CONFIG_FILE": written(tmp_path, "interval: 9s\n")}
    assert load(None, {}, environ).interval == 9.0


def test_flags_override_every_workload_of_a_file():
    """SLOs, GPUs and the default price have one clear meaning beside a file."""
    path = str(FILES / "prices.good.yaml")
    config = load(path, {"slo.e2e": "9s", "gpus": "none", "price.gpu-hour": "7"}, {})
    assert [(workload.slo.e2e, workload.gpus) for workload in config.workloads] == [(9.0, "none")] * 2
    assert config.prices["default"].gpu_hour == 7.0
    assert config.workloads[1].price == "gpu"


def test_engines_on_the_command_line_join_a_file_without_workloads(tmp_path):
    """A file of prices and a URL are enough."""
    config = load(written(tmp_path, "prices: {default: {gpu_hour: 2}}\n"), {"engine.url": URL}, {})
    assert [(workload.name, workload.price) for workload in config.workloads] == [("default", "default")]


@pytest.mark.parametrize(
    ("flags", "environ", "faults"),
    [
        ({"slo.ttft": "500"}, {}, ["--slo.ttft: is '500'; needs a unit, e.g. 500ms or 500s"]),
        ({}, {"INFEROMETER_SLO_TPOT": "x"}, ["INFEROMETER_SLO_TPOT: is 'x'; must be a duration above 0, e.g. 5s"]),
        (
            {"price.gpu-hour": "-1"},
            {},
            ["--price.gpu-hour: is '-1'; must be a number of at least 0, or a list (each with from and rate)"],
        ),
        ({"engine.url": "a:8000"}, {}, ["--engine.url: is 'a:8000' without a scheme; write http://a:8000"]),
        ({"engine.url": [URL, URL]}, {}, ["--engine.url: is an engine of workloads[0] already; list each engine once"]),
        ({"slo.objective": "95"}, {}, ["--slo.objective: is '95'; must be a number above 0 and below 1"]),
        ({"log.level": "loud"}, {}, ["--log.level: is 'loud'; must be debug, info, warning or error"]),
        ({"slo.tftt": "1s"}, {}, ["--slo.tftt: unknown flag; did you mean --slo.ttft?"]),
    ],
)
def test_faults_of_flags_name_the_flag(flags, environ, faults):
    """People see the words they typed."""
    assert faults_of(None, flags, environ) == faults


def test_engines_in_two_places_are_a_fault():
    """A file with workloads and engines or a name on the command line contradict each other."""
    faults = faults_of(str(FILES / "shared.good.yaml"), {"engine.url": URL}, {"INFEROMETER_WORKLOAD": "chat"})
    assert faults == [
        "--engine.url: the file has workloads; give engines in the file or as --engine.url, not both",
        (
            "INFEROMETER_WORKLOAD: the file has workloads; give the names of workloads in the file or as "
            "INFEROMETER_WORKLOAD, not both"
        ),
    ]


def test_faults_of_file_and_flags_come_together(tmp_path):
    """One run tells everything."""
    path = written(tmp_path, "zebra: 1\nwindows: [5]\n")
    assert [fault.split(": ")[0] for fault in faults_of(path, {"interval": "1"})] == [
        f"{path}:1",
        f"{path}:2",
        "--interval",
    ]


# -- durations ---------------------------------------------------------------------------------------


def test_a_duration_of_a_million_digits_is_none():
    assert durations.seconds("9" * 1_000_001 + "s") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("0.1ms", 0.0001), ("1h30m", 5400.0), ("1.5h", 5400.0), ("30d", 2592000.0), ("1w", 604800.0)],
)
def test_duration(text, seconds):
    """Units are exact, and a printed duration reads back as the same number."""
    assert durations.seconds(text) == seconds
    assert durations.seconds(durations.text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "s", "5x", "1e3s", "\u0665s", "5s!"])
def test_no_duration(text):
    """What is not a number with a unit is no duration."""
    assert durations.seconds(text) is None
    assert not re.match(durations.PATTERN, text, re.ASCII)


# -- money -------------------------------------------------------------------------------------------


def test_tariff_in_its_timezone():
    """Steps keep their minutes, the zone is real, and a plain number needs none."""
    config = good("references")
    assert costs.price(config.prices["night"]) == prices.Rented(
        (prices.Step(0, 2.5), prices.Step(390, 3.0)), ZoneInfo("Europe/Berlin")
    )
    assert costs.price(config.prices["default"]) == prices.Rented((prices.Step(0, 2.5),), UTC)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("default", 0.0),
        ("server", 87500 / 8760 / 8),
        ("gpu", 119000 / 8760 / 8),
        ("lease", None),
    ],
)
def test_hourly_rates_of_configured_prices(name, rate):
    """Licences per server and per GPU reach the golden rates of the formulas."""
    price = costs.price(good("prices").prices[name])
    if rate is not None:
        assert prices.hourly(price, 0.0) == pytest.approx(rate, rel=1e-12)
    else:
        assert price == prices.Owned(320000.0, 8, 4.0, 64000.0, 0.08, 0.95, metered=True, other=1000.0)


def test_price_electricity_and_training_of_a_workload():
    """A workload finds its price by name or by default; training counts by time or by tokens."""
    config = good("prices")
    first, second = config.workloads
    assert costs.workload_price(config, first) == prices.Rented((prices.Step(0, 0.0),))
    assert costs.workload_price(config, second).software_per_gpu == 4500.0
    assert costs.workload_price(config, load(None, {}, {}).workloads[0]) is None
    assert costs.electricity(config.electricity) == prices.Electricity(0.1, 1.0)
    assert costs.electricity(None) is None
    assert costs.training(first.training) == prices.Training(12000.0, 180 * 86400.0)
    assert costs.training(second.training) == prices.Training(
        second.training.amount, tokens=second.training.over_tokens
    )
    assert costs.training(None) is None


# -- documentation -----------------------------------------------------------------------------------


def test_generated_files_are_fresh(tmp_path):
    """`python -m inferometer.config.docs` would change nothing."""
    docs.write(tmp_path)
    for name in ("configuration.md", "configuration.schema.json"):
        assert (DOCS / name).read_text() == (tmp_path / name).read_text(), (
            f"{name}: run python -m inferometer.config.docs"
        )


def test_every_key_flag_and_preset_is_documented():
    """Nothing can be set that the page does not explain."""
    page = docs.page()
    schema = docs.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    names = {row.name for _, each in docs._tables(table(Config), "") for row in each.rows.values()}
    assert {name for name in names if f"| `{name}` |" not in page} == set()
    assert all(flag.variable in page and re.search(f"`--{flag.name}[ `]", page) for flag in FLAGS)
    assert all(f"| `{name}` |" in page for name in PRESETS)
    assert json.loads((DOCS / "configuration.schema.json").read_text()) == schema


def test_every_key_says_what_it_means():
    """A key without a meaning would leave an empty cell."""
    tables: list[Table] = [each for _, each in docs._tables(table(Config), "")]
    assert len(tables) > 15
    assert [row.name for each in tables for row in each.rows.values() if len(row.help) < 8] == []
