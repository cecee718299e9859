"""The nouns of the stream, in the order the data flows: Sample → Signal → Interval → Entry → Snapshot.

Units everywhere: seconds, joules, watts, bytes, tokens, money in the ledger's one currency.
``at`` is steady time (CLOCK_BOOTTIME live, the recorded time in a replay): it never steps.
``wall`` and ``until`` are unix time: only tariffs, calendars and people need it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

Labels = tuple[tuple[str, str], ...]
Account = tuple[str, tuple[str, ...]]
"""A metric's name and its label values, in the order in which the catalog lists the labels."""

PER_ENGINE = frozenset(
    {
        "inferometer_tokens_total",
        "inferometer_reasoning_tokens_total",
        "inferometer_wasted_tokens_total",
        "inferometer_requests_total",
        "inferometer_gpu_seconds_total",
    }
)
"""Accounts of a workload whose second label is the engine."""


def by_workload(account: Account) -> Account | None:
    """The account without its engine; None for accounts that are not a workload's."""
    name, labels = account
    if name == "inferometer_resets_total":
        return None
    return (name, (labels[0], *labels[2:])) if name in PER_ENGINE else account


INPUT_UNCACHED, INPUT_CACHED, OUTPUT = "input_uncached", "input_cached", "output"
TOKEN_TYPES = (INPUT_UNCACHED, INPUT_CACHED, OUTPUT)
OUTCOMES = ("ok", "error", "aborted", "rejected", "vanished")
STATES = ("busy", "idle", "stalled", "unknown")
SLOS = ("ttft", "tpot", "e2e")
LATENCIES = SLOS


# -- Sample: what a source read ------------------------------------------------------------------


class Series(Struct, frozen=True, gc=False):
    """The name and labels of one line of a metrics page; labels in page order."""

    name: str
    labels: Labels


class Page(Struct, frozen=True):
    """One reading of a /metrics page. ``error`` is empty when the page was read whole."""

    source: str
    at: float
    error: str = ""
    series: tuple[tuple[Series, float], ...] = ()
    malformed: int = 0
    seconds: float = 0.0
    detail: str = ""


class Gpu(Struct, frozen=True):
    """One GPU as its driver reports it; None is a reading that the device does not give."""

    uuid: str
    index: int
    name: str = ""
    up: bool = True
    power_watts: float | None = None
    energy_joules: float | None = None
    utilization_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_celsius: float | None = None
    power_limit_watts: float | None = None


class GpuReading(Struct, frozen=True):
    """One reading of all visible GPUs. ``error`` is empty when the driver answered."""

    source: str
    at: float
    error: str = ""
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    seconds: float = 0.0
    detail: str = ""


Sample = Page | GpuReading


class Batch(Struct, frozen=True):
    """What arrived together. Without samples it is a tick of the clock."""

    at: float
    wall: float
    samples: tuple[Sample, ...] = ()


# -- Signal: what it means, the same words for every engine ---------------------------------------


class Histogram(Struct, frozen=True):
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
        counts = tuple(a - b for a, b in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.edges, counts, self.sum - earlier.sum)

    def plus(self, other: Histogram) -> Histogram:
        """Observations of both; both have the same edges."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.edges, counts, self.sum + other.sum)


class Traits(Struct, frozen=True):
    """What an engine means by its numbers, from its adapter.

    ``cached_in_prompt``: prompt tokens include the cached ones.
    ``single_token_has_tpot``: a request of one output token leaves an observation in TPOT.
    """

    cached_in_prompt: bool = True
    single_token_has_tpot: bool = True


class Key(Struct, frozen=True, gc=False):
    """One series of one signal: what it means, for which model and tenant, and which raw label set it came from."""

    signal: str
    model: str
    series: str
    tenant: str = ""


class EngineSignal(Struct, frozen=True):
    """An engine's page in engine-neutral words. Counters and histograms are as the page has them: totals.

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


Signal = EngineSignal | GpuReading


# -- Interval: change between two readings, resets and gaps handled --------------------------------


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


class Stratum(Struct):
    """A stretch over which goodput is bounded (formulas §7.4): what finished in it, what was in flight at its start.

    ``carried``: the TTFTs of earlier strata among which those of the requests in flight are; None where unknown.
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

    @property
    def finished(self) -> float:
        """Requests that ended in the stratum with an outcome on the page."""
        return self.ok + self.failed

    @property
    def judged(self) -> float:
        """The denominator of every SLO ratio."""
        return self.finished + self.rejected + self.vanished


class Interval(Struct):
    """One engine's settled stretch of time: ``seconds`` of wall clock that end at ``until`` (unix).

    ``part``: the engine's share of what its workload holds; the parts of a workload add up to 1.
    ``source``: what its page is read from, '' where nothing is read.
    ``tenants``: tokens by tenant and type, where the engine says who asked and the owner wants to know.
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
    joules: float = 0.0
    resets: int = 0
    models: dict[str, ModelChange] = field(default_factory=dict)
    tenants: dict[str, dict[str, float]] = field(default_factory=dict)
    strata: list[Stratum] = field(default_factory=list)


# -- Entry: settled money, energy and requests -----------------------------------------------------


class Entry(Struct):
    """What one interval adds to the totals. Zero amounts open their account at 0."""

    workload: str
    until: float
    amounts: dict[Account, float] = field(default_factory=dict)
    histograms: dict[Account, Histogram] = field(default_factory=dict)


# -- Snapshot: the immutable state that every reader renders ---------------------------------------


class EngineView(Struct, frozen=True):
    """The newest page of one engine, for people."""

    workload: str
    engine: str
    up: bool
    state: str = "unknown"
    kind: str = ""
    version: str = ""
    gauges: Mapping[tuple[str, str], float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class SourceView(Struct, frozen=True):
    """How one source is doing. ``source`` carries scheme, host and path only."""

    source: str
    up: bool
    read_seconds: float = 0.0
    last_success: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    detail: str = ""


class Snapshot(Struct, frozen=True):
    """All that is exposed, at one instant. ``totals`` and ``histograms`` are committed to the ledger."""

    wall: float
    totals: Mapping[Account, float] = field(default_factory=dict)
    created: Mapping[Account, float] = field(default_factory=dict)
    histograms: Mapping[Account, Histogram] = field(default_factory=dict)
    values: Mapping[Account, float] = field(default_factory=dict)
    engines: tuple[EngineView, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    sources: tuple[SourceView, ...] = ()
    hints: tuple[str, ...] = ()
    currency: str = "USD"
