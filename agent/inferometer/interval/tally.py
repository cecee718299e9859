"""Distributions of exact values: what the spans of an interval say by themselves, by model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf

from inferometer.model import SLOS, Exemplar, Histogram, Request, Tally

_TRACE_ID_BYTES = 16
_EDGES = {  # those of the OpenTelemetry conventions for generative AI, with room above
    "ttft": (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
    "tpot": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    "e2e": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300.0),
}
_TOKEN_EDGES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, inf)


def grow(tally: Tally, requests: Sequence[Request], limits: Mapping[str, float]) -> None:
    """Add requests of one model. An SLO's limit is an edge, so that the share of requests within it can be read off."""
    for slo in SLOS:
        seen = [(request, value) for request in requests if (value := _latency(request, slo)) is not None]
        edges = (*sorted({*_EDGES[slo], *([limits[slo]] if slo in limits else ())}), inf)
        tally.latencies[slo] = observed(tally.latencies.get(slo), edges, [value for _, value in seen])
        shown = tally.exemplars.setdefault(slo, {})
        for request, value in seen:
            shown[bisect_left(edges, value)] = Exemplar(request.id[:_TRACE_ID_BYTES].hex(), value, request.ended)
    for kind, name in (("input", "input_tokens"), ("output", "output_tokens")):
        counts = [count for request in requests if (count := getattr(request, name)) is not None]
        tally.tokens[kind] = observed(tally.tokens.get(kind), _TOKEN_EDGES, counts)
    tally.reasoning += sum(request.reasoning_tokens or 0.0 for request in requests)
    tally.uses += [use for request in requests if (use := _use(request)) is not None]


def observed(have: Histogram | None, edges: tuple[float, ...], values: Iterable[float]) -> Histogram:
    """A histogram with more observations; one of other edges starts again."""
    counts, total = [0.0] * len(edges), 0.0
    for value in values:
        counts[bisect_left(edges, value)] += 1
        total += value
    more = Histogram(edges, tuple(accumulate(counts)), total)
    return more if have is None or have.edges != edges else have.plus(more)


def _latency(request: Request, slo: str) -> float | None:
    """Failed requests are in no distribution: how soon one failed says nothing of how fast the engine serves."""
    if request.outcome != "ok":
        return None
    latency: float | None = getattr(request, slo)
    return latency


def _use(request: Request) -> tuple[float, float, float] | None:
    """Uncached input, cached input and output tokens; what no span tells of a cache was not cached."""
    if request.input_tokens is None or request.output_tokens is None:
        return None
    cached = min(request.cached_tokens or 0.0, request.input_tokens)
    return request.input_tokens - cached, cached, request.output_tokens
