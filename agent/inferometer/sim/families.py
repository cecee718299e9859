"""The families of a vLLM 0.32 metrics page, in page order, as a real server prints them."""

from __future__ import annotations

from typing import NamedTuple


class Family(NamedTuple):
    """One family: its kind, its own label with all its values, and a histogram's bucket edges.

    ``owner``: which labels say whose it is; "engine" (engine and model), "model" or "" (the process).
    """

    name: str
    kind: str
    text: str
    owner: str = "engine"
    label: str = ""
    values: tuple[str, ...] = ("",)
    edges: tuple[float, ...] = ()


LONG = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
TTFT = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
TPOT = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80),
)
STEP_TOKENS = (1, *(2**n for n in range(3, 15)))
HTTP = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5),
    *(3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60),
)
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
TIERS = ("device", "host", "p2p", "disk", "external_unspecified")
REASONS = ("stop", "length", "abort", "error", "repetition")
QUEUE_LIMITS = ("max_num_queued_reqs", "max_num_queued_tokens")
SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")

_FLOPS = "(for Model Flops Utilization calculations)."
_CACHED_BY_SOURCE = (
    "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), disk, "
    "p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
    "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits."
)
_WAITING_BY_REASON = (
    "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred' = "
    "deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals "
    "vllm:num_requests_waiting."
)
_SLEEP_STATE = (
    "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = 1 "
    "means sleep level 1; discard_all = 1 means sleep level 2."
)
_EXTERNAL = "from KV connector cross-instance cache sharing, in terms of number of"
_HIGHR = (
    "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. "  # ends so
)

PROCESS = (
    Family("python_info", "gauge", "Python platform information", ""),
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", ""),
    Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", ""),
    Family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", ""),
    Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", ""),
    Family("process_open_fds", "gauge", "Number of open file descriptors.", ""),
    Family("process_max_fds", "gauge", "Maximum number of open file descriptors.", ""),
)

SCALARS = (
    Family("estimated_flops_per_gpu", "counter", f"Estimated number of floating point operations per GPU {_FLOPS}"),
    Family("estimated_read_bytes_per_gpu", "counter", f"Estimated number of bytes read from memory per GPU {_FLOPS}"),
    Family("estimated_write_bytes_per_gpu", "counter", f"Estimated number of bytes written to memory per GPU {_FLOPS}"),
    Family("num_requests_running", "gauge", "Number of requests in model execution batches."),
    Family("num_requests_waiting", "gauge", "Number of requests waiting to be processed."),
    Family(
        *("num_requests_waiting_by_reason", "gauge", _WAITING_BY_REASON),
        label="reason",
        values=("capacity", "deferred"),
    ),
    Family("engine_sleep_state", "gauge", _SLEEP_STATE, label="sleep_state", values=SLEEP_STATES),
    Family("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage."),
    Family("prefix_cache_queries", "counter", "Prefix cache queries, in terms of number of queried tokens."),
    Family("prefix_cache_hits", "counter", "Prefix cache hits, in terms of number of cached tokens."),
    Family("external_prefix_cache_queries", "counter", f"External prefix cache queries {_EXTERNAL} queried tokens."),
    Family("external_prefix_cache_hits", "counter", f"External prefix cache hits {_EXTERNAL} cached tokens."),
    Family("mm_cache_queries", "counter", "Multi-modal cache queries, in terms of number of queried items."),
    Family("mm_cache_hits", "counter", "Multi-modal cache hits, in terms of number of cached items."),
    Family("num_preemptions", "counter", "Cumulative number of preemption from the engine."),
    Family("prompt_tokens", "counter", "Number of prefill tokens processed."),
    Family(
        *("prompt_tokens_by_source", "counter", "Number of prompt tokens by source."), label="source", values=SOURCES
    ),
    Family("prompt_tokens_cached", "counter", "Number of cached prompt tokens (local + external)."),
    Family("prompt_tokens_cached_by_source", "counter", _CACHED_BY_SOURCE, label="source", values=TIERS),
    Family("generation_tokens", "counter", "Number of generation tokens processed."),
    Family(
        *("request_success", "counter", "Count of successfully processed requests."),
        label="finished_reason",
        values=REASONS,
    ),
    Family(
        *("admission_rejections", "counter", "Number of admission attempts rejected by a queue limit, by reason."),
        owner="model",
        label="reason",
        values=QUEUE_LIMITS,
    ),
)

HTTP_REQUESTS = Family(
    *("http_requests", "counter", "Total number of requests by method, status and handler.", "", "", ())
)
HTTP_DURATION = Family("http_request_duration_highr_seconds", "histogram", _HIGHR, "", edges=HTTP)


def token_edges(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, ... up to the longest sequence that the model takes."""
    return tuple(m * 10**e for e in range(10) for m in (1, 2, 5) if m * 10**e <= max_model_len)


def histograms(max_model_len: int) -> tuple[Family, ...]:
    """The histograms; those that count tokens of a request end at the longest sequence."""
    tokens = token_edges(max_model_len)
    computed = "Histogram of new KV tokens computed during prefill (excluding cached tokens)."
    rows = (
        ("request_prompt_tokens", "Number of prefill tokens processed.", tokens),
        ("request_generation_tokens", "Number of generation tokens processed.", tokens),
        ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", STEP_TOKENS),
        (
            *("request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens."),
            tokens,
        ),
        ("request_params_n", "Histogram of the n request parameter.", (1, 2, 5, 10, 20)),
        ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens),
        ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", TTFT),
        ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", TPOT),
        (
            *("request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request."),
            TPOT,
        ),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", LONG),
        ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", LONG),
        ("request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", LONG),
        ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", LONG),
        ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", LONG),
        (
            *("request_num_preemptions", "Histogram of the number of times a request was preempted."),
            (1, 2, 3, 4, 5, 10, 20),
        ),
        ("request_prefill_kv_computed_tokens", computed, tokens),
    )
    return tuple(Family(name, "histogram", text, edges=edges) for name, text, edges in rows)
