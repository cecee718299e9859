"""Goodput bounds against formulas §7.

Not computed on purpose: the guess that SLOs are independent (G_ind of G8, linear interpolation of G8b): it is neither
a bound nor a measurement. Exact verdicts (§7.1) need per-request data; G9 is here to show that the bounds contain it.
"""

from __future__ import annotations

from itertools import combinations, product
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics.goodput import Bounds, bucket_gap, exact, judge
from inferometer.model import Histogram, Request, Stratum, Verdicts

INF = float("inf")
SLO = {"ttft": 0.5, "tpot": 0.05, "e2e": 10.0}


def histogram(total: float, **at: float) -> Histogram:
    """Cumulative counts by edge, as in ``e0_5=930``."""
    edges = {float(edge[1:].replace("_", ".")): count for edge, count in at.items()}
    return Histogram((*edges, INF), (*edges.values(), total))


def stratum(ok: float, within: tuple[float, float, float], **more: float) -> Stratum:
    """A stratum of ``ok`` requests, all on the histograms, as many within each threshold."""
    ttft, tpot, e2e = within
    latencies = {
        "ttft": histogram(ok, e0_25=0.0, e0_5=ttft),
        "tpot": histogram(ok, e0_05=tpot),
        "e2e": histogram(ok, e10=e2e),
    }
    return Stratum("m", 0.0, ok=ok, latencies=latencies, **more)


def test_bounds_from_margins() -> None:
    """G8: 930, 960 and 950 of 1,000 within their thresholds leave 840 to 930 good ones."""
    verdict = judge(stratum(1_000, (930, 960, 950)), SLO)
    assert verdict.good == Bounds(930 + 960 + 950 - 2 * 1_000, 930)
    assert verdict.judged == 1_000
    assert verdict.met == {"ttft": Bounds(930, 930), "tpot": Bounds(960, 960), "e2e": Bounds(950, 950)}


def test_threshold_inside_a_bucket() -> None:
    """G8b: at 0.45 s only those within 0.25 s are sure, and those within 0.5 s possible."""
    one = stratum(1_000, (930, 960, 950))
    one.latencies["ttft"] = histogram(1_000, e0_25=700, e0_5=930)
    verdict = judge(one, {**SLO, "ttft": 0.45})
    assert verdict.good == Bounds(700 + 960 + 950 - 2 * 1_000, 930)
    assert verdict.met["ttft"] == Bounds(700, 930)


@pytest.mark.parametrize(("threshold", "gap"), [(0.25, 0.0), (0.5, 0.0), (0.45, 0.25), (0.1, 0.25), (0.6, INF)])
def test_gap_around_a_threshold(threshold: float, gap: float) -> None:
    """The width of the bucket that a threshold falls into, 0 on an edge."""
    assert bucket_gap((0.25, 0.5, INF), threshold) == gap


@pytest.mark.parametrize("slo", ["tpot", "e2e"])
def test_inside_a_bucket_the_others_widen_too(slo: str) -> None:
    """What is in the threshold's own bucket may be within or over it."""
    one = stratum(100, (100, 100, 100))
    one.latencies[slo] = histogram(100, e0_02=60, e20=90)
    verdict = judge(one, SLO)
    assert verdict.met[slo] == Bounds(60, 90)
    assert verdict.good == Bounds(60, 90)


def test_strata_are_tighter_than_their_sum() -> None:
    """G8d: pod by pod [800, 860], both pods as one [620, 860]."""
    a, b = judge(stratum(800, (800, 800, 800)), SLO), judge(stratum(200, (60, 70, 90)), SLO)
    assert (a.good.lower + b.good.lower, a.good.upper + b.good.upper) == (800, 860)
    assert judge(stratum(1_000, (860, 870, 890)), SLO).good == Bounds(620, 860)


def test_failed_requests_without_latencies() -> None:
    """Failures that no histogram has: the same 840 to 930 good ones, of 1,020."""
    one = stratum(1_000, (930, 960, 950), failed=20)
    verdict = judge(one, SLO)
    assert verdict.good == Bounds(840, 930)
    assert verdict.good.lower / verdict.judged == pytest.approx(840 / 1_020, rel=1e-9)
    assert verdict.good.upper / verdict.judged == pytest.approx(930 / 1_020, rel=1e-9)


def test_failed_requests_with_latencies() -> None:
    """Failures that are on the histograms may be those within every threshold: they are never good."""
    one = stratum(100, (100, 100, 100))
    one.ok, one.failed = 80, 20
    assert judge(one, SLO).good == Bounds(80, 80)
    assert judge(one, SLO).judged == 100


def test_rejected_and_vanished_are_judged_and_never_good() -> None:
    """They are in the denominator only."""
    verdict = judge(stratum(10, (10, 10, 10), rejected=3, vanished=4), SLO)
    assert (verdict.judged, verdict.good) == (17, Bounds(10, 10))


@pytest.mark.parametrize(
    ("carried", "bounds"),
    [
        (None, Bounds(6, 10)),  # nothing is known about the TTFTs of the 4 in flight
        (histogram(9, e0_5=9), Bounds(10, 10)),  # all of theirs were within
        (histogram(9, e0_5=0), Bounds(6, 6)),  # all of theirs were over
        (histogram(9, e0_5=7), Bounds(8, 10)),  # at most two were over
        (histogram(9, e0_5=2), Bounds(6, 8)),  # at most two were within
        (histogram(9, e0_25=2, e1=9), Bounds(6, 10)),  # seven are in the bucket of the threshold
    ],
)
def test_requests_in_flight_at_the_start(carried: Histogram | None, bounds: Bounds) -> None:
    """Their first tokens are in an earlier stratum: ten finished, of six TTFTs seen here all are within."""
    one = Stratum("m", 0.0, in_flight=4, carried=carried, ok=10, latencies={"ttft": histogram(6, e0_5=6)})
    assert judge(one, {"ttft": 0.5}).good == bounds


def test_no_more_are_over_than_finished() -> None:
    """First tokens over the threshold whose requests have not finished yet cannot make a sum negative."""
    one = Stratum("m", 0.0, ok=2, latencies={"ttft": histogram(50, e0_5=10)})
    assert judge(one, {"ttft": 0.5}).good == Bounds(0, 2)


@pytest.mark.parametrize(("observed", "bounds"), [(True, Bounds(7, 10)), (False, Bounds(10, 10))])
def test_one_token_requests(*, observed: bool, bounds: Bounds) -> None:
    """Three requests without a TPOT met it where one-token requests leave none; elsewhere nobody knows."""
    one = Stratum("m", 0.0, ok=10, latencies={"tpot": histogram(7, e0_05=7)}, single_token_has_tpot=observed)
    assert judge(one, {"tpot": 0.05}).good == bounds


@pytest.mark.parametrize("slo", ["ttft", "tpot", "e2e"])
@pytest.mark.parametrize("observed", [True, False])
def test_what_a_page_does_not_measure_is_not_known(*, slo: str, observed: bool) -> None:
    """Without the histogram of an SLO any number of the ok requests may have met it."""
    one = stratum(100, (90, 90, 90), single_token_has_tpot=observed)
    del one.latencies[slo]
    verdict = judge(one, SLO)
    assert verdict.met[slo] == Bounds(0, 100)
    assert verdict.good == Bounds(0, 90)


def test_thresholds_are_inclusive() -> None:
    """A request at the edge itself is within: cumulative buckets count ≤."""
    one = Stratum("m", 0.0, ok=1, latencies={"ttft": histogram(1, e0_25=0, e0_5=1)})
    assert judge(one, {"ttft": 0.5}).good == Bounds(1, 1)
    assert judge(one, {"ttft": 0.25}).good == Bounds(0, 0)


def test_nothing_finished() -> None:
    """An empty stratum opens the accounts at zero."""
    verdict = judge(Stratum("m", 0.0), SLO)
    assert (verdict.judged, verdict.good) == (0, Bounds(0, 0))
    assert set(verdict.met) == {"ttft", "tpot", "e2e"}


def test_only_the_slos_that_are_set() -> None:
    """An SLO that nobody set bounds nothing."""
    verdict = judge(stratum(1_000, (930, 0, 0)), {"ttft": 0.5})
    assert verdict.good == Bounds(930, 930)
    assert set(verdict.met) == {"ttft"}


REQUEST = st.tuples(st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 20), st.booleans())
EDGES = {"ttft": (0.25, 0.5, 0.75), "tpot": (0.025, 0.05, 0.075), "e2e": (5.0, 10.0, 15.0)}


@settings(deadline=None)
@given(
    st.lists(REQUEST, max_size=30),
    st.sampled_from((0.25, 0.4, 0.5)),
    st.sampled_from((0.03, 0.05)),
    st.sampled_from((7.0, 10.0)),
)
def test_the_truth_is_between_the_bounds(
    requests: list[tuple[float, float, float, bool]], ttft: float, tpot: float, e2e: float
) -> None:
    """For any requests and thresholds, on edges or not, what was good lies between lower and upper."""
    limits = {"ttft": ttft, "tpot": tpot, "e2e": e2e}
    one = Stratum("m", 0.0, ok=sum(r[3] for r in requests), failed=sum(not r[3] for r in requests))
    for column, (slo, edges) in enumerate(EDGES.items()):
        values = [r[column] for r in requests]
        counts = [float(sum(v <= edge for v in values)) for edge in (*edges, INF)]
        one.latencies[slo] = Histogram((*edges, INF), tuple(counts))
    verdict = judge(one, limits)
    for size in (1, 2, 3):
        for chosen in combinations(enumerate(EDGES), size):
            truth = sum(r[3] and all(r[i] <= limits[slo] for i, slo in chosen) for r in requests)
            bounds = judge(one, {slo: limits[slo] for _, slo in chosen}).good
            assert bounds.lower <= truth <= bounds.upper
    for bounds, number in product((verdict.good, *verdict.met.values()), (verdict.judged,)):
        assert 0 <= bounds.lower <= bounds.upper <= number


def test_exact_verdicts() -> None:
    """G9: two of five are good, 0.4, and 600 of their 1,000 tokens, 0.6."""
    rows = ((0.30, 0.030, 6, 200), (0.60, 0.030, 5, 150), (0.20, 0.060, 13, 210), (0.25, 0.028, 4, 400),
            (0.10, 0.020, 2, 40))  # fmt: skip
    verdicts = Verdicts()
    for number, (ttft, tpot, e2e, tokens) in enumerate(rows):  # its latencies are made up, each by itself
        outcome = "ok" if number < 4 else "error"
        verdicts.add(SimpleNamespace(outcome=outcome, ttft=ttft, tpot=tpot, e2e=e2e, output_tokens=tokens), SLO)
    told = exact(verdicts)
    assert (told.judged, told.good) == (5, Bounds(2, 2))
    assert (told.good.lower / told.judged, verdicts.good_tokens / verdicts.tokens) == (0.4, 0.6)


def test_a_latency_that_no_span_tells_is_not_known() -> None:
    """Then a request may be good or not; one of a single token meets every TPOT, a failed one is never good."""
    verdicts = Verdicts()
    verdicts.add(Request(b"", 0.0, 1.0, e2e=1.0, output_tokens=1.0), {"ttft": 0.5})
    verdicts.add(Request(b"", 0.0, 1.0, outcome="aborted"), {"ttft": 0.5})
    assert exact(verdicts).good == Bounds(0, 1)
    alone = Verdicts()
    alone.add(Request(b"", 0.0, 1.0, ttft=0.1, e2e=1.0, output_tokens=1.0), {"tpot": 0.01})
    assert exact(alone).good == Bounds(1, 1)


def test_exact_verdicts_lie_within() -> None:
    """G9: of five requests two are good; margins alone say none to three."""
    one = Stratum("m", 0.0, ok=4, failed=1)
    rows = ((0.30, 0.030, 6), (0.60, 0.030, 5), (0.20, 0.060, 13), (0.25, 0.028, 4), (0.10, 0.020, 2))
    for column, (slo, limit) in enumerate(SLO.items()):
        within = float(sum(row[column] <= limit for row in rows))
        one.latencies[slo] = Histogram((limit, INF), (within, 5.0))
    verdict = judge(one, SLO)
    assert verdict.judged == 5
    assert verdict.good == Bounds(1, 4)
