"""Adapters: captured pages against the signals read off them by hand, and the ways in which pages mislead."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import Adapter, Translator, language
from inferometer.errors import AdapterError
from inferometer.model import EngineSignal, Histogram, Page
from inferometer.sources.page import PageParser
from signals import counters, histogram

HERE = Path(__file__).parent
GOLDEN = sorted((HERE / "engines").glob("*/signals.json"))
VLLM = adapters.builtin()["vllm"]
MODEL = 'model_name="m"'
ALIVE = f"vllm:num_requests_running{{{MODEL}}} 0\n"


def page(text: str | bytes, malformed: int = 0) -> Page:
    body = text.encode() if isinstance(text, str) else text
    parsed = PageParser(adapters.wanted(adapters.builtin().values())).parse(body)
    assert parsed.malformed == 0
    assert PageParser(None).parse(body).malformed == malformed
    return Page("e", 7.0, layout=parsed.layout, values=parsed.values)


def signal(text: str | bytes, *known: Adapter, malformed: int = 0) -> EngineSignal:
    return Translator("e", known or tuple(adapters.builtin().values()))(page(text, malformed))


def body_of(folder: Path) -> bytes:
    return gzip.decompress((folder / "metrics.prom.gz").read_bytes())


def test_nothing_counts_below_zero() -> None:
    """A page whose counter is negative shows no such counter."""
    text = f"{ALIVE}vllm:prompt_tokens_total{{{MODEL}}} -5\nvllm:generation_tokens_total{{{MODEL}}} 7\n"
    assert counters(signal(text)) == {"output_tokens": {"m": 7.0}}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.parent.name)
def test_captured_page(golden: Path) -> None:
    """A page of each kind of engine says what its signals.json says: numbers counted on the page by hand."""
    expected = json.loads(golden.read_text())
    found = signal(body_of(golden.parent), malformed=expected.get("malformed", 0))
    assert (found.error, found.kind, found.at) == ("", expected["kind"], 7.0)
    assert found.process_start == expected["process_start"]
    assert found.created == pytest.approx(expected["created"], abs=1e-6) if expected["created"] else not found.created
    assert counters(found) == expected["counters"]
    assert {key.signal for key in found.histograms} == set(expected["histograms"])
    for name, facts in expected["histograms"].items():
        seen = histogram(found, name)
        assert len(seen.edges) == facts.pop("edges")
        assert seen.sum == pytest.approx(facts.pop("sum"), rel=1e-12)
        assert {edge: seen.counts[seen.edges.index(float(edge))] for edge in facts} == facts
    assert {name: value for (name, _), value in found.gauges.items()} == pytest.approx(expected["gauges"], rel=1e-12)
    assert list(found.missing) == expected["missing"]


def test_there_is_a_pair_for_every_generation() -> None:
    """The table above is not empty, and every adapter has at least one captured page."""
    assert {path.parent.name.partition("-")[0] for path in GOLDEN} >= set(adapters.builtin())
    assert len(GOLDEN) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "process_start_time_seconds 1.7e9\nprocess_open_fds 12\nprocess_cpu_seconds_total 3\n",
        "",
        'vllm:iteration_tokens_total_sum{model_name="m"} 3\n',
        'sglang:num_running_reqs{model_name="m"} 3\n',
    ],
)
def test_other_pages_are_no_engine(text: str) -> None:
    """A page without the names that mark an engine is refused with a sentence, not read as an idle engine."""
    found = signal(text)
    assert (found.error, found.kind, dict(found.counters)) == ("unknown_engine", "", {})
    assert found.detail


def test_triton_is_not_vllm() -> None:
    """Triton's backend writes vllm: names without the model_name label, under its own conventions."""
    body = gzip.decompress((HERE / "pages" / "triton-vllm-backend.prom.gz").read_bytes())
    assert b"vllm:generation_tokens_total" in body
    assert not adapters.matches(VLLM, page(body))
    assert signal(body).kind == "triton_vllm"


def test_a_failed_reading_stays_one() -> None:
    """The error of the page is the error of the signal, and the page is not looked at."""
    found = Translator("e", [VLLM])(Page("e", 1.0, error="timeout", detail="after 5 s"))
    assert (found.error, found.detail, found.kind) == ("timeout", "after 5 s", "")


def test_ambiguous_pages_name_their_adapters(tmp_path: Path) -> None:
    """When two adapters fit, neither is guessed."""
    path = tmp_path / "twin.yaml"
    path.write_text((Path(adapters.__file__).parent / "vllm.yaml").read_text().replace("engine: vllm", "engine: twin"))
    found = signal(ALIVE, VLLM, adapters.load(path))
    assert found.error == "ambiguous_engine"
    assert "twin" in found.detail


def ttft(*buckets: tuple[str, float], count: float | None = None) -> str:
    lines = [f'vllm:time_to_first_token_seconds_bucket{{le="{le}",{MODEL}}} {value}' for le, value in buckets]
    if count is not None:
        lines.append(f"vllm:time_to_first_token_seconds_count{{{MODEL}}} {count}")
    return ALIVE + "\n".join(lines) + "\n"


def test_buckets_that_are_not_cumulative() -> None:
    """What falls from one edge to the next is no histogram, whatever it calls itself."""
    assert histogram(signal(ttft(("1", 5), ("2", 3), ("+Inf", 9))), "ttft") is None
    assert histogram(signal(ttft(("1", 3), ("2", 5), ("+Inf", 4))), "ttft") is None


@pytest.mark.parametrize(
    ("buckets", "count", "edges", "counts"),
    [
        ((("2", 5), ("1", 3), ("+Inf", 9)), 9, (1, 2, float("inf")), (3, 5, 9)),  # out of order
        ((("1", 3), ("2", 5)), 9, (1, 2, float("inf")), (3, 5, 9)),  # +Inf left out
        ((), 9, (float("inf"),), (9,)),  # no buckets at all
        ((("1", 3), ("1.0", 3), ("+Inf", 9), ("+Inf", 9)), 9, (1, float("inf")), (3, 9)),  # an edge twice
    ],
)
def test_shapes_of_histograms(
    buckets: tuple[tuple[str, float], ...], count: float, edges: tuple[float, ...], counts: tuple[float, ...]
) -> None:
    """Edges ascend, each is there once, and the last is the total."""
    found = histogram(signal(ttft(*buckets, count=count)), "ttft")
    assert (found.edges, found.counts) == (edges, counts)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_no_reading(value: str) -> None:
    """It leaves its signal without that series; it does not poison sums."""
    lines = (
        f'vllm:prompt_tokens_total{{engine="0",{MODEL}}} {value}',
        f'vllm:prompt_tokens_total{{engine="1",{MODEL}}} 4',
        f"vllm:kv_cache_usage_perc{{{MODEL}}} {value}",
    )
    found = signal(ALIVE + "\n".join(lines) + "\n")
    assert counters(found)["prompt_tokens"] == {"m": 4.0}
    assert ("kv_cache", "m") not in found.gauges


def test_generations_of_a_name_are_not_added_up() -> None:
    """A page that has a metric under its old and its new name is read by the new one."""
    lines = (
        f"vllm:prompt_tokens_cached_total{{{MODEL}}} 100",
        f"vllm:prefix_cache_hits_total{{{MODEL}}} 90",
        f"vllm:external_prefix_cache_hits_total{{{MODEL}}} 20",
        f"vllm:gpu_prefix_cache_hits_total{{{MODEL}}} 80",
        f"vllm:gpu_cache_usage_perc{{{MODEL}}} 0.7",
        f"vllm:kv_cache_usage_perc{{{MODEL}}} 0.5",
    )
    for page_lines, cached in ((lines, 100), (lines[::-1], 100), (lines[1:], 110), (lines[3:], 80)):
        found = signal(ALIVE + "\n".join(page_lines) + "\n")
        assert counters(found)["cached_tokens"] == {"m": cached}
        assert found.gauges["kv_cache", "m"] == 0.5


def test_copies_by_process_id() -> None:
    """Several API servers show one gauge each per pid, stale zeros among them: the largest counts, not the sum."""
    lines = [f'vllm:num_requests_running{{engine="{e}",{MODEL},pid="{p}"}} {v}' for e, p, v in
             (("0", 1, 0), ("0", 2, 11), ("0", 3, 11), ("1", 1, 8), ("1", 2, 0))]  # fmt: skip
    usage = [f'vllm:kv_cache_usage_perc{{engine="{e}",{MODEL},pid="7"}} {v}' for e, v in (("0", 0.2), ("1", 0.6))]
    found = signal("\n".join(lines + usage) + "\n")
    assert found.gauges["running", "m"] == 11 + 8
    assert found.gauges["kv_cache", "m"] == 0.6


def test_a_line_that_is_there_twice_counts_once() -> None:
    """Duplicated series, as a broken merge of processes writes them, change nothing."""
    body = body_of(HERE / "engines" / "vllm-0.33")
    once, twice = signal(body), signal(body + body)
    assert (twice.counters, twice.histograms, twice.gauges) == (once.counters, once.histograms, once.gauges)


def test_reasons_that_nobody_knows_yet() -> None:
    """A finish reason that is not proven good is an error; stop, length and repetition are good, abort is aborted."""
    reasons = {"stop": 1, "length": 2, "repetition": 4, "abort": 8, "error": 16, "surprise": 32}
    lines = [f'vllm:request_success_total{{finished_reason="{r}",{MODEL}}} {n}' for r, n in reasons.items()]
    found = counters(signal(ALIVE + "\n".join(lines) + "\n"))
    assert (found["finished_ok"]["m"], found["finished_aborted"]["m"], found["finished_error"]["m"]) == (7, 8, 48)


def test_calls_that_are_no_generation() -> None:
    """Only ended generation calls count: no refused input (4xx), no tokenizer, no health check."""
    calls = {
        ("/v1/completions", "2xx"): 1,
        ("/v1/messages", "5xx"): 2,
        ("/v1/completions", "4xx"): 4,
        ("/tokenize", "2xx"): 8,
        ("/health", "2xx"): 16,
    }
    lines = [f'http_requests_total{{handler="{h}",method="POST",status="{s}"}} {n}' for (h, s), n in calls.items()]
    assert counters(signal(ALIVE + "\n".join(lines) + "\n"))["http_ended"] == {"": 3}


def test_histograms_whose_name_looks_like_a_counter() -> None:
    """vllm:iteration_tokens_total is a histogram, inter-token latency is not TPOT: neither becomes a signal."""
    text = f"vllm:iteration_tokens_total_sum{{{MODEL}}} 9\nvllm:inter_token_latency_seconds_count{{{MODEL}}} 9\n"
    found = signal(ALIVE + text)
    assert (dict(found.counters), dict(found.histograms)) == ({}, {})


def test_two_models_on_one_page() -> None:
    """Each model has its own counters and gauges."""
    lines = [f'vllm:generation_tokens_total{{model_name="{m}"}} {n}' for m, n in (("a", 1), ("b", 2))]
    assert counters(signal("\n".join(lines) + "\n"))["output_tokens"] == {"a": 1, "b": 2}


def test_vital_signs_are_the_engines_own() -> None:
    """Whether an engine moves is read off its own families: its Python process always does something."""
    others = 'process_open_fds {0}\nhttp_requests_total{{handler="/v1/completions",status="2xx"}} {0}\n'
    translate = Translator("e", [VLLM])
    first, second = (translate(page(ALIVE + others.format(n))) for n in (1, 2))
    moved = translate(page(ALIVE.replace(" 0\n", " 1\n") + others.format(2)))
    assert first.vital == second.vital != moved.vital


def test_series_may_come_and_go() -> None:
    """The remembered layout of a page does not outlive the page."""
    translate = Translator("e", [VLLM])
    both = ALIVE + f"vllm:generation_tokens_total{{{MODEL}}} 5\n"
    assert counters(translate(page(both))) == {"output_tokens": {"m": 5}}
    assert counters(translate(page(ALIVE))) == {}
    assert counters(translate(page(both))) == {"output_tokens": {"m": 5}}


NEW_ENGINE = """
engine: nova
versions: ">= 1"
detect: {any: ["nova_up"]}
own: ["nova_"]
model: [served_name, model]
traits: {cached_in_prompt: false, single_token_has_tpot: false}
process_start: nova_boot_seconds
created: [nova_in_created]
counters:
  prompt_tokens: [{name: nova_in_total}]
  output_tokens: [{name: nova_out_total, plus: [nova_thought_total], unless: {kind: [draft]}}]
  finished_ok: [{name: nova_done, where: {how: [stop, length]}}]
histograms:
  e2e: [{name: nova_request_ms, scale: 0.001}]
gauges:
  kv_cache: [{name: nova_cache_percent, scale: 0.01, copies: [rank]}]
"""
NEW_PAGE = """
nova_up 1
nova_boot_seconds 1000
nova_in_created{model="x"} 1001
nova_in_total{model="x"} 10
nova_out_total{model="x",kind="final"} 20
nova_out_total{model="x",kind="draft"} 40
nova_thought_total{model="x"} 5
nova_done{model="x",how="stop"} 3
nova_done{model="x",how="oops"} 1
nova_request_ms_bucket{model="x",le="500"} 2
nova_request_ms_bucket{model="x",le="+Inf"} 3
nova_request_ms_sum{model="x"} 1800
nova_request_ms_count{model="x"} 3
nova_cache_percent{model="x",rank="0"} 25
nova_cache_percent{model="x",rank="1"} 24
"""


def test_a_new_engine_is_one_file(tmp_path: Path) -> None:
    """An engine that nobody here has heard of: its YAML, its page, its signals, and no Python."""
    path = tmp_path / "nova.yaml"
    path.write_text(NEW_ENGINE)
    nova = adapters.load(path)
    parsed = PageParser(adapters.wanted([nova])).parse(NEW_PAGE.encode())
    found = Translator("n", [VLLM, nova])(Page("n", 1.0, layout=parsed.layout, values=parsed.values))
    assert (found.error, found.kind, found.process_start, found.created) == ("", "nova", 1000, 1001)
    assert counters(found) == {"prompt_tokens": {"x": 10}, "output_tokens": {"x": 25}, "finished_ok": {"x": 3}}
    assert histogram(found, "e2e") == Histogram((0.5, float("inf")), (2.0, 3.0), 1.8)
    assert dict(found.gauges) == {("kv_cache", "x"): 0.25}
    assert (found.traits.cached_in_prompt, found.traits.single_token_has_tpot) == (False, False)
    assert found.missing == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("engine: [", "flow"),
        ("", "null"),
        (NEW_ENGINE.replace("own:", "owns:"), "owns"),
        (NEW_ENGINE.replace("engine: nova\n", ""), "engine"),
        (NEW_ENGINE.replace("prompt_tokens:", "promt_tokens:"), "counters.promt_tokens"),
        (NEW_ENGINE.replace("  e2e:", "  itl:"), "histograms.itl"),
        (NEW_ENGINE.replace("  kv_cache:", "  heat:"), "gauges.heat"),
        (NEW_ENGINE.replace("scale: 0.01", "scale: big"), "gauges"),
        (NEW_ENGINE.replace("{name: nova_in_total}", "{nam: nova_in_total}"), "counters"),
        (NEW_ENGINE.replace("how: [stop, length]", "how: [1]"), "counters"),
        (NEW_ENGINE.replace("single_token_has_tpot", "single_tokn"), "traits"),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    """Whoever writes an adapter is told which file is wrong, and where in it."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(AdapterError) as fault:
        language.load(path)
    assert str(path) in str(fault.value)
    assert key in str(fault.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """So is a file that cannot be read."""
    with pytest.raises(AdapterError, match=r"nowhere\.yaml"):
        language.load(tmp_path / "nowhere.yaml")


def test_wanted_names_are_all_that_is_read() -> None:
    """A page cut down to the wanted names means the same, so that sources need not keep the rest."""
    body = gzip.decompress((HERE / "pages" / "vllm.prom.gz").read_bytes())
    everything = PageParser(None).parse(body)
    translated = Translator("e", [VLLM])(Page("e", 7.0, layout=everything.layout, values=everything.values))
    assert translated == signal(body, VLLM)
    assert len(everything.series) > 2 * len(page(body).series)
