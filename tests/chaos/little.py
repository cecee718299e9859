"""An engine that costs next to nothing to simulate: its counts grow as they are told to."""

from __future__ import annotations

_EDGES = ("0.25", "1.0", "+Inf")
_HISTOGRAMS = ("time_to_first_token_seconds", "e2e_request_latency_seconds")


class Little:
    """A vLLM page of ``models`` by name and how many requests each has ended; ``born``: unix time."""

    def __init__(self, born: float) -> None:
        self.born = born
        self.requests: dict[str, int] = {"small": 0}

    def serve(self, model: str, requests: int) -> None:
        """So many requests are served."""
        self.requests[model] = self.requests.get(model, 0) + requests

    @property
    def output_tokens(self) -> int:
        """Of all models."""
        return 120 * sum(self.requests.values())

    def page(self) -> bytes:
        """Its page now."""
        lines = [f"process_start_time_seconds {self.born}", "process_open_fds 34.0"]
        for model, requests in self.requests.items():
            owner = f'engine="0",model_name="{model}"'
            lines += [
                f"vllm:prompt_tokens_total{{{owner}}} {400.0 * requests}",
                f"vllm:prompt_tokens_cached_total{{{owner}}} {128.0 * requests}",
                f"vllm:generation_tokens_total{{{owner}}} {120.0 * requests}",
                f"vllm:generation_tokens_created{{{owner}}} {self.born}",
                f'vllm:request_success_total{{{owner},finished_reason="stop"}} {float(requests)}',
                f"vllm:request_generation_tokens_sum{{{owner}}} {120.0 * requests}",
                f"vllm:num_requests_running{{{owner}}} {float(requests % 3)}",
                f"vllm:num_requests_waiting{{{owner}}} 0.0",
                f"vllm:kv_cache_usage_perc{{{owner}}} 0.25",
            ]
            for name in _HISTOGRAMS:
                lines += [f'vllm:{name}_bucket{{{owner},le="{edge}"}} {float(requests)}' for edge in _EDGES]
                lines += [f"vllm:{name}_sum{{{owner}}} {0.2 * requests}", f"vllm:{name}_count{{{owner}}} {requests}"]
        return ("\n".join(lines) + "\n").encode()
