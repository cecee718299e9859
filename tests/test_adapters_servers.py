"""SGLang, TGI, TensorRT-LLM, LMDeploy and old vLLM: the ways in which each one's page misleads."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import Translator
from inferometer.model import EngineSignal, Page
from inferometer.sources.page import PageParser

HERE = Path(__file__).parent
KNOWN = adapters.builtin()
OF_PROCESSES = (
    "process_start_time_seconds 1.7e9\n"
    "process_open_fds 12\n"
    'python_gc_collections_total{generation="0"} 3\n'
    "go_goroutines 8\n"
    'http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 5\n'
    'http_request_duration_seconds_count{handler="/v1/completions"} 5\n'
)


def page(text: str | bytes) -> Page:
    body = text if isinstance(text, bytes) else text.encode()
    parsed = PageParser(adapters.wanted(KNOWN.values())).parse(body)
    return Page("e", 7.0, layout=parsed.layout, values=parsed.values)


def signal(*lines: str) -> EngineSignal:
    return Translator("e", tuple(KNOWN.values()))(page("\n".join(lines) + "\n"))


def counters(found: EngineSignal) -> dict[str, float]:
    """Each signal summed over its series."""
    sums: dict[str, float] = {}
    for key, value in found.counters.items():
        sums[key.signal] = sums.get(key.signal, 0.0) + value
    return sums


def gauges(found: EngineSignal) -> dict[str, float]:
    return {name: value for (name, _), value in found.gauges.items()}


def histograms(found: EngineSignal) -> dict[str, float]:
    """The observations in each latency, over its series."""
    sums: dict[str, float] = {}
    for key, value in found.histograms.items():
        sums[key.signal] = sums.get(key.signal, 0.0) + value.total
    return sums


def sglang(name: str, value: float, **labels: str) -> str:
    return f"sglang:{name}{{{_labels(model_name='m', engine_type='unified', **labels)}}} {value}"


def trtllm(name: str, value: float, **labels: str) -> str:
    return f"{name}{{{_labels(model_name='m', engine_type='trtllm', **labels)}}} {value}"


def lmdeploy(name: str, value: float, **labels: str) -> str:
    return f"lmdeploy:{name}{{{_labels(model_name='m', **({'engine': '0'} | labels))}}} {value}"


def _labels(**labels: str) -> str:
    return ",".join(f'{label}="{value}"' for label, value in labels.items())


RANKS = [{"tp_rank": tp, "pp_rank": pp, "moe_ep_rank": tp} for tp in "01" for pp in "01"]


@pytest.mark.parametrize(
    ("file", "engine"),
    [
        ("sglang", "sglang"),
        ("tgi", "tgi"),
        ("trtllm-serve", "trtllm"),
        ("lmdeploy", "lmdeploy"),
        ("vllm", "vllm"),
        ("vllm-dp2-multiproc", "vllm"),
    ],
)
def test_every_whole_page_is_of_one_engine(file: str, engine: str) -> None:
    """The untrimmed page of each engine is recognised as that engine, among all that are known."""
    body = gzip.decompress((HERE / "pages" / f"{file}.prom.gz").read_bytes())
    assert [adapter.engine for adapter in adapters.recognised(KNOWN.values(), page(body))] == [engine]


@pytest.mark.parametrize("engine", ["sglang", "tgi", "trtllm", "lmdeploy", "vllm"])
def test_no_engine_is_seen_in_what_every_process_shows(engine: str) -> None:
    """Families of processes, runtimes and web servers, and bare names without the engine's label, mark none."""
    bare = 'request_success_total{model_name="m"} 1\ne2e_request_latency_seconds_count 1\n'
    assert not adapters.matches(KNOWN[engine], page(OF_PROCESSES + bare))


@pytest.mark.parametrize(
    ("counted_as", "reads"),
    [
        ("prompt_tokens", 100),
        ("cached_tokens", 40),
        ("output_tokens", 700),
        ("finished_output_tokens", 650),
        ("finished", 9),
    ],
)
def test_sglang_live_counters_go_before_those_at_the_end(counted_as: str, reads: float) -> None:
    """Tokens move with the scheduler; what the front end adds when a request ends says how many were wasted."""
    found = signal(
        sglang("prompt_tokens_total", 130, is_streaming="true"),
        sglang("generation_tokens_total", 500, is_streaming="true"),
        sglang("generation_tokens_total", 150, is_streaming="false"),
        sglang("cached_tokens_total", 35, cache_source="device"),
        sglang("num_requests_total", 6, is_streaming="true"),
        sglang("num_requests_total", 3, is_streaming="false"),
        sglang("realtime_tokens_total", 100, mode="prefill_compute", tp_rank="0"),
        sglang("realtime_tokens_total", 40, mode="prefill_cache", tp_rank="0"),
        sglang("realtime_tokens_total", 700, mode="decode", tp_rank="0"),
    )
    assert counters(found)[counted_as] == reads
    assert not found.traits.cached_in_prompt


def test_sglang_without_live_counters() -> None:
    """An old page has only the counters of ended requests, whose prompts include the cached tokens."""
    found = signal(
        sglang("prompt_tokens_total", 130), sglang("generation_tokens_total", 500), sglang("cached_tokens_total", 30)
    )
    sums = counters(found)
    assert (sums["prompt_tokens"], sums["cached_tokens"], sums["output_tokens"]) == (130, 30, 500)
    assert found.traits.cached_in_prompt
    assert "tpot" in found.missing


@pytest.mark.parametrize(
    ("sources", "cached"),
    [
        ({"total": 90}, 90),
        ({"device": 50, "host": 30, "storage": 10}, 90),
        ({"total": 90, "device": 50, "host": 30, "storage_file": 10}, 90),
    ],
)
def test_sglang_cached_total_is_not_added_to_its_parts(sources: dict[str, float], cached: float) -> None:
    """cache_source="total" is the sum of the other sources: one or the other is read."""
    lines = [sglang("cached_tokens_total", value, cache_source=source) for source, value in sources.items()]
    assert counters(signal(sglang("token_usage", 0), *lines))["cached_tokens"] == cached


def test_sglang_ranks_are_copies_and_data_parallel_groups_are_not() -> None:
    """With metrics of all schedulers every tensor and pipeline rank repeats the numbers of its group."""
    names = {"num_running_reqs": 4, "num_queue_reqs": 2, "token_usage": 0.25}
    lines = [sglang(name, value, dp_rank=dp, **rank) for name, value in names.items() for dp in "01" for rank in RANKS]
    lines += [sglang("realtime_tokens_total", 50, mode="decode", dp_rank=dp, **rank) for dp in "01" for rank in RANKS]
    found = signal(*lines)
    assert counters(found)["output_tokens"] == 50 + 50
    assert gauges(found) == {"running": 4 + 4, "waiting": 2 + 2, "kv_cache": 0.25}


def test_sglang_priorities_are_parts_of_the_whole() -> None:
    """With priorities the series with an empty priority is the sum of the others, not one more."""
    lines = [
        sglang(name, value, priority=priority, tp_rank="0")
        for name in ("num_running_reqs", "num_queue_reqs")
        for priority, value in (("", 5), ("0", 3), ("7", 2))
    ]
    found = gauges(signal(sglang("token_usage", 0, priority="", tp_rank="0"), *lines))
    assert (found["running"], found["waiting"]) == (5, 5)


@pytest.mark.parametrize(
    ("family", "prefill", "decode", "idle"),
    [
        ("forward_execution_seconds_total", ("extend", "split_prefill"), ("decode", "target_verify"), "idle"),
        ("gpu_execution_seconds_total", ("forward_extend", "forward_prefill"), ("forward_decode",), "forward_idle"),
    ],
)
def test_sglang_gpu_seconds_by_phase(family: str, prefill: tuple[str, ...], decode: tuple[str, ...], idle: str) -> None:
    """Both generations of the GPU's busy time are split in two phases, and idle steps are in neither."""
    found = counters(
        signal(
            sglang("token_usage", 0),
            *(sglang(family, 10, category=name, tp_rank=tp) for name in prefill for tp in "01"),
            *(sglang(family, 100, category=name, tp_rank=tp) for name in decode for tp in "01"),
            sglang(family, 1000, category=idle, tp_rank="0"),
        )
    )
    assert (found["prefill_seconds"], found["decode_seconds"]) == (10 * len(prefill), 100 * len(decode))


def test_sglang_page_of_a_server_without_requests() -> None:
    """A fresh server is known before its first request, so that the first request counts."""
    found = signal(sglang("scheduler_idle_seconds_total", 0, tp_rank="0"), "sglang:routing_keys_active 0")
    assert (found.error, found.kind, dict(found.counters)) == ("", "sglang", {})


def test_sglang_gauges_that_look_like_histograms_and_odd_values() -> None:
    """Gauges with gt and le, -1 and NaN, gaps between tokens: none becomes a signal."""
    found = signal(
        sglang("token_usage", float("nan"), tp_rank="0"),
        sglang("utilization", -1, tp_rank="0"),
        sglang("routing_key_running_req_count", 3, gt="0", le="1", tp_rank="0"),
        sglang("inter_token_latency_seconds_count", 9),
        sglang("num_retracted_reqs", 4, pid="829", tp_rank="0"),
    )
    assert (found.kind, dict(found.counters), dict(found.histograms), dict(found.gauges)) == ("sglang", {}, {}, {})


def test_tgi_counts_chat_calls_twice_in_a_counter_that_is_not_read() -> None:
    """Requests are those that ended, each once, whatever tgi_request_count says."""
    found = counters(signal("tgi_request_count 760", "tgi_request_success 393", 'tgi_request_failure{err="dropped"} 5'))
    assert found == {"finished_ok": 393, "finished_aborted": 5}


def test_tgi_failures_by_reason() -> None:
    """A caller's mistake is no request, a full server rejects, a client that left aborts; all the rest is an error."""
    reasons = ("validation", "template", "overloaded", "dropped", "generation", "incomplete", "surprise")
    lines = [f'tgi_request_failure{{err="{reason}"}} {2**power}' for power, reason in enumerate(reasons)]
    found = counters(signal("tgi_request_success 0", *lines))
    assert found == {"finished_ok": 0, "rejected": 4, "finished_aborted": 8, "finished_error": 16 + 32 + 64}


def test_tgi_time_per_token_is_no_tpot() -> None:
    """Inference time with the prefill over all tokens would make long prompts look slow: it is left out."""
    found = signal(
        "tgi_queue_size 0",
        'tgi_request_mean_time_per_token_duration_bucket{le="+Inf"} 9',
        "tgi_request_mean_time_per_token_duration_sum 1",
        "tgi_request_mean_time_per_token_duration_count 9",
        'tgi_request_duration_bucket{le="+Inf"} 9',
        "tgi_request_duration_count 9",
    )
    assert histograms(found) == {"e2e": 9}
    assert {"ttft", "tpot", "cached_tokens", "kv_cache"} <= KNOWN["tgi"].notes.keys()


@pytest.mark.parametrize(
    ("prefix", "label"), [("trtllm_", "finished_reason"), ("", "finish_reason"), ("", "finished_reason")]
)
def test_trtllm_both_generations_of_names(prefix: str, label: str) -> None:
    """Bare names and names with trtllm_ mean the same; a reason that nobody knows yet is not proven good."""
    reasons = {"stop": 1, "length": 2, "cancelled": 4, "timeout": 8, "surprise": 16}
    lines = [trtllm(prefix + "request_success_total", n, **{label: reason}) for reason, n in reasons.items()]
    lines += [
        trtllm(f"{prefix}{name}_seconds_count", 31)
        for name in ("time_to_first_token", "time_per_output_token", "e2e_request_latency")
    ]
    found = signal(*lines)
    assert found.kind == "trtllm"
    assert counters(found) == {"finished_ok": 3, "finished_aborted": 4, "finished_error": 24}
    assert histograms(found) == {"ttft": 31, "tpot": 31, "e2e": 31}
    assert not found.traits.single_token_has_tpot


def test_trtllm_errors_of_callers_do_not_count() -> None:
    """A request that the server broke is an error, one that it could not read is none."""
    codes = {"400": 1, "422": 2, "500": 4, "503": 8}
    lines = [trtllm("trtllm_request_error_total", n, http_code=code) for code, n in codes.items()]
    assert counters(signal(trtllm("trtllm_num_requests_running", 0), *lines)) == {"finished_error": 12}


def test_trtllm_request_seconds_are_no_gpu_seconds() -> None:
    """Prefill and decode times of concurrent requests overlap: they must not split cost."""
    found = signal(
        trtllm("trtllm_num_requests_running", 0),
        trtllm("trtllm_request_prefill_time_seconds_sum", 20),
        trtllm("trtllm_request_decode_time_seconds_sum", 1800),
    )
    assert dict(found.counters) == {}


def test_trtllm_names_the_page_that_must_not_be_read() -> None:
    """Its other page loses what is read from it: people are told which one to give."""
    endpoint = KNOWN["trtllm"].endpoint
    assert endpoint.path == "/prometheus/metrics"
    assert "/metrics of the same port" in endpoint.warning


def test_lmdeploy_success_has_failures_in_it() -> None:
    """Only FINISH is good; CANCEL is a client that left; everything else is an error."""
    reasons = {"FINISH": 1, "CANCEL": 2, "INTERNAL_ENGINE_ERROR": 4, "OUT_OF_MEMORY": 8, "SURPRISE": 16}
    lines = [
        lmdeploy("request_success_total", n, finished_reason=f"ResponseType.{reason}") for reason, n in reasons.items()
    ]
    found = counters(signal(lmdeploy("num_requests_running", 0), *lines))
    assert found == {"finished_ok": 1, "finished_aborted": 2, "finished_error": 28}


def test_lmdeploy_gaps_between_outputs_are_no_tpot() -> None:
    """Neither of its two times between tokens is of a request, and iteration_tokens_total is a histogram."""
    found = signal(
        lmdeploy("num_requests_running", 0),
        lmdeploy("time_per_output_token_seconds_count", 9),
        lmdeploy("iter_token_latency_count", 9),
        lmdeploy("iteration_tokens_total_sum", 9),
        lmdeploy("iteration_tokens_total_count", 9),
    )
    assert (dict(found.counters), dict(found.histograms)) == ({}, {})
    assert "tpot" in KNOWN["lmdeploy"].notes


def test_lmdeploy_requests_wait_in_two_places() -> None:
    """Those in front of the engine wait too; the cache of two engines is as full as the fuller one."""
    lines = [
        lmdeploy(name, value, engine=engine)
        for engine in "01"
        for name, value in (
            ("num_requests_running", 3),
            ("num_requests_waiting", 2),
            ("num_api_requests_waiting", 1),
            ("gpu_cache_usage_perc", 0.4),
        )
    ]
    assert gauges(signal(*lines)) == {"running": 6, "waiting": 6, "kv_cache": 0.4}


def test_vllm_before_its_renames() -> None:
    """0.6: no cached tokens, no per-request TPOT, and a family of that sound which is something else."""
    labels = 'model_name="m"'
    found = signal(
        f"vllm:num_requests_running{{{labels}}} 3",
        f"vllm:num_requests_waiting{{{labels}}} 2",
        f"vllm:num_requests_swapped{{{labels}}} 1",
        f"vllm:gpu_cache_usage_perc{{{labels}}} 0.5",
        f"vllm:cpu_cache_usage_perc{{{labels}}} 0.9",
        f"vllm:gpu_prefix_cache_hit_rate{{{labels}}} -1",
        f"vllm:prompt_tokens_total{{{labels}}} 100",
        f"vllm:generation_tokens_total{{{labels}}} 200",
        f"vllm:time_per_output_token_seconds_count{{{labels}}} 199",
        f"vllm:time_to_first_token_seconds_count{{{labels}}} 4",
    )
    assert counters(found) == {"prompt_tokens": 100, "output_tokens": 200}
    assert gauges(found) == {"running": 3, "waiting": 3, "kv_cache": 0.5}
    assert histograms(found) == {"ttft": 4}
    assert {"tpot", "cached_tokens"} <= set(found.missing) & KNOWN["vllm"].notes.keys()


@pytest.mark.parametrize("engine", ["sglang", "tgi", "trtllm", "lmdeploy", "vllm"])
def test_what_an_engine_never_shows_is_explained(engine: str) -> None:
    """Each signal that people expect is either read or has a sentence that says what its lack costs."""
    adapter = KNOWN[engine]
    read = {*adapter.counters, *adapter.histograms, *adapter.gauges}
    expected = {"prompt_tokens", "cached_tokens", "output_tokens", "ttft", "tpot", "e2e", "running", "waiting"}
    assert expected | {"kv_cache"} <= read | adapter.notes.keys()
    assert read & {"finished", "finished_ok"}
