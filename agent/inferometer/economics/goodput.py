"""How many requests were good: bounds from histograms, which know margins only, and exact verdicts of spans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from inferometer.model import SLOS, Histogram, Stratum, Verdicts


class Bounds(Struct, frozen=True):
    """Requests that certainly are good, and that possibly are."""

    lower: float
    upper: float


class Goodput(Struct, frozen=True):
    """One stratum's verdict: ``judged`` requests, those that met every SLO, and those that met each."""

    judged: float
    good: Bounds
    met: Mapping[str, Bounds]


def exact(verdicts: Verdicts) -> Goodput:
    """What spans said of their own requests; the bounds differ only where they did not tell all (formulas §7.1)."""
    met = {slo: Bounds(count, verdicts.met_upper[slo]) for slo, count in verdicts.met_lower.items()}
    return Goodput(verdicts.requests, Bounds(verdicts.good_lower, verdicts.good_upper), met)


class _Side(Struct, frozen=True):
    """A latency histogram at a threshold: observations surely within, possibly within, and all."""

    surely: float
    possibly: float
    total: float


def judge(stratum: Stratum, thresholds: Mapping[str, float]) -> Goodput:
    """Bounds of a stratum (formulas §7.4). ``thresholds``: seconds by SLO name, inclusive.

    A request that was in flight when the stratum began has its first token in an earlier one: as many of the finished
    requests may be within or over the TTFT threshold without being seen here.
    """
    slos = [name for name in SLOS if name in thresholds]
    met = {name: _met(stratum, name, thresholds[name]) for name in slos}
    finished = stratum.finished
    worst = sum(finished - stratum.failed - bounds.lower for bounds in met.values())
    lower = max(0.0, finished - stratum.failed - worst)
    upper = min([stratum.ok, *(bounds.upper for bounds in met.values())])
    clipped = {name: _blurred(stratum, Bounds(max(0.0, min(b.lower, b.upper)), b.upper)) for name, b in met.items()}
    return Goodput(stratum.judged, _blurred(stratum, Bounds(min(lower, upper), upper)), clipped)


def _blurred(stratum: Stratum, bounds: Bounds) -> Bounds:
    """Each request that may be another one moves both bounds by one."""
    blur = stratum.blur
    return Bounds(max(0.0, bounds.lower - blur), min(stratum.finished, bounds.upper + blur)) if blur else bounds


def _met(stratum: Stratum, slo: str, threshold: float) -> Bounds:
    """Finished and ok requests that met one SLO; the lower bound may be negative, for the sum."""
    finished, failed = stratum.finished, stratum.failed
    if slo not in stratum.latencies:
        return Bounds(-failed, stratum.ok)  # the page does not measure it: nobody knows
    side = _side(stratum.latencies[slo], threshold)
    if slo == "ttft":
        before_within, before_over = _carried(stratum, threshold)
        # Some engines measure the TTFT of streamed answers only: of the others nobody knows.
        unseen = max(0.0, stratum.ok - side.total - stratum.in_flight)
        over = min(finished, side.total - side.surely + before_over + unseen)
        within = side.possibly + before_within + unseen
        return Bounds(finished - over - failed, max(0.0, min(stratum.ok, within)))
    unseen = max(0.0, stratum.ok - side.total)  # failed ones may leave no latency: they are bad already
    may_be_over = side.total - side.surely
    if slo != "tpot" or stratum.single_token_has_tpot:
        may_be_over += unseen
    # Observations beyond the finished requests are of requests that spans judged: nobody knows which these are.
    is_over = max(0.0, side.total - side.possibly - max(0.0, side.total - finished))
    return Bounds(finished - may_be_over - failed, max(0.0, min(stratum.ok, finished - is_over)))


def _carried(stratum: Stratum, threshold: float) -> tuple[float, float]:
    """Of the requests in flight at the start, how many at most had their first token within, and over the threshold."""
    if stratum.carried is None:
        return stratum.in_flight, stratum.in_flight
    side = _side(stratum.carried, threshold)
    return min(stratum.in_flight, side.possibly), min(stratum.in_flight, side.total - side.surely)


def _side(histogram: Histogram, threshold: float) -> _Side:
    """Counts at the bucket edges on both sides of the threshold; on an edge both are exact (formulas §7.3)."""
    surely, possibly = 0.0, histogram.total
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        if edge <= threshold:
            surely = count
        if edge >= threshold:
            possibly = count
            break
    return _Side(surely, possibly, histogram.total)


@lru_cache(1024)
def bucket_gap(edges: tuple[float, ...], threshold: float) -> float:
    """Width in seconds of the bucket that holds the threshold; 0 where the threshold is an edge."""
    below = max((edge for edge in edges if edge <= threshold), default=0.0)
    above = min((edge for edge in edges if edge >= threshold), default=float("inf"))
    return above - below
