"""Verdicts: what spans say of their own requests. Exact where a span tells all that its SLOs ask for."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from inferometer.model.histograms import Histogram
from inferometer.model.requests import Request


class Verdicts(Struct, omit_defaults=True):
    """Judged requests, those that surely and those that possibly were good, and met each SLO alone.

    Sure and possible differ only by requests whose span does not tell a latency that an SLO limits.
    ``good_tokens``: output tokens of surely good requests; ``tokens``: of all.
    """

    requests: float = 0.0
    ok: float = 0.0
    good_lower: float = 0.0
    good_upper: float = 0.0
    met_lower: dict[str, float] = field(default_factory=dict)
    met_upper: dict[str, float] = field(default_factory=dict)
    good_tokens: float = 0.0
    tokens: float = 0.0

    def add(self, request: Request, limits: Mapping[str, float]) -> None:
        """Judge one request: good when it ended ok and no latency is over its limit, inclusive (formulas §7.1)."""
        ok = request.outcome == "ok"
        latencies = {"ttft": request.ttft, "tpot": request.tpot, "e2e": request.e2e}
        surely = possibly = ok
        for slo, limit in limits.items():
            latency = latencies[slo]
            met, unknown = ok and latency is not None and latency <= limit, ok and latency is None
            _count(self.met_lower, slo, met)
            _count(self.met_upper, slo, met or unknown)
            surely, possibly = surely and met, possibly and (met or unknown)
        tokens = request.output_tokens or 0.0
        self.requests += 1
        self.ok += ok
        self.good_lower += surely
        self.good_upper += possibly
        self.tokens += tokens
        self.good_tokens += tokens * surely

    def plus(self, other: Verdicts) -> None:
        """Take in what others said."""
        self.requests += other.requests
        self.ok += other.ok
        self.good_lower += other.good_lower
        self.good_upper += other.good_upper
        self.tokens += other.tokens
        self.good_tokens += other.good_tokens
        for mine, more in ((self.met_lower, other.met_lower), (self.met_upper, other.met_upper)):
            for slo, count in more.items():
                mine[slo] = mine.get(slo, 0.0) + count


class Exemplar(Struct, frozen=True):
    """One observation with the trace that it is of; ``at`` is unix time, ``trace`` in hexadecimal."""

    trace: str
    value: float
    at: float


class Tally(Struct, omit_defaults=True):
    """What the spans of an interval say by themselves: distributions of exact values.

    ``latencies``: by SLO name, with the limits among the edges; ``exemplars``: by SLO name and number of the bucket.
    ``tokens``: per request, by input and output; ``reasoning``: a subset of the output tokens.
    ``uses``: uncached input, cached input and output tokens of every request that tells them.
    """

    latencies: dict[str, Histogram] = field(default_factory=dict)
    exemplars: dict[str, dict[int, Exemplar]] = field(default_factory=dict)
    tokens: dict[str, Histogram] = field(default_factory=dict)
    uses: list[tuple[float, float, float]] = field(default_factory=list)
    reasoning: float = 0.0


def _count(into: dict[str, float], slo: str, met: bool) -> None:  # noqa: FBT001  what is counted
    into[slo] = into.get(slo, 0.0) + met
