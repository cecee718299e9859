"""The simulated traffic and engine are true to their own truth, and to a real page."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.sim.engine import Engine, Machine
from inferometer.sim.page import number
from inferometer.sim.traffic import Burst, Lengths, Request, Shape, Traffic
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

START = 1.8e9
HISTOGRAMS = {
    "ttft": "vllm:time_to_first_token_seconds",
    "tpot": "vllm:request_time_per_output_token_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}


def samples(page):
    """Values of a page by name and by the labels that tell series of one engine apart."""
    own = ("finished_reason", "source", "reason", "le", "status", "handler")
    return {
        (s.name, *(s.labels[k] for k in own if k in s.labels)): s.value
        for family in text_string_to_metric_families(page.decode())
        for s in family.samples
    }


def vllm(engine):
    """The page's values by short name, for series without labels of their own."""
    return {key[0].removeprefix("vllm:"): value for key, value in samples(engine.render()).items() if len(key) == 1}


def simulated(seconds=120.0, machine=None, **shape):
    engine = Engine(machine, START)
    engine.submit_all(Traffic(7, Shape(**shape), START).between(START, START + seconds))
    engine.advance(START + seconds)
    return engine


# -- traffic ---------------------------------------------------------------------------------------


def test_traffic_is_a_function_of_seed_and_time():
    """However the time is cut, the requests are the same; another seed gives others."""
    shape = Shape(requests_per_second=5, burst=Burst(30, 5, 4))
    whole = Traffic(1, shape, START).between(START, START + 60)
    cuts = [START + at for at in (0, 0.3, 0.31, 7, 8, 41.5, 60)]
    reader = Traffic(1, shape, START)
    pieces = [r for a, b in pairwise(cuts) for r in reader.between(a, b)]
    assert pieces == whole == Traffic(1, shape, START).between(START, START + 60)
    assert whole == sorted(whole, key=lambda r: r.at)
    assert len(whole) > 100
    assert Traffic(2, shape, START).between(START, START + 60) != whole


def test_traffic_has_the_shape_asked_for():
    """The mean rate, the day's swing, the cached share and the caps come out as configured."""
    lengths = Lengths(300, 1.0, 900)
    shape = Shape(requests_per_second=4, day_seconds=1000, swing=0.8, prompt=lengths, cached_ratio=0.4)
    requests = Traffic(3, shape).between(0, 2000)
    assert len(requests) == pytest.approx(8000, rel=0.05)
    up = sum(1 for r in requests if r.at % 1000 < 500)
    assert up / len(requests) == pytest.approx(0.5 + 0.8 / 3.14159, abs=0.03)
    cached = sum(r.cached_tokens for r in requests) / sum(r.prompt_tokens for r in requests)
    assert cached == pytest.approx(0.4, abs=0.03)
    assert max(r.prompt_tokens for r in requests) == 900
    assert all(r.cached_tokens % 16 == 0 for r in requests)


def test_a_burst_multiplies_the_rate_once_in_its_period():
    traffic = Traffic(1, Shape(requests_per_second=2, swing=0, burst=Burst(100, 10, 5)))
    rates = Counter(traffic.rate(at) for at in range(100, 200))
    assert rates == {2.0: 90, 10.0: 10}


# -- engine ----------------------------------------------------------------------------------------


def test_one_request_takes_the_time_that_the_model_says():
    """Prefill 100 of 116 tokens at 1000/s, then two more tokens at 10 ms + 1 ms each: to the microsecond."""
    machine = Machine(
        prefill_tokens_per_second=1000, step_seconds=0.01, sequence_seconds=0.001, kv_token_seconds=0, max_num_seqs=1
    )
    engine = Engine(machine)
    request = Request(1.0, prompt_tokens=116, output_tokens=3, cached_tokens=16)
    flights = [engine.submit(request), engine.submit(request)]
    engine.advance(10)
    first, second = flights
    assert first.ttft == pytest.approx(0.110, abs=1e-6)
    assert first.tpot == pytest.approx(0.011, abs=1e-6)
    assert first.e2e == pytest.approx(0.132, abs=1e-6)
    assert second.ttft == pytest.approx(0.132 + 0.110, abs=1e-6), "TTFT includes the queue"
    seen = vllm(engine)
    assert seen["request_queue_time_seconds_sum"] == pytest.approx(0.132, abs=1e-6)
    assert seen["inter_token_latency_seconds_count"] == 4
    assert seen["iteration_tokens_total_sum"] == 200 + 6, "computed prompt tokens and generated ones"


def test_page_agrees_with_truth():
    """Every counter and every bucket follows from the per-request truth."""
    machine = Machine(max_num_seqs=4, max_num_queued=6)
    engine = simulated(machine=machine, requests_per_second=5, disconnect_ratio=0.15, error_ratio=0.1)
    truth, page = engine.truth(), samples(engine.render())
    totals, ended = truth["totals"], truth["requests"]
    outcomes = Counter(r["outcome"] for r in ended)
    assert min(outcomes[name] for name in ("ok", "error", "rejected", "vanished")) > 5, "the run meets every case"
    reasons = {reason: page["vllm:request_success_total", reason] for reason in ("stop", "length", "error", "abort")}
    assert reasons["stop"] + reasons["length"] == outcomes["ok"]
    assert (reasons["error"], reasons["abort"]) == (outcomes["error"], 0)
    assert page["vllm:admission_rejections_total", "max_num_queued_reqs"] == outcomes["rejected"]
    assert page["vllm:prompt_tokens_total",] == totals["prompt_tokens"]
    assert page["vllm:prompt_tokens_cached_total",] == totals["cached_tokens"]
    computed = totals["prompt_tokens"] - totals["cached_tokens"]
    assert page["vllm:prompt_tokens_by_source_total", "local_compute"] == computed
    assert page["vllm:generation_tokens_total",] == totals["output_tokens"]
    assert page["vllm:time_to_first_token_seconds_count",] == totals["first_tokens"]
    assert page["vllm:request_params_n_count",] == outcomes["ok"] + outcomes["error"]
    handler = "/v1/chat/completions"
    assert page["http_requests_total", "5xx", handler] == outcomes["rejected"]
    finished = outcomes["ok"] + outcomes["error"]
    assert page["http_requests_total", "2xx", handler] == finished + outcomes["vanished"]


@pytest.mark.parametrize("latency", HISTOGRAMS)
def test_buckets_hold_the_requests_at_or_below_their_edge(latency):
    engine = simulated(requests_per_second=4, disconnect_ratio=0.1)
    engine.advance(START + 1000)
    values = [r[latency] for r in engine.truth()["requests"] if r[latency] is not None]
    assert len(values) > 100
    for key, count in samples(engine.render()).items():
        if key[0] == HISTOGRAMS[latency] + "_bucket":
            assert count == sum(1 for v in values if v <= float(key[1])), key


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(
        st.tuples(st.floats(0.1, 20), st.sampled_from(["on", "stall", "restart", "down"])), min_size=1, max_size=8
    ),
)
def test_no_token_is_lost(seed, steps):
    """At any instant, in any life: output = finished + wasted + in flight, and the page shows the newest life."""
    engine = Engine(Machine(max_num_seqs=3, max_num_queued=20), START)
    traffic = Traffic(seed, Shape(requests_per_second=3, disconnect_ratio=0.3), START)
    for seconds, fault in steps:
        until = engine.now + seconds
        engine.submit_all(traffic.between(engine.now, until))
        engine.advance(until)
        faults = {"stall": lambda: engine.stall(3.0), "restart": engine.restart, "down": lambda: engine.restart(2.0)}
        faults.get(fault, lambda: None)()
        truth = engine.truth()
        totals, flying = truth["totals"], truth["in_flight"]["output_tokens"]
        assert totals["output_tokens"] == totals["finished_output_tokens"] + totals["wasted_output_tokens"] + flying
        assert vllm(engine)["generation_tokens_total"] == truth["processes"][-1]["totals"]["output_tokens"]
        assert sum(p["totals"]["output_tokens"] for p in truth["processes"]) == totals["output_tokens"]
        assert sum(totals["requests"].values()) == len(truth["requests"]) + truth["in_flight"]["requests"]


def mean_of(engine, latency):
    values = [r[latency] for r in engine.truth()["requests"] if r["outcome"] == "ok"]
    return sum(values) / len(values)


def test_more_load_makes_first_tokens_later():
    machine = Machine(max_num_seqs=8)
    light, heavy = (simulated(300, machine, requests_per_second=rate) for rate in (0.5, 8))
    assert mean_of(heavy, "ttft") > 3 * mean_of(light, "ttft")


def test_bigger_batches_make_tokens_slower():
    small, big = (simulated(200, Machine(max_num_seqs=n), requests_per_second=20) for n in (2, 64))
    assert mean_of(big, "tpot") > 1.5 * mean_of(small, "tpot")
    assert vllm(big)["generation_tokens_total"] > 3 * vllm(small)["generation_tokens_total"]


def test_same_seed_same_page():
    pages = [simulated(60).render() for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_client_that_disconnects_vanishes_from_all_outcomes():
    """Its tokens and its TTFT stay; no outcome, no E2E; the HTTP call is a 2xx, as its stream had begun."""
    engine = Engine(start=START)
    stays = Request(START, prompt_tokens=50, output_tokens=1)
    engine.submit_all([stays, Request(START, prompt_tokens=70, output_tokens=5000, patience_seconds=1.0)])
    engine.advance(START + 2)
    seen = samples(engine.render())
    assert seen["vllm:prompt_tokens_total",] == 120
    assert seen["vllm:time_to_first_token_seconds_count",] == 2
    assert seen["vllm:generation_tokens_total",] > 20
    assert seen["vllm:e2e_request_latency_seconds_count",] == 1
    assert sum(seen["vllm:request_success_total", r] for r in ("stop", "length", "abort", "error")) == 1
    assert seen["http_requests_total", "2xx", "/v1/chat/completions"] == 2
    assert seen["vllm:request_time_per_output_token_seconds_bucket", "0.01"] == 1, "one token: TPOT 0.0"
    edges = [seen["vllm:request_prompt_tokens_bucket", le] for le in ("20.0", "50.0")]
    assert edges == [0, 1], "50 tokens are in the bucket up to 50"
    assert seen["vllm:num_requests_running",] == 0
    assert engine.truth()["totals"]["requests"] == {"ok": 1, "vanished": 1}


@pytest.mark.parametrize("load", [4, 0], ids=["in the middle of its work", "idle"])
def test_a_stalled_engines_page_stands_still_but_for_its_connections(load):
    engine = simulated(30, requests_per_second=load or 1e-9, disconnect_ratio=0)
    assert bool(engine.in_flight) == bool(load)
    engine.stall(20)
    engine.submit_all(Request(START + 31 + i / 2, 100, 100) for i in range(30))
    before = vllm(engine)
    engine.advance(START + 49)
    during = vllm(engine)
    moved = {name for name in during if during[name] != before[name]}
    assert moved == {"process_open_fds", "process_cpu_seconds_total"}
    assert during["process_open_fds"] == before["process_open_fds"] + 30
    engine.advance(START + 200)
    after = engine.truth()
    assert after["in_flight"]["requests"] == 0
    assert max(r["ttft"] for r in after["requests"]) > 15, "the wait in the stalled server is in the TTFT"


def test_a_restart_is_a_new_process_at_zero():
    engine = simulated(30, requests_per_second=8)
    flying = len(engine.in_flight)
    assert flying
    engine.restart(down_seconds=5)
    engine.submit(Request(START + 32, 10, 10))
    engine.advance(START + 40)
    seen = vllm(engine)
    assert (seen["process_start_time_seconds"], seen["prompt_tokens_created"]) == (START + 35, START + 35)
    assert seen["generation_tokens_total"] == 0
    truth = engine.truth()
    assert truth["totals"]["requests"]["lost"] == flying
    assert truth["totals"]["requests"]["refused"] == 1
    assert [(p["start"], p["end"]) for p in truth["processes"]] == [(START, START + 30), (START + 35, None)]


@given(st.floats(min_value=0, allow_infinity=True, allow_nan=False))
def test_numbers_are_printed_as_prometheus_client_does(value):
    assert number(value) == floatToGoString(value)
