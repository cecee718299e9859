"""Meter: readings of many engines in, settled stretches of time out. Time comes with the batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct, field

from inferometer.interval import verdicts
from inferometer.interval.engine import EngineState, Reading
from inferometer.interval.joules import Assumed, Joules
from inferometer.interval.rest import rests, working
from inferometer.interval.roles import scoped
from inferometer.interval.watch import Watch, Watched
from inferometer.model import (
    Batch,
    EngineSignal,
    EngineView,
    Gpu,
    GpuReading,
    HostReading,
    Interval,
    ModelChange,
    Signal,
    Stratum,
    Traced,
)

_HELD_BEYOND_READING_SECONDS = 900.0


class _Engine(Struct):
    """An engine in the meter's hands. ``away``: the agent was, and the gap is not settled yet."""

    watch: Watch
    watched: Watched
    state: EngineState | None = None
    away: bool = False
    up: bool = False
    label: str = "unknown"
    signal: EngineSignal | None = None
    known_models: set[str] = field(default_factory=set)


class _Mark(Struct):
    """An engine's state as the ledger keeps it: ``ahead`` is what the wall clock was ahead of the steady one.

    ``left``: it was no longer followed, so that the time since is none of its workload's.
    """

    ahead: float
    state: EngineState
    left: bool = False

    def shifted(self, ahead: float) -> EngineState:
        """The state, with its times on a steady clock that the wall clock is ``ahead`` of."""
        self.state.shift(self.ahead - ahead)
        return self.state


class _Common(Struct):
    """What the ledger keeps beside the engines' states."""

    watched_since: dict[str, float]
    joules: Joules
    ahead: float = 0.0


class Meter:
    """Follows every watched engine; ``interval`` is the time in seconds between two readings of one.

    ``watched_since``: unix time since when a workload has been watched; workloads that are not in it start now.
    """

    def __init__(self, watches: Iterable[Watch], interval: float) -> None:
        self.watched_since: dict[str, float] = {}
        self.joules = Joules()
        self._interval = interval
        self._engines: dict[str, _Engine] = {}
        self._left: dict[str, bytes] = {}
        self._done: list[Interval] = []
        self._changed: set[str] = set()
        self._gpus: dict[str, Gpu] = {}
        self._at = self._ahead = 0.0
        self.watch(watches, interval)

    def watch(self, watches: Iterable[Watch], interval: float, assumed: Assumed = Assumed()) -> None:  # noqa: B008
        """Follow these workloads from now on; engines that stay keep their state, those that return their counters."""
        self._interval, self._assumed = interval, assumed
        old, self._engines = self._engines, {}
        for watch in watches:
            for watched in watch.members:
                name = _name(watch, watched)
                engine = self._engines[name] = old.pop(name) if name in old else _Engine(watch, watched)
                if engine.watched.gpus != watched.gpus:
                    self._cut(engine)
                engine.watch, engine.watched = watch, watched
        workloads = {engine.watch.workload for engine in self._engines.values()}
        for name, engine in old.items():
            if engine.state is not None:
                self._leave(name, engine, engine.state, settle=engine.watch.workload in workloads)

    def add(self, batch: Batch, signals: Iterable[Signal]) -> None:
        """Take what one batch brought."""
        self._at, self._ahead = batch.at, batch.wall - batch.at
        for name, engine in self._engines.items():
            self.watched_since.setdefault(engine.watch.workload, batch.wall)
            if engine.state is None:
                engine.state = self._first_state(name)
                self._changed.add(name)
        for signal in signals:
            if isinstance(signal, GpuReading):
                self._add_gpus(signal)
            elif isinstance(signal, HostReading):
                self.joules.read_host(signal, self._watches(), resting=all(map(self._rests, self._watches())))
            elif isinstance(signal, EngineSignal) and signal.engine in self._engines:
                self._add_engine(self._engines[signal.engine], signal)
            elif isinstance(signal, Traced) and signal.engine in self._engines:
                self._add_spans(self._engines[signal.engine], signal)
        if self._assumed.host_watts is not None:
            self.joules.tick_host(batch.at, self._assumed.host_watts, self._watches(), self._interval)

    def due(self, at: float) -> list[Interval]:
        """All stretches that ended, time without any reading included once it is older than two intervals."""
        for engine in self._engines.values():
            state = engine.state
            if state is None:
                continue
            if not engine.watched.engine and engine.away:
                self._come_back(engine, state, at)
            since = state.read_at if state.read_at is not None else -1e300
            silent = at - since > 2 * self._interval or not engine.watched.engine
            if silent and not engine.away and at > state.settled_at:
                engine.up, engine.label = False, "unknown"
                interval = self._silence(engine, at)
                self._tell(engine, state, interval)
                if _judges(engine):
                    interval.strata = verdicts.late(state, engine.watch, engine.watched, at, self._ahead)
                self._done.append(interval)
        done, self._done = self._done, []
        return done

    def finish(self, at: float) -> list[Interval]:
        """The recording is over: settle the rest up to ``at`` and end all strata."""
        done = self.due(at)
        for engine in self._engines.values():
            if engine.state is not None:
                last = self._close(engine, at, engine.label)
                last.strata = self._last(engine, engine.state, at)
                self._tell(engine, engine.state, last)
                done.append(last)
        return done

    def settled(self) -> bool:
        """Whether the time that the agent was away is settled for every engine."""
        return not any(engine.away for engine in self._engines.values())

    def settled_until(self) -> dict[str, float]:
        """Unix time up to which every second of a workload is settled."""
        until: dict[str, float] = {}
        for engine in self._engines.values():
            if engine.state is not None:
                name, at = engine.watch.workload, engine.state.settled_at + self._ahead
                until[name] = min(until.get(name, at), at)
        return until

    def pending(self) -> dict[str, float]:
        """Requests by workload that wait for their stratum to end."""
        waiting: dict[str, float] = {}
        for engine in self._engines.values():
            name = engine.watch.workload
            mine = verdicts.pending(engine.state) if engine.state is not None and _judges(engine) else 0.0
            waiting[name] = waiting.get(name, 0.0) + mine
        return waiting

    def marks(self) -> dict[str, bytes]:
        """The states that changed since the last call, by name, for the ledger."""
        marks = {name: self._left[name] for name in self._changed & self._left.keys()}
        for name in self._changed & self._engines.keys():
            state = self._engines[name].state
            if state is not None:
                marks[name] = msgspec.msgpack.encode(_Mark(self._ahead, state))
        self._changed.clear()
        marks[""] = msgspec.msgpack.encode(_Common(self.watched_since, self.joules, self._ahead))
        return marks

    def restore(self, marks: Mapping[str, bytes], ahead: float) -> None:
        """Go on from a ledger's marks. ``ahead``: seconds by which the wall clock is ahead of the steady one now."""
        self._left, self._ahead = dict(marks), ahead
        common = self._left.pop("", None)
        if common is not None:
            kept = msgspec.msgpack.decode(common, type=_Common)
            self.watched_since, self.joules = kept.watched_since, kept.joules
            self.joules.shift(kept.ahead - ahead)
        for name in self._engines.keys() & self._left.keys():
            mark = _decoded(self._left[name])
            if not mark.left:
                del self._left[name]
                self._engines[name].state, self._engines[name].away = mark.shifted(ahead), True

    def views(self) -> tuple[EngineView, ...]:
        """Every engine as its newest page shows it."""
        return tuple(_view(engine) for engine in self._engines.values() if engine.watched.engine)

    def _watches(self) -> list[Watch]:
        """Every workload once."""
        return list({engine.watch.workload: engine.watch for engine in self._engines.values()}.values())

    def _add_gpus(self, reading: GpuReading) -> None:
        self._gpus |= {gpu.uuid: gpu for gpu in reading.gpus}
        self.joules.read(reading, self._watches(), self._rests, self._assumed, self._interval)

    def _rests(self, watch: Watch, gpu: Gpu | None = None) -> bool:
        """Whether a workload leaves a GPU, or all of its own, with nothing to do.

        Its engines are up, and say so; or the GPU itself is measured to do nothing, whatever its engines' others do.
        """
        engines = [self._engines[member.engine] for member in watch.engines]
        if engines and all(e.up and e.label == "idle" and e.state and e.state.pulse.at_rest for e in engines):
            return True
        held = [gpu] if gpu is not None else [self._gpus[hold.gpu] for hold in watch.holds if hold.gpu in self._gpus]
        return all(e.up for e in engines) and all(map(rests, held)) and bool(held or not engines)

    def _cut(self, engine: _Engine) -> None:
        """From now on the engine holds more or fewer GPUs: what it held until now is settled as it was."""
        if engine.state is not None and not engine.away and self._at > engine.state.settled_at:
            self._done.append(self._close(engine, self._at, engine.label))

    def _silence(self, engine: _Engine, at: float) -> Interval:
        """A stretch in which no page told anything: of a workload without engines the GPUs may tell."""
        interval = self._close(engine, at, "unknown")
        if not engine.watched.engine:
            interval.working = working(engine.watch.holds, self._gpus)
            if interval.working is not None:
                interval.state = "busy" if interval.working > 0 else "idle"
        return interval

    def _first_state(self, name: str) -> EngineState:
        """An engine's time starts now; its counters go on where they were when it was followed before."""
        if name not in self._left:
            return EngineState(settled_at=self._at)
        state = _decoded(self._left.pop(name)).shifted(self._ahead)
        state.settled_at = self._at
        return state

    def _leave(self, name: str, engine: _Engine, state: EngineState, *, settle: bool) -> None:
        """The engine is no longer followed: ``settle`` what it did until now, and remember its counters."""
        if settle and not engine.away:
            last = self._close(engine, self._at, engine.label)
            last.strata = self._last(engine, state, self._at)
            self._tell(engine, state, last)
            self._done.append(last)
        self._left[name] = msgspec.msgpack.encode(_Mark(self._ahead, state, left=True))
        self._changed.add(name)

    def _add_engine(self, engine: _Engine, signal: EngineSignal) -> None:
        state = engine.state
        if state is None:
            return
        engine.up = not signal.error
        if signal.error:
            state.refused = state.refused or (state.read_at is None and signal.error == "refused")
            if engine.away:
                self._come_back(engine, state, signal.at)
            return
        engine.signal = signal
        born = signal.process_start if signal.process_start is not None else signal.created
        if engine.away:
            self._come_back(engine, state, signal.at, None if born is None else born - self._ahead)
        before, was_running = state.read_at, state.running
        reading = state.read(signal, self._watched_since(engine))
        for model in state.models.keys() - engine.known_models:  # opens its accounts at zero
            engine.known_models.add(model)
            reading.models.setdefault(model, _unmoved(model, signal))
        reading = scoped(reading, engine.watch.scope(engine.watched))
        since = before if before is not None else state.settled_at
        running = was_running > 0 or state.running > 0
        engine.label = self._label(reading, signal.at - since, running=running)
        interval = self._close(engine, signal.at, engine.label)
        interval.resets = reading.resets
        if _judges(engine):
            page = (signal, before, self._ahead)
            interval.strata = verdicts.ended(state, engine.watch, engine.watched, reading, page)
        interval.models, interval.phases, interval.tenants = reading.models, reading.phases, reading.tenants
        self._tell(engine, state, interval)
        self._done.append(interval)

    def _watched_since(self, engine: _Engine) -> float:
        """Unix time since when tokens of this engine cannot have been anybody else's to count."""
        since, looked = self.watched_since[engine.watch.workload], engine.watched.since
        return since if looked is None else min(since, looked + self._ahead)

    def _add_spans(self, engine: _Engine, traced: Traced) -> None:
        if engine.state is not None and _judges(engine):
            arrived = traced.at + self._ahead
            engine.state.traces.add(traced.requests, arrived, engine.watch.limits_of)
            self._changed.add(_name(engine.watch, engine.watched))

    def _last(self, engine: _Engine, state: EngineState, at: float) -> list[Stratum]:
        return verdicts.last(state, engine.watch, engine.watched, at, self._ahead) if _judges(engine) else []

    def _tell(self, engine: _Engine, state: EngineState, interval: Interval) -> None:
        counters = engine.signal.counters if engine.signal is not None else ()
        reasoning = any(key.signal == "reasoning_tokens" for key in counters)
        verdicts.tell(interval, state, engine.watched, page_counts_reasoning=reasoning)

    def _label(self, reading: Reading, gap: float, *, running: bool) -> str:
        if gap > 2 * self._interval:
            return "unknown"
        if reading.stalled:
            return "stalled"
        return "busy" if reading.moved or running else "idle"

    def _come_back(self, engine: _Engine, state: EngineState, at: float, born: float | None = None) -> None:
        """Settle the agent's own absence as far as the GPUs were provably held (design §7, agent away).

        Without a page (or a start time on it) nothing is proven beyond 15 min after the last reading.
        """
        engine.away = False
        gap_start = state.settled_at
        if born is not None:
            lost = min(max(born, gap_start), at) - gap_start
        else:
            last = state.read_at if state.read_at is not None else gap_start
            lost = max(0.0, at - max(gap_start, last + _HELD_BEYOND_READING_SECONDS))
        if born is None and lost > 0:
            self._done.append(self._close(engine, at - lost, "unknown"))
        if lost > 0:
            state.settled_at += lost
            empty = self._close(engine, state.settled_at, "unknown")
            empty.unaccounted_seconds = lost * engine.watched.gpus
            self._done.append(empty)

    def _close(self, engine: _Engine, at: float, label: str) -> Interval:
        state = engine.state
        if state is None:
            raise AssertionError("an engine is closed only after its first batch")
        self._changed.add(_name(engine.watch, engine.watched))
        seconds = max(0.0, at - state.settled_at)
        state.settled_at = max(at, state.settled_at)
        used = self.joules.take(engine.watch.workload, engine.watched.engine)
        return Interval(
            workload=engine.watch.workload,
            engine=engine.watched.engine,
            until=state.settled_at + self._ahead,
            seconds=seconds,
            gpus=engine.watched.gpus,
            state=label,
            part=engine.watch.part(engine.watched),
            source=engine.watched.source or engine.watched.engine,
            role=engine.watched.role,
            energy=used.energy,
            metered_gpu_seconds=used.metered_gpu_seconds,
            meter_resets=self.joules.take_resets(),
        )


def _name(watch: Watch, watched: Watched) -> str:
    return watched.engine or f"({watch.workload})"


def _judges(engine: _Engine) -> bool:
    """Whether this engine's page is one that counts its workload's requests."""
    return engine.watch.scope(engine.watched).requests


def _unmoved(model: str, signal: EngineSignal) -> ModelChange:
    """A model of which only the baseline is known: nothing moved, but this is what its engine measures."""
    measured = {key.signal: h.minus(h) for key, h in signal.histograms.items() if key.model == model}
    return ModelChange(latencies=measured)


def _decoded(mark: bytes) -> _Mark:
    return msgspec.msgpack.decode(mark, type=_Mark)


def _view(engine: _Engine) -> EngineView:
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
