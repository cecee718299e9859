"""Spans and pages of one engine: who judges what, and when (design §7, traces)."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from inferometer import config
from inferometer.app.replay import replay
from inferometer.economics import Policy, Slo, settle
from inferometer.interval import Watch, Watched
from inferometer.model import Request, Traced
from readings import Follower, no_page, page

T = 1000.0
LIMITS = {"ttft": 0.5, "tpot": 0.1, "e2e": 1.0}
POISSON = Path(__file__).parent / "recordings" / "vllm-0.32-poisson-otlp"


def span(ended, *, ttft=0.2, e2e=0.6, tokens=10.0, **rest):
    """A request that ended so many seconds after the start; good unless told otherwise."""
    at = T + ended
    return Request(repr(ended).encode().ljust(24), at - e2e, at, ttft=ttft, e2e=e2e, output_tokens=tokens, **rest)


def told(at, *spans, engine="e"):
    return Traced(engine, T + at, spans)


def shown(at, finished, *, running=0, good=None, **rest):
    """A page: so many finished requests, the rest of which were over the limit of TTFT."""
    good = finished if good is None else good
    seen = {"ttft": [0.2] * good + [0.7] * (finished - good), "tpot": [0.04] * finished, "e2e": [0.6] * finished}
    counters = {"finished_ok": finished} | rest.pop("counters", {})
    return page(T + at, counters, seen=seen, running=running, start=rest.pop("start", T), **rest)


def follower(*, traced=True, engines=("e",)):
    watched = tuple(Watched(engine, 1.0, traced=traced) for engine in engines)
    return Follower(Watch("w", watched, limits={"": LIMITS}))


def judged(follower):
    """What was posted: (by trace, good of these at least, otherwise)."""
    spans = [stratum.spans for stratum in follower.strata if stratum.spans is not None]
    rest = sum(stratum.judged for stratum in follower.strata)
    return sum(one.requests for one in spans), sum(one.good_lower for one in spans), rest


def pages(follower, since, until, finished, **rest):
    for at in range(since, until, 5):
        follower.read(shown(at, finished, **rest))


def test_a_stratum_waits_a_minute_for_its_spans():
    """What ended is pending until then; then numerators and denominator come together."""
    meter = follower()
    meter.read(shown(0, 0), shown(5, 3), told(8, span(2), span(3)))
    pages(meter, 10, 65, 3)
    assert (meter.strata, meter.meter.pending()) == ([], {"w": 3})
    meter.read(told(64, span(2.5)))
    pages(meter, 65, 75, 3)
    assert judged(meter) == (3, 3, 0)
    assert meter.meter.pending() == {"w": 0}


def test_without_spans_the_histograms_bound_a_minute_late():
    """So long as spans are expected; nothing is extrapolated from those that came before."""
    meter = follower()
    meter.read(shown(0, 0), shown(5, 2), told(6, span(2), span(3)), shown(30, 9, good=5))
    pages(meter, 35, 90, 9, good=5)
    assert judged(meter) == (2, 2, 0)
    pages(meter, 90, 95, 9, good=5)
    pages(meter, 95, 105, 9, good=5)
    assert judged(meter) == (2, 2, 7)
    assert [stratum.ok for stratum in meter.strata] == [0, 7]


def test_where_no_spans_are_expected_strata_end_at_once():
    """The first span changes that: it judges what is open then."""
    meter = follower(traced=False)
    meter.read(shown(0, 0), shown(5, 2))
    assert judged(meter) == (0, 0, 2)
    meter.read(told(6, span(2)), shown(10, 2), shown(20, 3, running=0), told(21, span(17)))
    pages(meter, 25, 90, 3)
    assert judged(meter) == (1, 1, 2)  # the span of what is judged already judges nothing


def test_what_no_span_told_of_is_bounded_by_what_they_leave():
    """Half of the spans of ten requests, of which seven were within the limit: two of the other five are good."""
    meter = follower()
    told_of = [span(2.0 + i / 100) for i in range(5)]
    meter.read(shown(0, 0), shown(9, 10, good=7), told(10, *told_of))
    pages(meter, 15, 80, 10, good=7)
    (stratum,) = meter.strata
    assert (stratum.spans.requests, stratum.spans.good_lower, stratum.ok) == (5, 5, 5)
    assert [stratum.latencies[name].total for name in ("ttft", "tpot", "e2e")] == [5, 5, 5]
    policy = Policy("w", slo=Slo(LIMITS))
    amounts = {k: v for i in meter.given for k, v in settle(i, policy).amounts.items() if v and "good_r" in k[0]}
    assert {(name.split("_")[3], labels[-1]): v for (name, labels), v in amounts.items()} == {
        ("lower", "trace"): 5, ("upper", "trace"): 5, ("lower", "histogram"): 2, ("upper", "histogram"): 2,
    }  # fmt: skip


def test_rejected_vanished_failed():
    """All are judged and none is good: two by a span, the others by the page."""
    meter = follower()
    counters = {"finished_error": 1, "finished_aborted": 1, "rejected": 4}
    spans = (span(2), span(2.1, outcome="error"), span(2.2, outcome="aborted"))
    meter.read(shown(0, 0), shown(9, 1, counters=counters), told(10, *spans))
    pages(meter, 15, 80, 1, counters=counters)
    assert judged(meter) == (3, 1, 4)


def test_late_spans_of_a_process_that_died():
    """They judge what its pages showed; what no page showed is no request of anybody's."""
    meter = follower()
    meter.read(shown(0, 0), shown(10, 2), no_page(T + 15), shown(20, 1, start=T + 17))
    meter.read(told(25, span(5), span(6), span(13), span(19)))
    pages(meter, 30, 100, 1, start=T + 17)
    assert judged(meter) == (3, 3, 0)
    assert meter.outcome("ok") == 3


def test_spans_wait_in_the_marks():
    """An agent that is restarted goes on with what it had."""
    meter = follower()
    meter.read(shown(0, 0), shown(5, 3), told(8, span(2), span(3)), shown(10, 3))
    later = meter.restarted(Watch("w", (Watched("e", 1.0, traced=True),), limits={"": LIMITS}), ahead=500.0)
    later.read(*(shown(at - 500, 3, start=T) for at in range(20, 80, 5)))
    assert judged(later) == (2, 2, 1)


def test_only_spans():
    """An engine that nobody can read is judged by its spans alone."""
    meter = follower()
    meter.at(T)
    meter.read(told(8, span(2, model="a"), span(3, ttft=0.9, model="a"), span(4, model="b")))
    for at in range(10, 80, 5):
        meter.read(no_page(T + at))
    assert judged(meter) == (3, 2, 0)
    assert {stratum.model: stratum.spans.requests for stratum in meter.strata} == {"a": 2, "b": 1}


def test_at_the_end_of_a_recording_everything_closes():
    meter = follower()
    meter.read(shown(0, 0), shown(5, 3), told(8, span(2), span(3)), shown(10, 3))
    meter.finish(T + 11)
    assert judged(meter) == (2, 2, 1)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_an_hour_of_skew_breaks_nothing(ahead):
    """A clock that is ahead is seen at once; one behind looks like late spans, which judge nothing for ten minutes."""
    meter = follower()
    spans = [span(2 + ahead + i) for i in range(3)]
    meter.read(*(shown(at, 0, start=T - 900) for at in range(-100, 5, 5)))
    meter.read(shown(9, 3, start=T - 900), told(10, *spans))
    pages(meter, 15, 120, 3, start=T - 900)
    traced, _, rest = judged(meter)
    assert traced + rest == 3
    assert traced == (3 if ahead > 0 else 0)


def test_distributions_are_of_spans_where_they_come():
    """With the limits as edges; the page's own are shown until the first span came."""
    meter = follower()
    intervals = meter.read(shown(0, 0), shown(5, 3), told(8, span(2, ttft=0.5), span(3)), shown(10, 3))
    policy = Policy("w", slo=Slo(LIMITS))
    before, after = (settle(intervals[i], policy).histograms for i in (1, 2))
    account = ("inferometer_ttft_seconds", ("w", "e", "m"))
    assert before[account].edges == (0.1, 0.5, 1.0, float("inf"))
    assert 0.5 in after[account].edges
    assert after[account].total == 2
    assert after["inferometer_request_tokens", ("w", "m", "output")].sum == 20
    exemplars = settle(intervals[2], policy).exemplars[account]
    assert sorted(one.value for one in exemplars.values()) == [0.2, 0.5]


# -- the recording: a real vLLM, its pages and its spans


CONFIG = """
interval: {interval}
otlp: {{}}
workloads:
  - {{name: chat, engines: [{{url: "recording:vllm-b"}}], gpus: 1, slo: {{ttft: 500ms, tpot: 50ms, e2e: 5s}}}}
prices: {{default: {{gpu_hour: 3.60}}}}
"""


def replayed(folder, tmp_path, interval="1s"):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(interval=interval))
    return asyncio.run(replay(folder, config.load(str(file), {}, {}), {}))


def total(snapshot, name, *labels):
    return sum(
        value for (metric, values), value in snapshot.totals.items()
        if metric == f"inferometer_{name}" and set(labels) <= set(values)
    )  # fmt: skip


@pytest.mark.parametrize("interval", ["1s", "5s"])
def test_the_recording_is_exact(tmp_path, interval):
    """The server's spans agree with the client on every request: 31 good of 90."""
    snapshot, truth = replayed(POISSON, tmp_path, interval), json.loads((POISSON / "truth.json").read_text())
    assert total(snapshot, "slo_requests_total", "trace") == total(snapshot, "slo_requests_total") == 90
    for side in ("lower", "upper"):
        assert total(snapshot, f"good_requests_{side}_total") == truth["client"]["good_requests"] == 31
        for slo, count in {"ttft": 59, "tpot": 45, "e2e": 77}.items():
            assert total(snapshot, f"slo_met_requests_{side}_total", slo) == count
    assert total(snapshot, "tokens_total", "input_uncached") + total(snapshot, "tokens_total", "input_cached") == 19_642
    assert total(snapshot, "tokens_total", "output") == total(snapshot, "slo_tokens_total") == 5_708
    assert snapshot.values["inferometer_trace_coverage_ratio", ("chat", "1h")] == 1
    assert snapshot.values["inferometer_goodput_ratio_lower", ("chat", "1h")] == pytest.approx(31 / 90)


@pytest.mark.parametrize("keep", [slice(0, None, 2), slice(1, None, 2), slice(0, 9), slice(9, None), slice(0, 0)])
def test_the_recording_without_half_of_its_spans(tmp_path, keep):
    """The truth stays within the bounds, and everything is judged."""
    copy = tmp_path / "copy"
    shutil.copytree(POISSON, copy)
    header, *rows = (POISSON / "index.tsv").read_text().splitlines(keepends=True)
    spans = [row for row in rows if "\totlp\t" in row]
    kept = set(spans[keep])
    (copy / "index.tsv").write_text(header + "".join(row for row in rows if row in kept or row not in spans))
    snapshot = replayed(copy, tmp_path)
    assert total(snapshot, "slo_requests_total") == total(snapshot, "requests_total") == 90
    assert total(snapshot, "good_requests_lower_total") <= 31 <= total(snapshot, "good_requests_upper_total")
    for slo, count in {"ttft": 59, "tpot": 45, "e2e": 77}.items():
        for side in ("lower", "upper"):  # every threshold is an edge: each alone stays exact
            assert total(snapshot, f"slo_met_requests_{side}_total", slo) == pytest.approx(count, abs=8)
    assert (total(snapshot, "slo_requests_total", "trace") > 10) == bool(kept)
