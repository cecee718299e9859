"""Interval: change between two readings, resets and gaps handled."""

from __future__ import annotations

from msgspec import Struct, field

from inferometer.model.histograms import Histogram
from inferometer.model.verdicts import Tally, Verdicts

Energy = dict[tuple[str, str, str], float]
"""Joules by component (gpu, host), state (active, idle, unknown) and method (counter, samples, estimated)."""


class ModelChange(Struct):
    """What one model did in an interval: tokens by type, requests by outcome, latencies observed.

    ``seen``: tokens that the page shows and that another page of the workload counts; None where this one counts.
    """

    tokens: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] | None = None
    wasted: float = 0.0
    reasoning: float = 0.0
    outcomes: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, Histogram] = field(default_factory=dict)


class Stratum(Struct, omit_defaults=True):
    """A stretch over which goodput is bounded (formulas §7.4): what finished in it, what was in flight at its start.

    ``carried``: the TTFTs of earlier strata among which those of the requests in flight are; None where unknown.
    ``spans``: what spans said; their requests are no longer in the rest of the stratum.
    ``blur``: so many of its requests may be others than those that its counts and latencies are of.
    """

    model: str
    began: float
    in_flight: float = 0.0
    carried: Histogram | None = None
    ok: float = 0.0
    failed: float = 0.0
    rejected: float = 0.0
    vanished: float = 0.0
    latencies: dict[str, Histogram] = field(default_factory=dict)
    single_token_has_tpot: bool = True
    spans: Verdicts | None = None
    blur: float = 0.0

    @property
    def finished(self) -> float:
        """Requests that ended in the stratum with an outcome on the page."""
        return self.ok + self.failed

    @property
    def judged(self) -> float:
        """The denominator of every SLO ratio, as far as no span judged."""
        return self.finished + self.rejected + self.vanished


class Recent(Struct, omit_defaults=True):
    """Busy seconds and tokens by model and type, each counted less the longer it is ago."""

    seconds: float = 0.0
    tokens: dict[str, dict[str, float]] = field(default_factory=dict)


class Interval(Struct):
    """One engine's settled stretch of time: ``seconds`` of wall clock that end at ``until`` (unix).

    ``part``: the engine's share of what its workload holds; the parts of a workload add up to 1.
    ``source``: what its page is read from, '' where nothing is read.
    ``tenants``: tokens by tenant and type, where the engine says who asked and the owner wants to know.
    ``energy``: of the GPUs and the host; ``metered_gpu_seconds``: the GPU time held that a meter covers.
    ``working``: the share of the GPUs held that worked, where nothing but the GPUs tells; None = not measured.
    ``meter_resets``: energy counters that were reset, by source; posted with any one engine's interval.
    ``traced``: spans may judge; ``exact``: they came within the hour, so that latencies are those of spans.
    ``tallies``: what spans that came meanwhile say, by model. ``recent``: the work of about the last ten minutes.
    ``opens``: accounts of which nothing moved are opened too; where they are open already that is in vain.
    ``role``: both, prefill, decode or frontend. ``phases``: GPU seconds of prefill and decode that the engine reports.
    """

    workload: str
    engine: str
    until: float
    seconds: float
    gpus: float
    state: str
    part: float = 1.0
    source: str = ""
    role: str = "both"
    phases: tuple[float, float] | None = None
    unaccounted_seconds: float = 0.0
    energy: Energy = field(default_factory=dict)
    metered_gpu_seconds: float = 0.0
    working: float | None = None
    meter_resets: dict[str, int] = field(default_factory=dict)
    resets: int = 0
    models: dict[str, ModelChange] = field(default_factory=dict)
    tenants: dict[str, dict[str, float]] = field(default_factory=dict)
    strata: list[Stratum] = field(default_factory=list)
    traced: bool = False
    exact: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)
    recent: Recent | None = None
    opens: bool = True

    def joules(self, *, estimated: bool = True) -> float:
        """Joules of the GPUs and the host; without what is ``estimated``, what their meters counted."""
        return sum(joules for (_, _, method), joules in self.energy.items() if estimated or method != "estimated")
