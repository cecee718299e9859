"""The metrics page of the workload: what vLLM would show of it, over HTTP, for the agent to read."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

MODEL = "random-weights"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Observations by upper bound, as a page shows them."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float, times: int) -> None:
        """So many of the same."""
        self._counts[sum(seconds > edge for edge in _SECONDS)] += times
        self._sum += seconds * times

    def lines(self, name: str, labels: str) -> list[str]:
        """Cumulative buckets, count and sum."""
        total, lines = 0, [f"# TYPE {name} histogram"]
        for edge, count in zip([*map(str, _SECONDS), "+Inf"], self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{labels},le="{edge}"}} {total}')
        return [*lines, f"{name}_count{{{labels}}} {total}", f"{name}_sum{{{labels}}} {self._sum!r}"]


class Page:
    """Counts the workload's tokens and requests and serves them; ``url`` is where."""

    def __init__(self) -> None:
        self.prompt_tokens = self.output_tokens = self.requests = self.running = 0
        self._started = time.time()
        self._latencies = {name: Histogram() for name in ("first", "each", "whole")}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"page": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def __enter__(self) -> Self:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()

    def begin(self, batch: int) -> None:
        """So many requests begin."""
        with self._lock:
            self.running = batch

    def prefilled(self, batch: int, prompt: int, seconds: float) -> None:
        """Their prompts are computed, and with them the first token of each answer."""
        with self._lock:
            self.prompt_tokens += batch * prompt
            self.output_tokens += batch
            self._latencies["first"].observe(seconds, batch)

    def decoded(self, batch: int) -> None:
        """Another token of each."""
        with self._lock:
            self.output_tokens += batch

    def end(self, batch: int, output: int, first: float, whole: float) -> None:
        """They are answered."""
        with self._lock:
            self.running = 0
            self.requests += batch
            self._latencies["whole"].observe(whole, batch)
            if output > 1:
                self._latencies["each"].observe((whole - first) / (output - 1), batch)

    def text(self) -> str:
        """The page."""
        labels = f'engine="0",model_name="{MODEL}"'
        with self._lock:
            lines = [
                "# TYPE process_start_time_seconds gauge",
                f"process_start_time_seconds {self._started!r}",
                "# TYPE vllm:num_requests_running gauge",
                f"vllm:num_requests_running{{{labels}}} {self.running}",
                "# TYPE vllm:num_requests_waiting gauge",
                f"vllm:num_requests_waiting{{{labels}}} 0",
                "# TYPE vllm:prompt_tokens_total counter",
                f"vllm:prompt_tokens_total{{{labels}}} {self.prompt_tokens}",
                "# TYPE vllm:generation_tokens_total counter",
                f"vllm:generation_tokens_total{{{labels}}} {self.output_tokens}",
                "# TYPE vllm:request_success_total counter",
                f'vllm:request_success_total{{{labels},finished_reason="length"}} {self.requests}',
                *self._latencies["first"].lines("vllm:time_to_first_token_seconds", labels),
                *self._latencies["each"].lines("vllm:request_time_per_output_token_seconds", labels),
                *self._latencies["whole"].lines("vllm:e2e_request_latency_seconds", labels),
            ]
        return "\n".join(lines) + "\n"


class _Handler(BaseHTTPRequestHandler):
    page: Page
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.page.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the report."""
