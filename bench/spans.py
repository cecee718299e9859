"""``python -m bench.spans``: what spans cost the agent, and whether all that were acknowledged are counted.

The agent is kept on one core; exports of 512 spans, as the SDK makes them, come at a steady pace from one exporter.
Their engine has no page, which costs most: spans that no page places wait for a minute, written with each commit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from prometheus_client.parser import text_string_to_metric_families

from bench import machine
from bench.process import free_port, started, usage

_BATCH = 512
_ATTRIBUTES: dict[str, float | int | str] = {
    "gen_ai.latency.time_to_first_token": 0.446,
    "gen_ai.latency.e2e": 2.143,
    "gen_ai.latency.time_in_queue": 1.4e-5,
    "gen_ai.usage.prompt_tokens": 252,
    "gen_ai.usage.completion_tokens": 45,
    "gen_ai.latency.time_in_model_prefill": 0.42,
    "gen_ai.latency.time_in_model_decode": 1.697,
    "gen_ai.latency.time_in_model_inference": 2.117,
    "gen_ai.request.id": "chatcmpl-bench-bbe096e8-88",
    "gen_ai.request.top_p": 1.0,
    "gen_ai.request.max_tokens": 45,
    "gen_ai.request.temperature": 1.0,
    "gen_ai.request.n": 1,
}
"""As on vLLM's spans."""

_IDLE_SECONDS = 5.0
_START_SECONDS = 30.0
Send = Callable[[bytes], None]


class Exports:
    """Makes exports: of each the spans are new, and just ended."""

    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311  load needs no cryptography
        self._message = ExportTraceServiceRequest()
        scope = self._message.resource_spans.add().scope_spans.add()
        for _ in range(_BATCH):
            span = scope.spans.add(name="llm_request", kind=2)  # type: ignore[arg-type]  an enum's number
            span.attributes.extend(KeyValue(key=key, value=_any(value)) for key, value in _ATTRIBUTES.items())

    def __call__(self) -> bytes:
        """The next one."""
        now = time.time_ns()
        for span in self._message.resource_spans[0].scope_spans[0].spans:
            span.trace_id, span.span_id = self._rng.randbytes(16), self._rng.randbytes(8)
            span.start_time_unix_nano, span.end_time_unix_nano = now - 2_143_000_000, now
        return self._message.SerializeToString()


class Outcome(Struct, frozen=True):
    """One run. ``idle_seconds``: CPU that the agent takes per second without any span."""

    seconds: float
    acknowledged: int
    counted: int
    cpu_seconds: float
    idle_seconds: float
    resident_bytes: float
    waits: tuple[float, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each protocol and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.spans", description=__doc__)
    parser.add_argument("--spans", type=float, default=2000.0, help="spans per second")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a run")
    options = parser.parse_args(argv)
    print_line = sys.stdout.write
    print_line(f"{machine.described()}\n{options.spans:g} spans/s for {options.seconds:g} s, {_BATCH} a batch\n\n")
    cache = Path(__file__).parents[1] / ".cache"  # on a disk, where temporary folders may be in memory
    cache.mkdir(exist_ok=True)
    print_line(f"{'':<6}{'CPU/span, µs':>14}{'one core':>10}{'lost':>6}{'ack p50/p99, ms':>18}{'resident, MB':>14}\n")
    lost = 0
    for protocol in ("http", "grpc"):
        with tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as folder:
            outcome = _run(protocol, options.spans, options.seconds, Path(folder))
        lost += outcome.acknowledged - outcome.counted
        print_line(_row(protocol, outcome))
        sys.stdout.flush()
    return 1 if lost else 0


def _run(protocol: str, pace: float, seconds: float, folder: Path) -> Outcome:
    ports = {name: free_port() for name in ("web", "http", "grpc")}
    with started(_agent(folder, ports), folder / "log") as child:
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
        _wait(ports["web"])
        send = _http(ports["http"]) if protocol == "http" else _grpc(ports["grpc"])
        send(Exports()())  # what is imported and built once is no span's cost
        before = usage(child.pid).cpu_seconds
        time.sleep(_IDLE_SECONDS)
        idle = (usage(child.pid).cpu_seconds - before) / _IDLE_SECONDS
        known, before, began = _counted(ports["web"]), usage(child.pid).cpu_seconds, time.monotonic()
        waits = _load(send, pace, seconds)
        took, after = time.monotonic() - began, usage(child.pid)
        time.sleep(2.0)  # the next snapshot
        return Outcome(
            seconds=took,
            acknowledged=len(waits) * _BATCH,
            counted=_counted(ports["web"]) - known,
            cpu_seconds=after.cpu_seconds - before,
            idle_seconds=idle,
            resident_bytes=after.resident_bytes,
            waits=tuple(waits),
        )


def _load(send: Send, pace: float, seconds: float) -> list[float]:
    """Send at this pace, whatever the answers take; how long each of them took, in seconds."""
    exports, began = Exports(), time.monotonic()

    def timed(body: bytes) -> float:
        sent = time.monotonic()
        send(body)
        return time.monotonic() - sent

    with ThreadPoolExecutor(8) as pool:
        answers = []
        for number in range(round(seconds * pace / _BATCH)):
            body = exports()
            time.sleep(max(0.0, began + number * _BATCH / pace - time.monotonic()))
            answers.append(pool.submit(timed, body))
        return [answer.result() for answer in answers]


def _row(protocol: str, outcome: Outcome) -> str:
    spans = outcome.cpu_seconds - outcome.idle_seconds * outcome.seconds
    cuts = statistics.quantiles(outcome.waits, n=100)
    return (
        f"{protocol:<6}{spans / outcome.acknowledged * 1e6:>14.1f}{spans / outcome.seconds:>10.1%}"
        f"{outcome.acknowledged - outcome.counted:>6}{cuts[49] * 1e3:>11.0f} / {cuts[98] * 1e3:<4.0f}"
        f"{outcome.resident_bytes / 1e6:>14.0f}\n"
    )


def _agent(folder: Path, ports: dict[str, int]) -> list[str]:
    settings = {
        "interval": "1s",
        "otlp": {name: f"127.0.0.1:{ports[name]}" for name in ("http", "grpc")},
        "workloads": [{"name": "bench", "engines": [{"url": "http://127.0.0.1:9/metrics", "engine": "vllm"}]}],
        "gpu": {"sources": []},
        "storage": {"path": str(folder / "ledger")},
        "web": {"listen_address": f"127.0.0.1:{ports['web']}"},
    }
    file = folder / "inferometer.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return [sys.executable, "-m", "inferometer", "run", f"--config.file={file}"]


def _http(port: int) -> Send:
    def send(body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"an export was refused: {answer.status}")

    return send


def _grpc(port: int) -> Send:
    import grpc  # noqa: PLC0415  an extra

    call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    )
    return lambda body: call(body, timeout=10)


def _wait(port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while _get(port, "/metrics") == "":
        if time.monotonic() > end:
            raise SystemExit("the agent did not start")
        time.sleep(0.05)


def _counted(port: int) -> int:
    samples = (s for family in text_string_to_metric_families(_get(port, "/metrics")) for s in family.samples)
    named = (s for s in samples if s.name == "inferometer_spans_total" and s.labels["outcome"] == "accepted")
    return int(next(named).value)


def _get(port: int, path: str) -> str:
    url = urlsplit(f"http://127.0.0.1:{port}{path}")
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else ""
    except OSError:
        return ""
    finally:
        connection.close()


def _any(value: float | str) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


if __name__ == "__main__":
    sys.exit(main())
