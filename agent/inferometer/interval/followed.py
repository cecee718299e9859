"""What the meter has in its hands of one engine, and how the ledger keeps it."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from inferometer.interval.engine import EngineState
from inferometer.interval.joules import Joules
from inferometer.interval.watch import Watch, Watched
from inferometer.model import EngineSignal, EngineView, ModelChange


class Followed(Struct):
    """An engine in the meter's hands.

    ``away``: the agent was, and the gap is not settled yet; ``kept``: the GPUs that it held before.
    """

    watch: Watch
    watched: Watched
    state: EngineState | None = None
    away: bool = False
    kept: float | None = None
    up: bool = False
    label: str = "unknown"
    signal: EngineSignal | None = None
    known_models: set[str] = field(default_factory=set)


class Mark(Struct):
    """An engine's state as the ledger keeps it: ``ahead`` is what the wall clock was ahead of the steady one.

    ``left``: it was no longer followed, so that the time since is none of its workload's. ``gpus``: what it held.
    ``source``: what it was read from.
    """

    ahead: float
    state: EngineState
    left: bool = False
    gpus: float | None = None
    source: str = ""

    def settled_at(self, ahead: float) -> float:
        """Until when the engine's time is settled, on a steady clock that the wall clock is ``ahead`` of."""
        return self.state.settled_at + self.ahead - ahead

    def shifted(self, ahead: float) -> EngineState:
        """The state, with its times on a steady clock that the wall clock is ``ahead`` of."""
        self.state.shift(self.ahead - ahead)
        return self.state


class Common(Struct):
    """What the ledger keeps beside the engines' states. ``forgotten``: as Left has it."""

    watched_since: dict[str, float]
    joules: Joules
    ahead: float = 0.0
    forgotten: float = 0.0


def name_of(watch: Watch, watched: Watched) -> str:
    """The name of an engine among all, in memory and in the ledger; of a workload without any, the workload's."""
    return watched.engine or f"({watch.workload})"


def judges(engine: Followed) -> bool:
    """Whether this engine's page is one that counts its workload's requests."""
    return engine.watch.scope(engine.watched).requests


def unmoved(model: str, signal: EngineSignal) -> ModelChange:
    """A model of which only the baseline is known: nothing moved, but this is what its engine measures."""
    measured = {key.signal: h.minus(h) for key, h in signal.histograms.items() if key.model == model}
    return ModelChange(latencies=measured)


def decoded(mark: bytes) -> Mark:
    """What the ledger has; MsgspecError where it cannot be understood."""
    return msgspec.msgpack.decode(mark, type=Mark)


def view(engine: Followed) -> EngineView:
    """The newest page of an engine, for people."""
    signal = engine.signal
    workload, name = engine.watch.workload, engine.watched.engine
    if signal is None:
        return EngineView(workload, name, up=engine.up)
    edges = {key.signal: histogram.edges for key, histogram in signal.histograms.items()}
    return EngineView(
        workload=workload,
        engine=name,
        up=engine.up,
        state=engine.label,
        kind=signal.kind,
        version=signal.version,
        gauges=signal.gauges if engine.up else {},
        missing=signal.missing,
        edges=edges,
    )
