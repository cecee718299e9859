"""What the meter has in its hands of one engine."""

from __future__ import annotations

from msgspec import Struct, field

from inferometer.interval.engine import EngineState, Reading
from inferometer.interval.watch import Scope, Watch, Watched
from inferometer.model import EngineSignal, EngineView, Interval, ModelChange


class Followed(Struct):
    """An engine in the meter's hands.

    ``part``: its share of what its workload holds; ``scope``: what counts on its page.
    ``away``: the agent was, and the gap is not settled yet; ``kept``: the GPUs that it held before.
    ``opened``: its accounts are by the policy of now, with those of spans or without; None: not yet. Likewise those of
    ``opened_models``. ``edges``: of the newest page's histograms; another object when they are others.
    """

    watch: Watch
    watched: Watched
    part: float
    scope: Scope
    state: EngineState | None = None
    away: bool = False
    kept: float | None = None
    up: bool = False
    label: str = "unknown"
    signal: EngineSignal | None = None
    known_models: set[str] = field(default_factory=set)
    opened: bool | None = None
    opened_models: set[str] = field(default_factory=set)
    edges: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def opens(self, interval: Interval) -> bool:
        """Whether the interval is the first of its kind: of the engine, of a model, with spans or without."""
        if self.opened != interval.traced:
            self.opened, self.opened_models = interval.traced, set()
        elif interval.models.keys() <= self.opened_models:
            return False
        self.opened_models |= interval.models.keys()
        return True


def name_of(watch: Watch, watched: Watched) -> str:
    """The name of an engine among all, in memory and in the ledger; of a workload without any, the workload's."""
    return watched.engine or f"({watch.workload})"


def judges(engine: Followed) -> bool:
    """Whether this engine's page is one that counts its workload's requests."""
    return engine.scope.requests


def label(reading: Reading, *, running: bool) -> str:
    """The state of the time before a page that came in time."""
    if reading.stalled:
        return "stalled"
    return "busy" if reading.moved or running else "idle"


def unmoved(model: str, signal: EngineSignal) -> ModelChange:
    """A model of which only the baseline is known: nothing moved, but this is what its engine measures."""
    measured = {key.signal: h.minus(h) for key, h in signal.histograms.items() if key.model == model}
    return ModelChange(latencies=measured)


def view(engine: Followed) -> EngineView:
    """The newest page of an engine, for people."""
    signal = engine.signal
    workload, name = engine.watch.workload, engine.watched.engine
    if signal is None:
        return EngineView(workload, name, up=engine.up)
    edges = {key.signal: edges for key, edges in signal.shape.histograms}
    if edges != engine.edges:
        engine.edges = edges
    return EngineView(
        workload=workload,
        engine=name,
        up=engine.up,
        state=engine.label,
        kind=signal.kind,
        version=signal.version,
        gauges=signal.gauges if engine.up else {},
        missing=signal.missing,
        edges=engine.edges,
    )
