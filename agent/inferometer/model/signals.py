"""Signal: what a sample means, in the same words for every engine."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from inferometer.model.gpus import GpuReading, Holdings, HostReading
from inferometer.model.histograms import Histogram
from inferometer.model.pods import Pods
from inferometer.model.requests import Traced
from inferometer.model.shapes import NO_SERIES, Key, Shape


class Traits(Struct, frozen=True):
    """What an engine means by its numbers, from its adapter.

    ``cached_in_prompt``: prompt tokens include the cached ones.
    ``single_token_has_tpot``: a request of one output token leaves an observation in TPOT.
    """

    cached_in_prompt: bool = True
    single_token_has_tpot: bool = True


class EngineSignal(Struct, frozen=True):
    """An engine's page in engine-neutral words: ``numbers`` are the counters and histograms of ``shape``, as totals.

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
    shape: Shape = NO_SERIES
    numbers: tuple[float, ...] = ()
    gauges: Mapping[tuple[str, str], float] = field(default_factory=dict)
    vital: tuple[float, ...] = ()
    phase_groups: int = 0
    missing: tuple[str, ...] = ()
    traits: Traits = Traits()

    @property
    def counters(self) -> dict[Key, float]:
        """All counters, made anew at each call."""
        return self.shape.series(self.numbers)[0]

    @property
    def histograms(self) -> dict[Key, Histogram]:
        """All histograms, made anew at each call."""
        return self.shape.series(self.numbers)[1]


Signal = EngineSignal | GpuReading | HostReading | Holdings | Pods | Traced
