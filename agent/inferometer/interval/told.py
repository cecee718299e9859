"""What spans told of one stratum, and what it leaves of the stratum's histograms (design §7, traces)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

from msgspec import Struct, field

from inferometer.model import Histogram, Request, Stratum, Verdicts

Counts = dict[str, dict[int, float]]
"""Observations by latency and number of the bucket."""
Edges = Mapping[str, tuple[float, ...]]


class Told(Struct, omit_defaults=True):
    """The verdicts of a stratum's spans, and their own observations as the engine's histograms have them.

    ``failed``: observations that a failed request leaves on some engines. ``before``: requests whose first token was
    before the stratum: they are among those in flight at its start.
    """

    verdicts: Verdicts = field(default_factory=Verdicts)
    counts: Counts = field(default_factory=dict)
    failed: Counts = field(default_factory=dict)
    before: float = 0.0

    def add(self, request: Request, limits: Mapping[str, float], edges: Edges, *, single: bool) -> None:
        """Take a request that ended here. ``single``: a request of one token leaves a TPOT."""
        self.verdicts.add(request, limits)
        into = self.counts if request.outcome == "ok" else self.failed
        if single or (request.output_tokens or 0) > 1:
            _observe(into, "tpot", _decode_per_token(request), edges)
        _observe(into, "e2e", request.e2e, edges)

    def first_token(self, request: Request, edges: Edges) -> None:
        """Its first token was here too."""
        _observe(self.counts, "ttft", request.ttft, edges)

    def copy(self) -> Told:
        """Another one with the same content."""
        same = Told(before=self.before)
        same.plus(self)
        return same

    def plus(self, later: Told) -> None:
        """The same of two strata that become one."""
        self.verdicts.plus(later.verdicts)
        for mine, more in ((self.counts, later.counts), (self.failed, later.failed)):
            add_counts(mine, more)


class Carry(Struct, omit_defaults=True):
    """What is left where spans judged as many requests as finished: they may not have been quite the same ones.

    A request that ended just after a stratum may stand in for one of the stratum that no span told of. What the sums
    are out by goes to the next stratum, where it comes right. ``ahead``: until when such spans may have ended.
    ``lost``: what the sums were out by is no longer known; then each of those ahead may blur what is bounded.
    """

    ok: float = 0.0
    failed: float = 0.0
    counts: Counts = field(default_factory=dict)
    ahead: list[float] = field(default_factory=list)
    lost: bool = False

    def past(self, end: float) -> Carry:
        """What is left of it after a stratum that was bounded: spans that may have ended later still."""
        ahead = [high for high in self.ahead if high >= end]
        return Carry(ahead=ahead, lost=True) if ahead else Carry()


def rest(stratum: Stratum, told: Told, carry: Carry) -> Stratum:
    """The stratum without the requests that spans told of: these are bounded by what it still holds."""
    verdicts = told.verdicts
    ok = stratum.ok + carry.ok - verdicts.ok
    failed = stratum.failed + carry.failed - (verdicts.requests - verdicts.ok)
    left = max(0.0, ok + failed)
    ok = min(max(0.0, ok), left)
    residual = Stratum(
        stratum.model,
        stratum.began,
        in_flight=max(0.0, stratum.in_flight + len(carry.ahead) - told.before),
        carried=None if carry.ahead else stratum.carried,
        ok=ok,
        failed=left - ok,
        rejected=stratum.rejected,
        vanished=stratum.vanished,
        single_token_has_tpot=stratum.single_token_has_tpot,
        spans=verdicts if verdicts.requests else None,
        blur=float(len(carry.ahead)) if carry.lost else 0.0,
    )
    if left:
        counts = own(stratum, told, carry)
        for slo, histogram in stratum.latencies.items():
            if not verdicts.requests or _measures_all(stratum, slo):
                residual.latencies[slo] = _minus(histogram, counts.get(slo, {}))
    return residual


def own(stratum: Stratum, told: Told, carry: Carry) -> Counts:
    """The observations of a stratum's histograms that are not of the rest. Failed requests may leave none."""
    counts: Counts = {}
    add_counts(counts, told.counts)
    everything = stratum.latencies.get("e2e", stratum.latencies.get("tpot"))
    if stratum.failed and everything is not None and everything.total >= stratum.finished:
        add_counts(counts, told.failed)
    add_counts(counts, carry.counts, -1.0)
    return counts


def out_by(stratum: Stratum, told: Told, carry: Carry) -> Counts:
    """By how much the histograms and the spans of a stratum differ, where spans judged all of it."""
    counts, differ = own(stratum, told, carry), Counts()
    for slo in ("tpot", "e2e"):
        if slo in stratum.latencies:
            seen = list(_buckets(stratum.latencies[slo]))
            mine = counts.get(slo, {})
            over = {i: seen[i] - mine.get(i, 0.0) for i in range(len(seen)) if seen[i] != mine.get(i, 0.0)}
            if over:
                differ[slo] = over
    return differ


def add_counts(into: Counts, more: Counts, sign: float = 1.0) -> None:
    """Add observations."""
    for slo, buckets in more.items():
        mine = into.setdefault(slo, {})
        for bucket, count in buckets.items():
            mine[bucket] = mine.get(bucket, 0.0) + sign * count


def _decode_per_token(request: Request) -> float | None:
    """TPOT as engines observe it: they have the time of decoding itself, which differs by what a clock is read late."""
    if request.decode is not None and request.output_tokens is not None and request.output_tokens > 1:
        return request.decode / (request.output_tokens - 1)
    return request.tpot


def _observe(into: Counts, slo: str, value: float | None, edges: Edges) -> None:
    if value is not None and slo in edges:
        buckets, bucket = into.setdefault(slo, {}), bisect_left(edges[slo], value)
        buckets[bucket] = buckets.get(bucket, 0.0) + 1


def _measures_all(stratum: Stratum, slo: str) -> bool:
    """Whether every request of the stratum left this latency: only then a span's own is among them for certain."""
    seen = stratum.latencies[slo].total
    if slo == "ttft":
        seen += stratum.in_flight
    return seen >= stratum.ok or (slo == "tpot" and not stratum.single_token_has_tpot)


def _buckets(histogram: Histogram) -> list[float]:
    return [count - before for count, before in zip(histogram.counts, (0.0, *histogram.counts), strict=False)]


def _minus(histogram: Histogram, counts: Mapping[int, float]) -> Histogram:
    left = (max(0.0, count - counts.get(i, 0.0)) for i, count in enumerate(_buckets(histogram)))
    return Histogram(histogram.edges, tuple(accumulate(left)), histogram.sum)
