"""Engines that people run themselves: Triton and its backends, NIM, llama.cpp, MLC-LLM, KServe, and their quirks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import Translator
from inferometer.sources.page import PageParser
from readings import scraped

HERE = Path(__file__).parent
ENGINES = ("triton", "triton_vllm", "nim", "llamacpp", "mlc", "kserve")
GOLDEN = [path for engine in ENGINES for path in sorted((HERE / "engines").glob(f"{engine}-*/signals.json"))]
KNOWN = adapters.builtin()
MINIMAL = {
    "triton": 'nv_inference_request_success{model="tensorrt_llm",version="1"} 0\n',
    "triton_vllm": 'vllm:generation_tokens_total{model="m",version="1"} 0\n',
    "nim": 'num_request_max{model_name="m"} 64.0\n',
    "llamacpp": "llamacpp:tokens_predicted_total 0\n",
    "mlc": "engine_prefill_time_sum\t0\n",
    "kserve": 'request_predict_seconds_count{model_name="m"} 1.0\n',
}
VLLM_PAGE = 'vllm:num_requests_running{model_name="m"} 2.0\nvllm:generation_tokens_total{model_name="m"} 7.0\n'
PLAIN_PAGE = """process_start_time_seconds 1.7e+09
process_open_fds 12
python_info{version="3.12.1"} 1
go_goroutines 9
http_requests_total{handler="/v1/completions",status="2xx",method="POST"} 3
http_request_duration_seconds_count{handler="/v1/completions",model_name="m"} 3
prompt_tokens_total{model_name="m"} 3
vllm:iteration_tokens_total_count{model="m",version="1"} 3
"""


def parse(text):
    """A page's wanted series, as the agent keeps them when it does not know the engine yet."""
    return PageParser(adapters.wanted(KNOWN.values())).parse(text.encode() if isinstance(text, str) else text)


def page(text):
    return scraped("e", 7.0, parse(text).series)


def fitting(text):
    """The engines, of all that there are, which the page may be of."""
    return [adapter.engine for adapter in adapters.recognised(KNOWN.values(), page(text))]


def read(text):
    """What a page says when nobody told which engine it is."""
    return Translator("e", tuple(KNOWN.values()))(page(text))


def counters(found):
    """By signal and model, the series added up as the meter does."""
    sums = {}
    for key, value in found.counters.items():
        models = sums.setdefault(key.signal, {})
        models[key.model] = models.get(key.model, 0.0) + value
    return sums


def histograms(found):
    return {key.signal: histogram for key, histogram in found.histograms.items()}


def gauges(found):
    return {name: value for (name, _), value in found.gauges.items()}


# -- captured pages: test_adapters.py says what is on each ----------------------------------------


def test_every_engine_here_has_a_captured_page():
    """The table above is not empty; llama.cpp has one page of before and one of after its cached tokens."""
    folders = [path.parent.name.partition("-")[0] for path in GOLDEN]
    assert set(folders) == set(ENGINES)
    assert folders.count("llamacpp") == 2


# -- which engine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_young_page_is_enough(engine):
    """An engine that has done nothing yet is recognised by a name that is its own."""
    assert fitting(MINIMAL[engine]) == [engine]
    assert fitting(PLAIN_PAGE + MINIMAL[engine]) == [engine]


def test_names_that_everybody_has_are_no_engine():
    """The families of a Python or Go process, of a web framework or of several engines at once show none of these."""
    old_trtllm = 'request_success_total{model_name="m",engine_type="trt"} 3\n'
    assert not set(fitting(PLAIN_PAGE + old_trtllm)) & set(ENGINES)


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        (MINIMAL["triton"], "triton"),  # the backend without REPORT_CUSTOM_METRICS
        (MINIMAL["triton"] + MINIMAL["triton_vllm"], "triton_vllm"),
        (MINIMAL["triton_vllm"].replace("model=", "model_name="), "vllm"),
        (MINIMAL["kserve"] + VLLM_PAGE, "vllm"),
        (VLLM_PAGE, "vllm"),  # as NIM 2 hands it through
    ],
)
def test_an_engine_inside_another_server(text, engine):
    """The page is read by the families that say most: vLLM's before KServe's, the backend's before Triton's."""
    assert fitting(text) == [engine]


def test_a_backend_may_join_later():
    """Once vLLM's families are on a page that was KServe's or Triton's so far, they are what is read."""
    translate = Translator("e", tuple(KNOWN.values()))
    kinds = [translate(page(text)).kind for text in (MINIMAL["kserve"], MINIMAL["kserve"] + VLLM_PAGE)]
    assert kinds == ["kserve", "vllm"]
    translate = Translator("e", tuple(KNOWN.values()))
    kinds = [translate(page(text)).kind for text in (MINIMAL["triton"], MINIMAL["triton"] + MINIMAL["triton_vllm"])]
    assert kinds == ["triton", "triton_vllm"]


def test_nim_says_what_it_hands_through():
    """Whoever looks for NIM 2 is told that its page is its engine's."""
    assert "NIM >= 2" in KNOWN["nim"].endpoint.warning
    assert KNOWN["nim"].endpoint.path == "/v1/metrics"


# -- what is no such signal -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_no_mean_per_request_no_tpot(engine):
    """These pages have gaps between steps, or means of everything: nothing is called TPOT, and a note says so."""
    assert "tpot" not in KNOWN[engine].histograms
    assert KNOWN[engine].notes["tpot"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_users_miss_is_explained(engine):
    """Each of the signals that people look for is either read or has a sentence that says why it is not."""
    adapter = KNOWN[engine]
    there = {*adapter.counters, *adapter.histograms, *adapter.gauges, *adapter.notes}
    there |= {"finished_ok"} if "finished" in there else set()
    wanted = "prompt_tokens cached_tokens output_tokens finished_ok ttft tpot e2e running waiting kv_cache"
    assert set(wanted.split()) - there == set()


@pytest.mark.parametrize(
    ("alive", "gap"),
    [
        (MINIMAL["nim"], "time_per_output_token_seconds"),
        (MINIMAL["triton_vllm"], "vllm:time_per_output_token_seconds"),
    ],
)
def test_the_gap_between_steps_is_not_read(alive, gap):
    """time_per_output_token on these pages is per step: a page full of it has no latency that can be judged."""
    labels = 'model_name="m"' if gap.startswith("time") else 'model="m",version="1"'
    text = f'{alive}{gap}_count{{{labels}}} 9\n{gap}_sum{{{labels}}} 1\n{gap}_bucket{{{labels},le="+Inf"}} 9\n'
    assert histograms(read(text)) == {}


# -- Triton ---------------------------------------------------------------------------------------


def triton(name, value, model="tensorrt_llm", **labels):
    more = "".join(f',{key}="{text}"' for key, text in labels.items())
    return f'{name}{{model="{model}",version="1"{more}}} {value}\n'


def test_an_ensemble_and_its_members_are_one_request():
    """Each wrapper counts the call again, the decoupled postprocessing every token; a model of one's own counts."""
    calls = {"ensemble": 5, "preprocessing": 6, "postprocessing": 900, "tensorrt_llm_bls": 5, "tensorrt_llm": 5, "x": 3}
    text = "".join(
        triton("nv_inference_request_success", n, model)
        + triton("nv_inference_request_failure", n, model, reason="BACKEND")
        + triton("nv_inference_request_failure", n, model, reason="CANCELED")
        + triton("nv_inference_request_failure", n, model, reason="REJECTED")
        for model, n in calls.items()
    )
    found = counters(read(text))
    assert found.keys() == {"finished_ok", "finished_error", "finished_aborted", "rejected"}
    assert all(models == {"tensorrt_llm": 5, "x": 3} for models in found.values())


def test_reasons_of_failures():
    """Cancelled is aborted, rejected never began, the rest is an error, also where an old page gives no reason."""
    alive = MINIMAL["triton"]
    reasons = {"OTHER": 1, "BACKEND": 2, "CANCELED": 4, "REJECTED": 8, "NEW": 16}
    lines = [triton("nv_inference_request_failure", n, reason=reason) for reason, n in reasons.items()]
    found = {name: models["tensorrt_llm"] for name, models in counters(read(alive + "".join(lines))).items()}
    assert found == {"finished_ok": 0, "finished_error": 19, "finished_aborted": 4, "rejected": 8}
    old = counters(read(alive + triton("nv_inference_request_failure", 3)))
    assert old["finished_error"] == {"tensorrt_llm": 3}
    assert not old.keys() & {"finished_aborted", "rejected"}


def test_milliseconds_become_seconds():
    """Edges and sum are scaled, counts are not."""
    name = "nv_inference_first_response_histogram_ms"
    edges = {"100": 1, "500": 2, "2000": 3, "5000": 4, "+Inf": 5}
    text = MINIMAL["triton"] + triton(f"{name}_count", 5) + triton(f"{name}_sum", 8123)
    text += "".join(triton(f"{name}_bucket", n, le=le) for le, n in edges.items())
    ttft = histograms(read(text))["ttft"]
    assert ttft.edges == pytest.approx((0.1, 0.5, 2.0, 5.0, float("inf")))
    assert (ttft.counts, ttft.sum) == ((1, 2, 3, 4, 5), pytest.approx(8.123))


def test_who_waits_and_who_runs():
    """With the TensorRT-LLM backend its own queue counts, without it Triton's; running is not context plus active."""
    kinds = {"waiting": 3, "context": 1, "scheduled": 6, "max": 512, "active": 7}
    queue = triton("nv_inference_pending_request_count", 2)
    backend = "".join(triton("nv_trt_llm_request_metrics", n, request_type=kind) for kind, n in kinds.items())
    assert gauges(read(MINIMAL["triton"] + queue + backend)) == {"running": 6, "waiting": 3}
    assert gauges(read(MINIMAL["triton"] + queue)) == {"waiting": 2}


def test_a_gpu_that_moves_is_no_sign_of_work():
    """Triton's power and energy readings change while it does nothing."""
    energy = 'nv_energy_consumption{{gpu_uuid="GPU-1"}} {0}\nnv_gpu_power_usage{{gpu_uuid="GPU-1"}} {0}\n'
    first, second = (read(MINIMAL["triton"] + energy.format(n)) for n in (100, 200))
    assert first.vital == second.vital != ()


def test_counts_before_buckets():
    """A page of Triton's C++ library has _count and _sum first and le as its last label."""
    name, labels = "vllm:e2e_request_latency_seconds", 'model="m",version="1"'
    text = f"{MINIMAL['triton_vllm']}{name}_count{{{labels}}} 4\n{name}_sum{{{labels}}} 9.5\n"
    text += "".join(f'{name}_bucket{{{labels},le="{le}"}} {n}\n' for le, n in (("1", 1), ("2.5", 3), ("+Inf", 4)))
    e2e = histograms(read(text))["e2e"]
    assert (e2e.edges, e2e.counts, e2e.sum) == ((1, 2.5, float("inf")), (1, 3, 4), 9.5)


def test_gauges_that_only_some_releases_have():
    """Where the backend shows vLLM's queue it is read; Triton's own queue in front of it never is."""
    queue = 'nv_inference_pending_request_count{model="m",version="1"} 5\n'
    assert gauges(read(MINIMAL["triton_vllm"] + queue)) == {}
    lines = [f'vllm:{name}{{model="m",version="1"}} {n}\n' for name, n in
             (("num_requests_running", 3), ("num_requests_waiting", 2), ("gpu_cache_usage_perc", 0.5))]  # fmt: skip
    found = gauges(read(MINIMAL["triton_vllm"] + queue + "".join(lines)))
    assert found == {"running": 3, "waiting": 2, "kv_cache": 0.5}


# -- NIM ------------------------------------------------------------------------------------------


def test_exponents_of_three_digits():
    """NIM prints 1.2e+011."""
    text = MINIMAL["nim"] + 'prompt_tokens_total{model_name="m"} 1.15891634176e+011\nprocess_open_fds 1.59e+002\n'
    found = read(text)
    assert counters(found)["prompt_tokens"] == {"m": 115891634176}
    assert gauges(found)["open_fds"] == 159


def test_finish_reasons_before_the_plain_count():
    """Only stop and length are good; a reason nobody knows is neither; without reasons the success counter counts."""
    reasons = {"stop": 1, "length": 2, "abort": 4, "surprise": 8}
    lines = [f'request_finish_total{{finished_reason="{why}",model_name="m"}} {n}\n' for why, n in reasons.items()]
    rest = 'request_success_total{model_name="m"} 7\nrequest_failure_total{model_name="m"} 16\n'
    expected = {"finished_ok": {"m": 3}, "finished_aborted": {"m": 4}, "finished_error": {"m": 16}}
    assert counters(read(MINIMAL["nim"] + "".join(lines) + rest)) == expected
    assert counters(read(MINIMAL["nim"] + rest)) == {"finished_ok": {"m": 7}, "finished_error": {"m": 16}}


# -- llama.cpp ------------------------------------------------------------------------------------


def test_cached_tokens_are_beside_the_prompt_tokens():
    """llama.cpp's prompt tokens lack the cached ones, MLC-LLM's have them: the trait says which."""
    llama = read("llamacpp:prompt_tokens_total 90\nllamacpp:prompt_tokens_cached_total 30\n")
    assert not llama.traits.cached_in_prompt
    assert counters(llama) == {"prompt_tokens": {"": 90}, "cached_tokens": {"": 30}}
    mlc = read("engine_prefill_time_sum\t1\nprompt_tokens_sum\t120\nprefill_tokens_sum\t90\n")
    assert mlc.traits.cached_in_prompt
    assert counters(mlc)["prompt_tokens"] == {"": 120}


def test_what_another_scraper_resets_is_not_read():
    """Speeds since the last scrape, and the mean that is -nan before the first decode, change nothing here."""
    alive = MINIMAL["llamacpp"] + "llamacpp:requests_processing 0\n"
    reset = "llamacpp:prompt_tokens_seconds {0}\nllamacpp:predicted_tokens_seconds {0}\n"
    busy = "llamacpp:n_busy_slots_per_decode -nan\n"
    assert parse(alive + reset.format(3) + busy).malformed == 0
    assert read(alive + reset.format(3) + busy) == read(alive + reset.format(0)) == read(alive)


def test_not_a_number_is_no_reading():
    """A gauge that is -nan leaves its signal out and does not spoil the page."""
    found = read(MINIMAL["llamacpp"] + "llamacpp:requests_processing -nan\nllamacpp:requests_deferred 1\n")
    assert (gauges(found), found.error) == ({"waiting": 1}, "")


def test_a_page_wrapped_in_a_json_string_is_refused():
    """One build answered with its page as one JSON string: that is no sample, and no engine."""
    body = json.dumps("# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 5\n")
    assert (parse(body).series, parse(body).malformed) == ((), 1)
    assert read(body).error == "unknown_engine"


def test_decode_calls_show_life_and_count_nothing():
    """Tokens are counted at the end of a request: until then only the decode calls tell a long answer from a hang."""
    text = "llamacpp:tokens_predicted_total 5\nllamacpp:n_decode_total {}\nllamacpp:requests_processing 1\n"
    first, second = read(text.format(10)), read(text.format(11))
    assert counters(first) == counters(second) == {"output_tokens": {"": 5}}
    assert first.vital != second.vital


def test_large_counters_have_six_digits():
    """Past a million tokens llama.cpp writes exponents."""
    assert counters(read("llamacpp:prompt_tokens_total 3.21457e+06\n"))["prompt_tokens"] == {"": 3214570}


def test_the_cache_usage_of_old_builds():
    """Until 2025-05 llama.cpp showed how full its cache was."""
    assert gauges(read(MINIMAL["llamacpp"] + "llamacpp:kv_cache_usage_ratio 0.25\n")) == {"kv_cache": 0.25}


# -- MLC-LLM, KServe ------------------------------------------------------------------------------


def test_the_lines_of_a_page_that_is_no_prometheus_page():
    """Tabs are read; a label value without quotes costs its line, and no other."""
    text = "engine_decode_time_sum\t2.5\ndecode_time_by_batch_size_count{batch_size=1}\t7\n\n# /spec_decode\n"
    text += "engine_prefill_time_sum\t0.5\ncompletion_tokens_sum\t40\ndecode_tokens_sum\t39\n"
    assert PageParser(None).parse(text.encode()).malformed == 1
    assert parse(text).malformed == 0  # nobody asks for that line
    expected = {"decode_seconds": {"": 2.5}, "prefill_seconds": {"": 0.5}, "output_tokens": {"": 40}}
    assert counters(read(text)) == expected


def test_the_last_request_is_no_histogram():
    """MLC-LLM's times are those of one request: no latency is read off them."""
    times = ("ttft_s", "end_to_end_latency_s", "inter_token_latency_s")
    found = read(MINIMAL["mlc"] + "".join(f"last_finished_request_{name}\t0.2\n" for name in times))
    assert (histograms(found), gauges(found)) == ({}, {})


def test_a_prediction_that_returns_a_stream_has_no_latency():
    """KServe's calls are counted, by model; how long predict() took is not when the answer was there."""
    name = "request_predict_seconds"
    lines = [f'{name}_bucket{{le="+Inf",model_name="{m}"}} 2\n{name}_count{{model_name="{m}"}} 2\n' for m in "ab"]
    found = read("".join(lines))
    assert (counters(found), histograms(found)) == ({"finished": {"a": 2, "b": 2}}, {})
