"""The command line, as a shell sees it: exit codes, sentences and what lands in files."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from inferometer import __version__
from live import Clients, Engines, Page, Process, eventually, inferometer_says

PAGES = Path(__file__).parent / "pages"
COMMANDS = (
    "run",
    "demo",
    "check",
    "explain",
    "record",
    "replay",
    "top",
    "calibrate",
    "report",
    "rules",
    "what-if",
    "completion",
)
FLAGS = ("--gpus", "1", "--price.gpu-hour", "3600", "--slo.ttft", "500ms")  # 1 USD a second


def test_version_and_help():
    """The version alone; a help page for all, and one for each command, without a traceback or a log line."""
    assert inferometer_says("--version") == (0, f"inferometer {__version__}\n", "")
    code, out, said = inferometer_says("--help")
    assert (code, said) == (0, "")
    assert "inferometer demo" in out
    assert all(re.search(rf"^ +{command} ", out, re.MULTILINE) for command in COMMANDS)
    for command in COMMANDS:
        code, out, said = inferometer_says(command, "--help")
        assert (code, said) == (0, ""), command
        assert out.startswith(f"usage: inferometer {command} ")
    assert all(name in inferometer_says("run", "--help")[1] for name in ("--price.gpu-hour", "--storage.path"))


@pytest.mark.parametrize(
    "arguments", [(), ("fly",), ("check",), ("run", "--no-such-flag", "1"), ("record", "http://a")]
)
def test_wrong_use_is_exit_code_2(arguments):
    """What cannot be understood is never half done."""
    code, out, said = inferometer_says(*arguments)
    assert (code, out) == (2, "")
    assert said.startswith("usage: inferometer")


def test_check_prints_the_whole_configuration_or_every_fault(tmp_path):
    """A good file comes back with all defaults, which check accepts again; a bad one as sentences with lines."""
    good, again, bad = (tmp_path / name for name in ("good.yaml", "again.yaml", "bad.yaml"))
    good.write_text('workloads: [{name: chat, engines: [{url: "http://a:1/metrics"}], gpus: 2}]\n')
    code, out, said = inferometer_says("check", good)
    assert (code, said) == (0, "")
    assert "interval: 5s" in out
    again.write_text(out)
    assert inferometer_says("check", again) == (0, out, "")
    bad.write_text("interval: 1ms\nworkloads:\n  - {name: chat, gpus: -1, color: red}\n")
    code, out, said = inferometer_says("check", bad)
    assert (code, out) == (1, "")
    assert [line.split(": ")[0] for line in said.splitlines()] == [f"{bad}:{line}" for line in (1, 3, 3)]
    assert "Traceback" not in said
    assert inferometer_says("check", tmp_path / "none.yaml")[0] == 1


def test_explain_recognises_pages_of_files_and_servers(tmp_path):
    """What was found, what is missing, and how well SLOs can be judged; the same by file and by URL."""
    code, out, said = inferometer_says("explain", PAGES / "vllm.prom.gz", "--slo.ttft", "500ms", "--slo.tpot", "55ms")
    assert (code, said) == (0, "")
    assert out.startswith(f"{PAGES / 'vllm.prom.gz'}: vllm")
    assert "ttft 0.5 s: a bucket edge, counts are exact" in out
    assert "tpot 0.055 s: inside a bucket" in out
    with Engines(tmp_path / "log", load=10) as engines:
        code, out, said = inferometer_says("explain", engines.urls[0])
        assert (code, said) == (0, "")
        assert out.startswith(f"{engines.urls[0]}: vllm")
        assert re.search(r"output_tokens +found +vllm:generation_tokens_total", out)


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"go_goroutines 7\n", 1, "no known engine is on this page: 1 series, e.g. go_goroutines"),
        (gzip.decompress((PAGES / "dcgm-exporter.prom.gz").read_bytes()), 1, "no known engine is on this page"),
        (b"<html>", 2, "no line of it is a Prometheus sample"),
        (b"", 2, "no line of it is a Prometheus sample"),
        (None, 2, "No such file or directory; give a URL or a file"),
    ],
)
def test_explain_of_what_is_no_engine(tmp_path, body, code, sentence):
    """Exit code 1 for a page that nobody knows, 2 for what is no page at all; a sentence either way."""
    path = tmp_path / "page"
    if body is not None:
        path.write_bytes(body)
    got, out, said = inferometer_says("explain", path)
    assert got == code
    assert sentence in out + said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording of an engine from before its first request until after its last, and what it really did."""
    folder = tmp_path_factory.mktemp("recorded")
    with Engines(folder / "engines.log") as engines, Clients(engines.urls[0], count=4, seed=1) as clients:
        out, command = folder / "recording", ("inferometer", "record", engines.urls[0])
        with Process(folder / "log", *command, "--out", out, "--for", "1h", "--every", "200ms") as recording:

            def rows():
                return len((out / "index.tsv").read_text().splitlines()) if (out / "index.tsv").exists() else 0

            eventually(lambda: rows() > 2, "rows recorded")
            clients.start()
            eventually(lambda: engines.truth(0)["totals"]["requests"].get("ok", 0) > 10, "some requests")
            clients.stop()
            eventually(lambda: engines.truth(0)["in_flight"]["requests"] == 0, "rest")
            after = rows()
            eventually(lambda: rows() > after + 2, "rows at rest")
            recording.process.send_signal(signal.SIGINT)
            assert recording.process.wait(30) == 0
        yield out, engines.truth(0)["totals"], engines.urls[0]


def test_replay_gives_the_engines_own_totals(recorded):
    """Every token and request between the first and the last page, though somebody stopped the recording by Ctrl-C."""
    folder, truth, url = recorded
    code, out, said = inferometer_says("replay", folder, *FLAGS, "--format", "metrics")
    assert (code, said) == (0, "")
    page = Page(out)
    tokens = {row.labels["type"]: row.value for row in page.rows("inferometer_tokens_total")}
    assert tokens == {
        "input_uncached": truth["prompt_tokens"] - truth["cached_tokens"],
        "input_cached": truth["cached_tokens"],
        "output": truth["output_tokens"],
    }
    requests = {row.labels["outcome"]: row.value for row in page.rows("inferometer_requests_total") if row.value}
    assert requests == {name: count for name, count in truth["requests"].items() if count}
    assert page.sum("inferometer_wasted_tokens_total") == truth["wasted_output_tokens"]
    assert page.rows("inferometer_engine_info", engine=url.split("/")[2], kind="vllm")
    at = [float(row.split("\t")[0]) for row in (folder / "index.tsv").read_text().splitlines()[1:]]
    assert page.sum("inferometer_cost_total") == pytest.approx(at[-1] - at[0], rel=1e-6)


def test_replay_says_the_same_in_every_format(recorded):
    """Text for people, JSON for programs, the page for Prometheus and every snapshot for a TSDB."""
    folder, truth, url = recorded
    said = {form: inferometer_says("replay", folder, *FLAGS, "--format", form) for form in ("text", "json", "metrics")}
    assert {code for code, _, _ in said.values()} == {0}
    assert f"{truth['output_tokens']:,}" in said["text"][1]
    assert inferometer_says("replay", folder, *FLAGS) == said["text"], "text is the default"
    assert url.split("/")[2] in json.dumps(json.loads(said["json"][1]))
    code, out, errors = inferometer_says("replay", folder, *FLAGS, "--format", "openmetrics")
    assert (code, errors) == (0, "")
    assert out.endswith("\n# EOF\n")
    last = [
        line for line in out.splitlines() if line.startswith("inferometer_tokens_total") and 'type="output"' in line
    ]
    assert float(last[-1].split()[-2]) == truth["output_tokens"]


def test_promtool_takes_the_openmetrics_of_a_replay(recorded, tmp_path):
    """So a recording can be looked at in Prometheus as if it had been scraped then."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing; `make tools` installs it"
        pytest.skip("promtool is not installed")
    page = tmp_path / "page.om"
    page.write_text(inferometer_says("replay", recorded[0], *FLAGS, "--format", "openmetrics")[1])
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", page, tmp_path / "tsdb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tsdb").glob("*/meta.json")), done.stdout


def test_replay_refuses_what_the_recording_does_not_have(recorded, tmp_path):
    """An engine of another name is a fault of the configuration; a folder without recording is none to use."""
    code, out, said = inferometer_says("replay", recorded[0], "--engine.url", "recording:other")
    assert (code, out) == (1, "")
    assert "the recording has no engine other; it has recording:127.0.0.1:" in said
    code, out, said = inferometer_says("replay", tmp_path)
    assert (code, out) == (2, "")
    assert said.startswith("inferometer: ")


def test_record_says_how_many_pages_failed(tmp_path):
    """A whole short recording, with an engine that is there and one that is not: exit code 1, and both are rows."""
    with Engines(tmp_path / "log") as engines:
        urls = (engines.urls[0], "http://127.0.0.1:1/metrics")
        code, out, _ = inferometer_says("record", *urls, "--out", tmp_path / "r", "--for", "500ms", "--every", "250ms")
        assert code == 1
        assert out.startswith(f"{tmp_path / 'r'}: recorded, 3 readings failed;")
        rows = [row.split("\t") for row in (tmp_path / "r" / "index.tsv").read_text().splitlines()[1:]]
        assert [row[3] for row in rows] == ["200", "refused"] * 3
        assert inferometer_says("record", urls[0], "--out", tmp_path / "s", "--for", "0.1s", "--every", "50ms")[0] == 0
        code, out, said = inferometer_says("record", urls[0], "--out", tmp_path / "r")
        assert (code, out) == (2, ""), "an older recording is not written over"
        assert str(tmp_path / "r") in said
        code, out, said = inferometer_says("record", urls[0], "--out", tmp_path / "t", "--for", "soon")
        assert (code, said) == (1, "--for: 'soon' is no duration; write it with a unit, e.g. 60s or 500ms\n")
