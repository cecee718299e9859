"""Gateways and frameworks around engines: Dynamo, Ray, LiteLLM, Envoy, OpenTelemetry, EPP, AIBrix, and their quirks."""

from __future__ import annotations

from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import Translator
from inferometer.interval.marks import Marks
from inferometer.model import EngineSignal, Histogram, Page
from inferometer.sources.page import PageParser
from signals import counters, histogram

HERE = Path(__file__).parent
ENGINES = ("dynamo_frontend", "dynamo_worker", "ray", "litellm", "envoy", "otel_genai", "epp", "aibrix")
GOLDEN = [path for engine in ENGINES for path in sorted((HERE / "engines").glob(f"{engine}-*/signals.json"))]
KNOWN = adapters.builtin()
WANTED = adapters.wanted(KNOWN.values())
INF = float("inf")
RAY = 'engine="0",model_name="m"'
PLAIN = """process_start_time_seconds 1.7e+09
process_open_fds 12
python_info{version="3.12.1"} 1
go_goroutines 9
http_requests_total{handler="/v1/completions",status="2xx",method="POST"} 3
http_request_duration_seconds_count{handler="/v1/completions",model="m"} 3
gateway_request_total{model="m"} 3
target_info{service_name="ai-gateway-extproc"} 1
ray_node_cpu_utilization{NodeAddress="10.0.0.1"} 3
dynamo_component_uptime_seconds 5
"""


def page(text: str | bytes) -> Page:
    parsed = PageParser(WANTED).parse(text.encode() if isinstance(text, str) else text)
    assert parsed.malformed == 0
    return Page("e", 7.0, layout=parsed.layout, values=parsed.values)


def signal(text: str | bytes) -> EngineSignal:
    return Translator("e", tuple(KNOWN.values()))(page(text))


def observed(name: str, labels: str, seconds: float, count: int) -> str:
    """A histogram of one bucket and of equal observations."""
    return (
        f'{name}_bucket{{{labels},le="{seconds}"}} {count}\n{name}_bucket{{{labels},le="+Inf"}} {count}\n'
        f"{name}_sum{{{labels}}} {seconds * count}\n{name}_count{{{labels}}} {count}\n"
    )


def times(found: EngineSignal, name: str) -> float | None:
    whole = histogram(found, name)
    return None if whole is None else whole.total


# -- Every page -----------------------------------------------------------------------------------


def test_each_has_a_page() -> None:
    """The table above is whole."""
    assert {path.parent.name.partition("-")[0] for path in GOLDEN} == set(ENGINES)


def test_a_plain_page_is_none_of_them() -> None:
    """What any process, host or mesh may show marks no gateway."""
    assert adapters.recognised(KNOWN.values(), page(PLAIN)) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_missing_has_a_reason(engine: str) -> None:
    """A signal that users would miss is on the page, or a note says why it is not."""
    adapter = KNOWN[engine]
    mapped = {*adapter.counters, *adapter.histograms, *adapter.gauges}
    named = {"prompt_tokens", "cached_tokens", "output_tokens", "ttft", "tpot", "e2e", "running", "waiting", "kv_cache"}
    assert named <= mapped | set(adapter.notes)
    assert {"finished", "finished_ok"} & mapped
    assert all(len(note) > 15 for note in adapter.notes.values())


# -- Dynamo ---------------------------------------------------------------------------------------

WORKER = """dynamo_component_requests_total{dynamo_component="backend",dynamo_endpoint="generate",model="m"} 9
dynamo_component_inflight_requests{dynamo_component="backend",dynamo_endpoint="generate",model="m"} 2
"""


@pytest.mark.parametrize(
    ("passed_through", "kind"),
    [
        ('vllm:num_requests_running{dynamo_component="backend",model="m",model_name="m"} 2\n', "vllm"),
        ('sglang:num_running_reqs{model="m",model_name="m"} 2\nsglang:num_queue_reqs{model_name="m"} 0\n', "sglang"),
        ('trtllm_num_requests_running{dynamo_component="backend",model_name="m",engine_type="trtllm"} 2\n', "trtllm"),
        ('dynamo_frontend_active_requests{model="m"} 2\n', "dynamo_frontend"),
        ("", "dynamo_worker"),
    ],
)
def test_a_worker_is_its_engine(passed_through: str, kind: str) -> None:
    """One set of tokens per page: the engine's families, passed through under more labels, win over Dynamo's."""
    found = signal(WORKER + passed_through)
    assert (found.kind, found.gauges["running", "m"]) == (kind, 2)


def test_a_worker_that_learns_late_what_runs_in_it() -> None:
    """The engine's families may come only when it is up: from then on the page is the engine's."""
    translate = Translator("e", tuple(KNOWN.values()))
    assert translate(page(WORKER)).kind == "dynamo_worker"
    assert translate(page(WORKER + 'vllm:generation_tokens_total{model_name="m"} 2\n')).kind == "vllm"


def test_a_workers_arrivals_are_no_ends() -> None:
    """requests_total counts arrivals: what ended is what has a duration, whatever its outcome."""
    ended = observed("dynamo_component_request_duration_seconds", 'dynamo_endpoint="generate",model="m"', 1.0, 7)
    ended += observed(
        "dynamo_component_request_duration_seconds", 'dynamo_endpoint="clear_kv_blocks",model="m"', 1.0, 3
    )
    assert counters(signal(WORKER + ended)) == {"finished": {"m": 7}}


def test_ranks_of_a_worker_share_no_cache() -> None:
    """The usage of several ranks is that of the fullest one, and a ratio although it is called percent."""
    lines = [
        f'dynamo_component_gpu_cache_usage_percent{{dp_rank="{r}",model="m"}} {v}\n' for r, v in ((0, 0.2), (1, 0.6))
    ]
    assert signal(WORKER + "".join(lines)).gauges["kv_cache", "m"] == 0.6


def test_dynamo_outcomes() -> None:
    """Overload is a rejection, a cancelled call is aborted, faulty input is nobody's work, the rest is an error."""
    types = {
        "cancelled": 1,
        "overload": 2,
        "validation": 4,
        "not_found": 8,
        "not_implemented": 16,
        "internal": 32,
        "unavailable": 64,
        "response_timeout": 128,
        "surprise": 256,
    }
    lines = [
        f'dynamo_frontend_requests_total{{error_type="{t}",model="m",status="error"}} {n}' for t, n in types.items()
    ]
    lines += ['dynamo_frontend_requests_total{error_type="",model="m",status="success",request_type="unary"} 512']
    assert counters(signal("\n".join(lines) + "\n")) == {
        "finished_ok": {"m": 512},
        "finished_error": {"m": 32 + 64 + 128 + 256},
        "finished_aborted": {"m": 1},
        "rejected": {"m": 2},
    }


def test_dynamo_before_it_was_renamed() -> None:
    """Under nv_llm_http_service_ a page has no error types and no live tokens; the rest is the same."""
    old = "nv_llm_http_service_"
    text = (
        f'{old}requests_total{{endpoint="completions",model="m",request_type="stream",status="success"}} 5\n'
        f'{old}requests_total{{endpoint="completions",model="m",request_type="stream",status="error"}} 1\n'
        f'{old}inflight_requests{{model="m"}} 2\n'
        + observed(f"{old}input_sequence_tokens", 'model="m"', 100, 5)
        + observed(f"{old}output_sequence_tokens", 'model="m"', 10, 5)
        + observed(f"{old}time_to_first_token_seconds", 'model="m"', 0.5, 5)
    )
    found = signal(text)
    assert (found.kind, times(found, "ttft"), dict(found.gauges)) == ("dynamo_frontend", 5, {("running", "m"): 2})
    assert counters(found) == {
        "prompt_tokens": {"m": 500},
        "output_tokens": {"m": 50},
        "finished_ok": {"m": 5},
        "finished_error": {"m": 1},
    }


def test_dynamo_renames_within_a_page() -> None:
    """The old and the new name of a gauge are one number, and the last request of a worker is none."""
    text = (
        'dynamo_frontend_active_requests{model="m"} 7\ndynamo_frontend_inflight_requests{model="m"} 6\n'
        'dynamo_frontend_output_tokens_total{model="m"} 90\n'
        'dynamo_frontend_worker_last_input_sequence_tokens{worker_id="gone"} 4096\n'
        + observed("dynamo_frontend_output_sequence_tokens", 'model="m"', 10, 5)
    )
    found = signal(text)
    assert found.gauges == {("running", "m"): 7}
    assert counters(found) == {"output_tokens": {"m": 90}}  # nor is a cancelled request's output finished


# -- Ray ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "tokens"),
    [
        ({"ray_vllm_generation_tokens": 10, "ray_vllm_generation_tokens_total": 11}, 11),
        ({"ray_vllm_generation_tokens_total": 11, "ray_vllm_generation_tokens": 10}, 11),
        ({"ray_vllm_generation_tokens": 10}, 10),
        ({"ray_vllm:generation_tokens_total": 10}, 10),
        ({"ray_vllm:generation_tokens": 10}, 10),
    ],
)
def test_ray_shows_a_counter_twice(shown: dict[str, int], tokens: int) -> None:
    """As X_total and as the deprecated gauge X: the total counts, either where it is alone, their sum never."""
    found = signal("".join(f"{name}{{{RAY}}} {value}\n" for name, value in shown.items()))
    assert (found.kind, counters(found)) == ("ray", {"output_tokens": {"m": tokens}})


def test_ray_replicas_of_a_node() -> None:
    """Replicas are summed, the cache is that of the fullest, and one that vanishes takes nothing else along."""

    def replica(name: str, tokens: int, usage: float) -> str:
        labels = f'{RAY},ReplicaId="{name}",WorkerId="w{name}"'
        return (
            f"ray_vllm_generation_tokens_total{{{labels}}} {tokens}\nray_vllm_num_requests_running{{{labels}}} 2\n"
            f"ray_vllm_kv_cache_usage_perc{{{labels}}} {usage}\n"
        )

    translate, marks = Translator("e", tuple(KNOWN.values())), Marks()
    both = translate(page(replica("a", 100, 0.2) + replica("b", 50, 0.7)))
    assert both.gauges == {("running", "m"): 4, ("kv_cache", "m"): 0.7}
    assert marks.change(both).counters == {("output_tokens", "m"): 150}
    follower = translate(page(replica("b", 60, 0.7) + replica("c", 5, 0.1)))
    assert not marks.restarted(follower)
    assert marks.change(follower).counters == {("output_tokens", "m"): 15}


def test_ray_leaves_zeros_out() -> None:
    """What never moved is not on the page: an idle replica is recognised by its gauges, and what it lacks is named."""
    found = signal(f"ray_vllm_num_requests_running{{{RAY}}} 0\n")
    assert (found.kind, found.error, dict(found.counters)) == ("ray", "", {})
    assert {"output_tokens", "finished_ok"} <= set(found.missing)


# -- LiteLLM --------------------------------------------------------------------------------------


def test_litellm_sums_whoever_asked() -> None:
    """A series per key, team, user and client is one series more of the same sum, however many there are."""
    rows = [
        f'litellm_output_tokens_metric_total{{end_user="u{n}",team="t{n % 7}",user_agent="a{n}",model="p/m",'
        f'requested_model="m"}} {n}\n'
        for n in range(500)
    ]
    found = signal("".join(rows))
    assert (found.kind, counters(found)) == ("litellm", {"output_tokens": {"m": sum(range(500))}})


def test_a_new_user_is_no_restart() -> None:
    """LiteLLM writes a creation time per label set: one that is new says nothing about the process."""

    def user(name: str, tokens: int, created: float) -> str:
        labels = f'requested_model="m",user="{name}"'
        return (
            f"litellm_output_tokens_metric_total{{{labels}}} {tokens}\n"
            f"litellm_output_tokens_metric_created{{{labels}}} {created}\n"
        )

    translate, marks = Translator("e", tuple(KNOWN.values())), Marks()
    marks.baseline(translate(page(user("a", 100, 1000.0))))
    second = translate(page(user("a", 110, 1000.0) + user("b", 5, 2000.0)))
    assert not marks.restarted(second)
    assert not marks.switched(second)
    assert marks.change(second).counters == {("output_tokens", "m"): 15}


def test_litellm_outcomes() -> None:
    """Only calls that name a model count; limits reject, faulty input is nobody's work, unknown statuses are errors."""
    statuses = {"200": 1, "400": 2, "401": 4, "408": 8, "429": 16, "499": 32, "500": 64, "599": 128}
    name = "litellm_proxy_total_requests_metric_total"
    rows = [f'{name}{{requested_model="m",status_code="{s}"}} {n}\n' for s, n in statuses.items()]
    rows += [f'{name}{{requested_model="{m}",route="/key/generate",status_code="{s}"}} 999\n' for m in ("None", "")
             for s in ("200", "500")]  # fmt: skip
    failed = 'litellm_proxy_failed_requests_metric_total{requested_model="m",exception_status="500"} 64\n'
    assert counters(signal("".join(rows) + failed)) == {
        "finished_ok": {"m": 1},
        "finished_error": {"m": 8 + 64 + 128},
        "finished_aborted": {"m": 32},
        "rejected": {"m": 16},
    }


def test_litellm_has_no_tpot() -> None:
    """Its latency per output token is a time to first token over all tokens, or a whole time: neither is read."""
    labels = 'requested_model="m"'
    text = f"litellm_output_tokens_metric_total{{{labels}}} 3\n"
    found = signal(text + observed("litellm_deployment_latency_per_output_token", labels, 0.01, 5))
    assert dict(found.histograms) == {}
    assert "tpot" in KNOWN["litellm"].notes


def test_a_fresh_litellm_is_recognised() -> None:
    """Before its first call a proxy shows little, but is no unknown engine."""
    assert signal("litellm_in_flight_requests 1.0\n").kind == "litellm"


# -- OpenTelemetry's names -------------------------------------------------------------------------


def usage(labels: str, name: str = "gen_ai_client_token_usage", **tokens: float) -> str:
    rows = [f'{name}_sum{{{labels},gen_ai_token_type="{kind}"}} {value}\n' for kind, value in tokens.items()]
    rows += [f'{name}_count{{{labels},gen_ai_token_type="{kind}"}} 9\n' for kind in tokens]
    return "".join(rows)


ENVOY = 'gen_ai_original_model="alias",gen_ai_request_model="m"'
OTEL = 'gen_ai_request_model="m"'


def test_kinds_of_tokens_are_parts() -> None:
    """Cached input is a part of input and reasoning one of output: nothing is added to either."""
    found = signal(usage(ENVOY, input=100, cached_input=40, cache_creation_input=20, output=30, reasoning=10))
    assert (found.kind, found.traits.cached_in_prompt) == ("envoy", True)
    assert counters(found) == {
        "prompt_tokens": {"m": 100},
        "cached_tokens": {"m": 40},
        "output_tokens": {"m": 30},
        "reasoning_tokens": {"m": 10},
    }


@pytest.mark.parametrize(("labels", "kind"), [(ENVOY, "envoy"), (OTEL, "otel_genai")])
def test_the_unit_was_once_in_the_name(labels: str, kind: str) -> None:
    """token_usage_token is token_usage; a page with both has the tokens once."""
    old = usage(labels, "gen_ai_client_token_usage_token", input=7, output=5)
    for text in (old, old + usage(labels, input=7, output=5)):
        found = signal(text)
        assert (found.kind, counters(found)) == (kind, {"prompt_tokens": {"m": 7}, "output_tokens": {"m": 5}})


def test_failed_requests_have_an_error_type() -> None:
    """They are finished and failed, and their short durations are nobody's latency."""
    name = "gen_ai_server_request_duration_seconds"
    found = signal(observed(name, ENVOY, 2.0, 20) + observed(name, ENVOY + ',error_type="_OTHER"', 0.01, 3))
    assert counters(found) == {"finished": {"m": 23}, "finished_error": {"m": 3}}
    assert times(found, "e2e") == 20


def test_a_call_from_both_ends_is_one_call() -> None:
    """Where a page has the client's and the server's view, the server's counts."""
    server = observed("gen_ai_server_request_duration_seconds", OTEL, 2.0, 20)
    client = observed("gen_ai_client_operation_duration_seconds", OTEL, 2.5, 21)
    assert counters(signal(server + client)) == {"finished": {"m": 20}}
    found = signal(client + usage(OTEL, input=4, completion=2))
    assert counters(found) == {"finished": {"m": 21}, "prompt_tokens": {"m": 4}, "output_tokens": {"m": 2}}
    assert times(found, "e2e") == 21


# -- EPP ------------------------------------------------------------------------------------------

ASKED = 'model_name="m",target_model_name="m-1"'


@pytest.mark.parametrize("prefix", ["inference_objective", "inference_model"])
def test_epp_before_and_after_its_renaming(prefix: str) -> None:
    """inference_model_ became inference_objective_; arrivals are no ends."""
    text = f'{prefix}_request_total{{{ASKED}}} 30\n{prefix}_running_requests{{model_name="m"}} 4\n'
    text += observed(f"{prefix}_input_tokens", ASKED, 100, 20) + observed(f"{prefix}_output_tokens", ASKED, 10, 20)
    text += observed(f"{prefix}_request_duration_seconds", ASKED, 2.0, 20)
    text += observed(f"{prefix}_normalized_time_per_output_token_seconds", ASKED, 0.2, 20)
    found = signal(text)
    assert (found.kind, dict(found.gauges)) == ("epp", {("running", "m"): 4})
    assert counters(found) == {"prompt_tokens": {"m": 2000}, "output_tokens": {"m": 200}, "finished": {"m": 20}}
    assert {key.signal for key in found.histograms} == {"e2e"}  # normalized time per token is no TPOT


def test_llm_d_shows_everything_under_two_names() -> None:
    """Its own names and the extension's are the same requests; its own, of several tenants, are summed."""
    own = "".join(
        observed(f"llm_d_epp_{name}", f'{ASKED},fairness_id="{tenant}",priority="0"', value, 10)
        for tenant in ("a", "b")
        for name, value in (
            ("request_duration_seconds", 2.0),
            ("request_output_tokens", 10.0),
            ("request_streaming_tpot_seconds", 0.02),
            ("request_ntpot_seconds", 0.2),
            ("request_streaming_itl_seconds", 0.02),
        )
    )
    old = observed("inference_objective_request_duration_seconds", ASKED, 2.0, 20)
    old += observed("inference_objective_output_tokens", ASKED, 10, 20)
    found = signal(own + old + "llm_d_epp_info 1\n")
    assert counters(found) == {"finished": {"m": 20}, "output_tokens": {"m": 200}}
    assert (times(found, "e2e"), times(found, "tpot")) == (20, 20)


def test_epp_outcomes() -> None:
    """An engine's refusal has a duration, other failures have none, shed requests are rejected: each counts once."""
    codes = {"ModelServerError": 2, "Internal": 4, "InferencePoolResourceExhausted": 8, "BadRequest": 16}
    text = observed("inference_objective_request_duration_seconds", ASKED, 2.0, 100)
    text += f"inference_objective_request_total{{{ASKED}}} 130\n"
    for code, count in codes.items():
        text += f'inference_objective_request_error_total{{{ASKED},error_code="{code}"}} {count}\n'
    assert counters(signal(text)) == {"finished": {"m": 104}, "finished_error": {"m": 6}, "rejected": {"m": 8}}


def test_an_idle_picker_is_recognised() -> None:
    """Before the first request a picker shows only what it is."""
    assert signal('inference_extension_info{build_ref="main",commit="520af478"} 1\n').kind == "epp"


# -- AIBrix ---------------------------------------------------------------------------------------


def ranges(name: str, pod: str = "p", **counts: int) -> str:
    return "".join(
        f'gateway_{name}_bucket_total{{bucket="{r}",model="m",pod="{pod}"}} {n}\n' for r, n in counts.items()
    )


def test_ranges_are_a_histogram() -> None:
    """Counters per range of milliseconds, in any order and not cumulative, are counts up to an edge in seconds."""
    found = signal(ranges("ttft", **{"5000ms+": 1, "200-500ms": 3, "0-1ms": 2}) + ranges("ttft", "q", **{"1-2ms": 5}))
    edges = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, INF)
    assert histogram(found, "ttft") == Histogram(edges, (2, 7, 7, 7, 7, 7, 7, 7, 10, 10, 10, 10, 11), 0.0)


def test_a_range_that_fills_for_the_first_time() -> None:
    """It was not on the last page: what was there before is not counted again."""
    translate, marks = Translator("e", tuple(KNOWN.values())), Marks()
    marks.baseline(translate(page(ranges("ttft", **{"20-50ms": 90}))))
    change = marks.change(translate(page(ranges("ttft", **{"20-50ms": 91, "500-1000ms": 1, "5000ms+": 1}))))
    assert change.histograms["ttft", "m"].total == 3


def test_ids_of_requests_do_not_matter() -> None:
    """AIBrix writes a series per slow request: none of them is even kept."""
    slow = "".join(f'gateway_first_token_delay_over_1s_total{{request_id="r{n}"}} 1\n' for n in range(300))
    text = 'gateway_output_tokens_total{model="m",pod="p"} 5\n' + ranges("total_time", **{"60000ms+": 1})
    assert len(page(text + slow).series) == 2
    assert signal(text + slow).counters == signal(text).counters


def test_aibrix_outcomes() -> None:
    """A client that left is aborted, a limit rejects, faulty input is nobody's work, any other failure is an error."""
    codes = {"400": 1, "429": 2, "499": 4, "503": 8, "504": 16}
    text = 'gateway_request_model_success_total{model="m",status_code="200"} 32\n'
    text += "".join(f'gateway_request_model_fail_total{{model="m",status_code="{c}"}} {n}\n' for c, n in codes.items())
    assert counters(signal(text)) == {
        "finished_ok": {"m": 32},
        "finished_error": {"m": 24},
        "finished_aborted": {"m": 4},
        "rejected": {"m": 2},
    }
