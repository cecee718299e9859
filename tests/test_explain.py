"""``explain``: every signal found or missed with its price, limits against edges, who asked, and what GPUs allow."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from inferometer.adapters.language import SIGNALS
from inferometer.app.explain import Explanation, explain
from inferometer.errors import SourceError
from inferometer.model import Gpu, GpuReading
from inferometer.sources.nvml import Nvml, NvmlSource
from live import inferometer_says

HERE = Path(__file__).parent
MANUAL = (HERE.parent / "docs" / "adapters.md").read_text(encoding="utf-8")
LIMITS = {"ttft": 0.3, "tpot": 0.05, "e2e": 0.25}
OWN = """
engine: orca
versions: "2"
detect: {any: [orca_up]}
own: [orca_]
model: [served]
tenants: [team, user]
endpoint: {path: /stats, port: "9000", enabled_by: "--metrics", warning: "do not touch"}
counters:
  output_tokens: [{name: orca_out, where: {kind: [final]}, counted: per_step}, {name: orca_old}]
  prompt_tokens: [{name: orca_in, plus: [orca_in_cached]}]
  finished: [{name: orca_done, unless: {how: [probe]}}]
histograms:
  ttft: [{name: orca_ttft}]
  e2e: [{name: orca_e2e}]
  tpot: [{name: orca_tpot}]
bucket_flags: {ttft: "--edges"}
notes: {cached_tokens: "Orca has no cache.", waiting: "Start it with --queue."}
"""
PAGE = """
orca_up 1
orca_out{kind="draft",served="m"} 9
orca_old{served="m"} 9
orca_in{served="m",team="a"} 9
orca_in_cached{served="m",team="a"} 1
orca_done 1
orca_ttft_bucket{le="0.25"} 1
orca_ttft_bucket{le="0.5"} 1
orca_ttft_bucket{le="+Inf"} 2
orca_e2e_bucket{le="0.1"} 1
orca_e2e_bucket{le="+Inf"} 2
orca_tpot_bucket{le="0.05"} 3
orca_tpot_bucket{le="+Inf"} 2
this is no sample
"""
REFUSED = "no energy counter (the GPU has none, or this user or container may not read it)"
NONE = GpuReading("nvml", 0.0, "no_library", detail="libnvidia-ml.so.1 is not on this machine")


class Driver:
    """What a driver would say."""

    def __init__(self, reading: GpuReading = NONE) -> None:
        self.reading = reading

    async def read(self) -> GpuReading:
        return self.reading


def explained(folder: Path, page: str = PAGE, own: str = OWN, reading: GpuReading = NONE) -> Explanation:
    (folder / "page").write_text(page)
    (folder / "own.yaml").write_text(own)
    return asyncio.run(explain(str(folder / "page"), LIMITS, folder / "own.yaml" if own else None, Driver(reading)))


@pytest.mark.parametrize(
    "line",
    [
        "endpoint  /stats, port 9000",
        "switch    --metrics",
        "warning   do not touch",
        "models    m",
        "process   start time not on the page",
        "tenants   team says who asked; count by it with tenant: {label: team}",
        "unread    lines that are no samples: 1",
        "  output_tokens           found     orca_old",  # the series under today's name are not the final ones
        "  prompt_tokens           found     orca_in + orca_in_cached",
        "  finished                found     orca_done {how≠probe}",
        "  cached_tokens           missing   Orca has no cache.",  # the adapter's note first
        "  waiting                 missing   Start it with --queue.",
        "  running                 missing   busy time is known from moving counters only",
        "  tpot                    unusable  its buckets are not cumulative; the TPOT SLO cannot be judged",
        "  ttft 0.3 s: inside a bucket; exact would be 0.25 or 0.5 s; the engine sets its edges by --edges",
        "  e2e 0.25 s: over the last edge; exact would be 0.1 s",
        "  tpot 0.05 s: no histogram, cannot be judged from this page",
        "  no GPU is read: libnvidia-ml.so.1 is not on this machine",
    ],
)
def test_a_page_is_explained_line_by_line(tmp_path: Path, line: str) -> None:
    """Facts of the adapter, signals with the names that were really read, limits, tenants and GPUs."""
    found = explained(tmp_path)
    assert found.recognised
    assert line in found.text.splitlines()


@pytest.mark.parametrize("name", sorted(path.parent.name for path in HERE.glob("engines/*/signals.json")))
def test_every_signal_of_every_engine_has_its_line(tmp_path: Path, name: str) -> None:
    """Found, or missing with a reason; of two that replace each other one is enough."""
    page = gzip.decompress((HERE / "engines" / name / "metrics.prom.gz").read_bytes()).decode()
    lines = [line.split(None, 2) for line in explained(tmp_path, page, own="").text.splitlines() if line[:2] == "  "]
    told = {words[0]: words[1:] for words in lines}
    assert {signal for signal in SIGNALS if len(told.get(signal, ())) < 2} <= {"finished", "finished_ok"}
    assert {"finished", "finished_ok"} & set(told)


def test_labels_that_say_who_asked(tmp_path: Path) -> None:
    """There, possible but not on this page, or unknown to the engine."""
    assert "team, user may say who asked; not on this page" in explained(tmp_path, PAGE.replace("team=", "group=")).text
    assert "this engine does not say who asked" in explained(tmp_path, own=OWN.replace("tenants:", "created:")).text


def gpus(*there: Gpu) -> GpuReading:
    return GpuReading("nvml", 0.0, gpus=there, driver="570.1")


@pytest.mark.parametrize(
    ("reading", "lines"),
    [
        (
            gpus(Gpu("GPU-a", 0, "H100", energy_joules=1.0), Gpu("GPU-b", 1, "H100", up=False)),
            [
                "  2 GPUs, driver 570.1",
                "  GPU 0  H100: has an energy counter",
                "  GPU 1  H100: lost, or not to be read by this user or container",
            ],
        ),
        (
            gpus(Gpu("GPU-a", 0, "P4", power_watts=70.0)),
            ["  1 GPU, driver 570.1", f"  GPU 0  P4: {REFUSED}: joules are integrated from power samples"],
        ),
        (gpus(), ["  driver 570.1, but it shows no GPU to this user or container"]),
        (GpuReading("nvml", 0.0, "timeout"), ["  no GPU is read: timeout"]),
    ],
)
def test_what_gpus_driver_and_permissions_allow(tmp_path: Path, reading: GpuReading, lines: list[str]) -> None:
    """One line for each GPU, or one that says why there is none."""
    assert explained(tmp_path, reading=reading).text.split("this machine\n")[1].splitlines() == lines


def test_a_driver_that_hangs_is_left_behind(tmp_path: Path) -> None:
    """The page is explained all the same."""
    released = threading.Event()

    class Hanging(Nvml):
        def read(self) -> GpuReading:
            released.wait(60)
            return NONE

    (tmp_path / "page").write_bytes(gzip.compress(PAGE.encode()))
    (tmp_path / "own.yaml").write_text(OWN)
    source = NvmlSource(Hanging(float), watchdog_seconds=0.05)
    found = asyncio.run(explain(str(tmp_path / "page"), {}, tmp_path / "own.yaml", source))
    released.set()
    assert found.text.endswith("no GPU is read: a call to the GPU driver hangs (over 0.05 s)")


# -- pages of nobody, or of several ---------------------------------------------------------------


def test_what_is_no_text_is_no_page(tmp_path: Path) -> None:
    """Neither bytes of any kind nor a damaged gzip file end in a traceback."""
    (tmp_path / "bytes").write_bytes(b"[\x81]")
    with pytest.raises(SourceError, match="no line of it is a Prometheus sample"):
        asyncio.run(explain(str(tmp_path / "bytes"), LIMITS, None, Driver()))
    (tmp_path / "torn").write_bytes(gzip.compress(PAGE.encode() * 9)[:12] + b"torn" * 9)
    with pytest.raises(SourceError, match="its gzip stream is broken"):
        asyncio.run(explain(str(tmp_path / "torn"), LIMITS, None, Driver()))


def test_an_unknown_page_is_listed(tmp_path: Path) -> None:
    """What was seen, what is known, and where to go on."""
    found = explained(tmp_path, "go_a 1\ngo_b 1\nnova_up 1\nup 1\n", own="")
    assert not found.recognised
    assert "no known engine is on this page: 4 series, e.g. go_a, go_b, nova_up, up" in found.text
    assert "names by prefix: go_ (2), nova_ (1), up (1)\n" in found.text
    assert all(word in found.text for word in ("vllm", "sglang", "docs/engines.md", "docs/adapters.md"))
    assert "An adapter looks for orca_up: see" in explained(tmp_path, "go_a 1\n").text


def test_a_page_of_several_engines_names_what_shows_each(tmp_path: Path) -> None:
    """Two engines behind one address: neither is guessed."""
    page = 'vllm:num_requests_running{model_name="m"} 0\ntgi_queue_size 0\ntgi_batch_current_size 0\n'
    found = explained(tmp_path, page, own="")
    assert not found.recognised
    assert "more than one engine fits this page\n" in found.text
    assert "  vllm             by vllm:num_requests_running\n" in found.text
    assert "  tgi              by tgi_queue_size, tgi_batch_current_size\n" in found.text


@pytest.fixture
def queue() -> Iterator[str]:
    """A server that answers every path with a JSON list, as trtllm-serve does on /metrics."""

    class Queue(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'[{"iter": 1, "gpuMemUsage": 7}]')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Queue)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/metrics", "use /prometheus/metrics on the same port"),
        ("", "use /prometheus/metrics on the same port"),
        ("/stats", "no line of it is a Prometheus sample"),
    ],
)
def test_a_queue_that_readers_empty_is_no_page(queue: str, path: str, sentence: str) -> None:
    """trtllm-serve's /metrics loses what is read from it: whoever points at it is sent to the right path."""
    with pytest.raises(SourceError, match=sentence):
        asyncio.run(explain(queue + path, {}, None, Driver()))


# -- the command ---------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return [part.split("```", 1)[0] for part in MANUAL.split(f"```{language}\n")[1:]]


def test_the_manuals_command_says_what_the_manual_shows(tmp_path: Path) -> None:
    """`explain --adapter` on the page and the adapter of docs/adapters.md; the lines shown there are among its own."""
    page, adapter = tmp_path / "page.prom", tmp_path / "orca.yaml"
    page.write_text(blocks("prometheus")[0])
    adapter.write_text(next(block for block in blocks("yaml") if block.startswith("engine: orca")), encoding="utf-8")
    code, out, said = inferometer_says("explain", page, "--adapter", adapter, "--slo.ttft", "300ms")
    assert (code, said) == (0, "")
    shown = blocks("text")[0].splitlines()
    assert len(shown) >= 5
    assert [line for line in shown if line not in out.splitlines()] == []


def test_check_and_explain_refuse_a_faulty_adapter(tmp_path: Path) -> None:
    """Exit code 1 and the key in the configuration; 2 where the file itself was named. No traceback."""
    (tmp_path / "own.yaml").write_text(OWN.replace("ttft:", "itl:"))
    file = tmp_path / "agent.yaml"
    file.write_text("workloads: [{name: a, engines: [{url: 'http://a:1', adapter: own.yaml}]}]\n")
    code, out, said = inferometer_says("check", file)
    assert (code, out) == (1, "")
    assert said.startswith(f"workloads[0].engines[0].adapter: {tmp_path}/own.yaml: histograms.itl: no such signal")
    code, out, said = inferometer_says("explain", file, "--adapter", tmp_path / "own.yaml")
    assert (code, out) == (2, "")
    assert said.startswith(f"inferometer: {tmp_path}/own.yaml: histograms.itl: no such signal")
    (tmp_path / "own.yaml").write_text(OWN)
    code, out, said = inferometer_says("check", file)
    assert (code, said) == (0, "")
    assert f"adapter: {tmp_path}/own.yaml" in out
