"""Signal: what a sample means, in the same words for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add, sub

from msgspec import Struct, field

from inferometer.model.gpus import GpuReading, Holdings, HostReading
from inferometer.model.pods import Pods
from inferometer.model.requests import Traced


class Histogram(Struct, frozen=True, array_like=True):
    """Cumulative ``counts`` at ascending upper ``edges``; the last edge is +Inf, its count the total."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float = 0.0

    @property
    def total(self) -> float:
        """Observations in all buckets."""
        return self.counts[-1] if self.counts else 0.0

    def minus(self, earlier: Histogram) -> Histogram:
        """Observations since ``earlier``; both have the same edges."""
        counts = tuple(map(sub, self.counts, earlier.counts))
        return Histogram(self.edges, counts, self.sum - earlier.sum)

    def plus(self, other: Histogram) -> Histogram:
        """Observations of both; both have the same edges."""
        counts = tuple(map(add, self.counts, other.counts))
        return Histogram(self.edges, counts, self.sum + other.sum)


class Traits(Struct, frozen=True):
    """What an engine means by its numbers, from its adapter.

    ``cached_in_prompt``: prompt tokens include the cached ones.
    ``single_token_has_tpot``: a request of one output token leaves an observation in TPOT.
    """

    cached_in_prompt: bool = True
    single_token_has_tpot: bool = True


class Key(Struct, frozen=True, gc=False, array_like=True):
    """One series of one signal: what it means, for which model and tenant, and which raw label set it came from."""

    signal: str
    model: str
    series: str
    tenant: str = ""


class EngineSignal(Struct, frozen=True):
    """An engine's page in engine-neutral words. Counters and histograms are as the page has them: totals.

    ``vital`` changes whenever a series moves that moves only while the engine works.
    ``phase_groups``: groups of GPUs (data parallel ranks) whose busy seconds by phase the page has; 0 = it has none.
    """

    engine: str
    at: float
    error: str = ""
    detail: str = ""
    kind: str = ""
    version: str = ""
    process_start: float | None = None
    created: float | None = None
    counters: Mapping[Key, float] = field(default_factory=dict)
    histograms: Mapping[Key, Histogram] = field(default_factory=dict)
    gauges: Mapping[tuple[str, str], float] = field(default_factory=dict)
    vital: tuple[float, ...] = ()
    phase_groups: int = 0
    missing: tuple[str, ...] = ()
    traits: Traits = Traits()


Signal = EngineSignal | GpuReading | HostReading | Holdings | Pods | Traced
