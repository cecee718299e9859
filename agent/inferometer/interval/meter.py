"""Meter: readings of many engines in, settled stretches of time out. Time comes with the batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferometer.interval import verdicts
from inferometer.interval.absence import unproven_seconds
from inferometer.interval.capacity import Capacity
from inferometer.interval.engine import EngineState
from inferometer.interval.followed import (
    Followed,
    judges,
    label,
    name_of,
    unmoved,
    view,
)
from inferometer.interval.joules import Assumed, Joules
from inferometer.interval.kept import Common, Kept, Mark, common, decoded, encoded, watched_since
from inferometer.interval.left import Left
from inferometer.interval.places import places
from inferometer.interval.rest import Activity
from inferometer.interval.roles import scoped
from inferometer.interval.room import Room
from inferometer.interval.watch import Watch
from inferometer.model import (
    Batch,
    EngineSignal,
    EngineView,
    Gpu,
    GpuReading,
    HostReading,
    Interval,
    Signal,
    Stratum,
    Traced,
)

_KNOWN_AGAIN_SECONDS = 60.0
_STEP_SECONDS = 0.001
_TIME_TO_RETURN_SECONDS = 3600.0


class Meter:
    """Follows every watched engine; ``interval`` is the time in seconds between two readings of one.

    ``watched_since``: unix time since when a workload has been watched; workloads that are not in it start now.
    ``capacity``: how many series are followed.
    """

    def __init__(self, watches: Iterable[Watch], interval: float) -> None:
        self.watched_since: dict[str, float] = {}
        self.joules = Joules()
        self._interval = interval
        self._engines: dict[str, Followed] = {}
        self._left = Left()
        self._kept = Kept()
        self._gone: frozenset[str] = frozenset()
        self._missing: frozenset[str] = frozenset()
        self._done: list[Interval] = []
        self._changed: set[str] = set()
        self._activity = Activity()
        self.capacity = Capacity()
        self._at = self._ahead = 0.0
        self._began: float | None = None
        self.watch(watches, interval)

    def watch(
        self,
        watches: Iterable[Watch],
        interval: float,
        assumed: Assumed = Assumed(),  # noqa: B008
        room: Room = Room(),  # noqa: B008
    ) -> None:
        """Follow these workloads from now on; engines that stay keep their state, those that return their counters."""
        self._interval, self._assumed, self.capacity.room, self._has_new = interval, assumed, room, True
        old, self._engines = self._engines, {}
        for watch in watches:
            for watched, part, scope in zip(watch.members, watch.parts(), watch.scopes(), strict=True):
                name = name_of(watch, watched)
                new = Followed(watch, watched, part, scope)
                engine = self._engines[name] = old.pop(name) if name in old else new
                if engine.watched.gpus != watched.gpus or engine.watch.workload != watch.workload:
                    self._cut(engine)
                engine.watch, engine.watched, engine.part, engine.scope = watch, watched, part, scope
                engine.opened = None  # what it is settled by may have changed
        workloads = {engine.watch.workload for engine in self._engines.values()}
        for name, engine in old.items():
            if engine.state is not None:
                self._leave(name, engine, engine.state, settle=engine.watch.workload in workloads)

    def add(self, batch: Batch, signals: Iterable[Signal]) -> None:
        """Take what one batch brought."""
        self._see_time(batch)
        for name, engine in self._engines.items() if self._has_new else ():
            self.watched_since.setdefault(engine.watch.workload, batch.wall)
            if engine.state is None:
                self._begin(name, engine)
                self._changed.add(name)
        self._has_new = False
        for signal in signals:
            if isinstance(signal, GpuReading):
                self._activity.take(signal)
                self.joules.read(signal, self._watches(), self._rests, self._assumed, self._interval)
            elif isinstance(signal, HostReading):
                self.joules.read_host(signal, self._watches(), resting=all(map(self._rests, self._watches())))
            elif isinstance(signal, EngineSignal) and signal.engine in self._engines:
                self._add_engine(self._engines[signal.engine], signal)
            elif isinstance(signal, Traced) and signal.engine in self._engines:
                self._add_spans(self._engines[signal.engine], signal)
        if self._assumed.host_watts is not None:
            self.joules.tick_host(batch.at, self._assumed.host_watts, self._watches(), self._interval)

    def _see_time(self, batch: Batch) -> None:
        """What began in the past began at the same moment still when somebody sets the wall clock."""
        ahead = batch.wall - batch.at
        if self._began is None:
            self._began = batch.at
        elif (batch.at, ahead) == (self._at, self._ahead):
            return  # another part of the same batch
        elif abs(ahead - self._ahead) > _STEP_SECONDS:
            self.watched_since = {name: since + ahead - self._ahead for name, since in self.watched_since.items()}
        self._at, self._ahead = batch.at, ahead
        self._activity.see(batch.at, self._interval)
        if batch.at - self._began > _TIME_TO_RETURN_SECONDS:
            read = {engine.watched.source for engine in self._engines.values()}
            self._changed |= self._left.forget(batch.at, ahead) - read
            followed = {engine.watch.workload for engine in self._engines.values()}
            self.watched_since = self._left.watched(self.watched_since, followed, batch.at)

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
                if judges(engine):
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
            mine = verdicts.pending(engine.state) if engine.state is not None and judges(engine) else 0.0
            waiting[name] = waiting.get(name, 0.0) + mine
        return waiting

    def marks(self) -> dict[str, bytes]:
        """The states that changed since the last call, by name, for the ledger."""
        marks: dict[str, bytes] = {}
        for name in self._changed:
            engine = self._engines.get(name)
            if engine is None:
                marks |= self._kept.left(name, self._left.marks.get(name, b""))
            elif engine.state is not None:
                marks |= self._kept.mark(name, engine, engine.state, self._ahead)
        self._changed.clear()
        gone = tuple(sorted(self._left.marks.keys() & (self._gone | self._missing)))
        rest = Common(self.watched_since, self.joules, self._ahead, gone, self._left.forgotten)
        marks[""] = encoded(rest)
        return marks

    def restore(self, marks: Mapping[str, bytes], ahead: float) -> list[str]:
        """Go on from a ledger's marks. ``ahead``: seconds by which the wall clock is ahead of the steady one now.

        Returns what cannot be understood, each with the reason: of these only what happened since is lost.
        """
        self._ahead = ahead
        faults = []
        try:
            if "" in marks:
                self._restore_common(marks[""], ahead)
        except (ValueError, RecursionError) as error:
            faults.append(f"energy counters: {error}")
        for name, mark, series in self._kept.restored(marks):
            try:
                whole = decoded(mark, series)
                self._left.keep(name, encoded(whole), whole.settled_at(ahead), whole.source)
            except (ValueError, RecursionError) as error:
                faults.append(f"{name}: {error}")
        for name in (self._engines.keys() & self._left.marks.keys()) - self._gone:
            if not decoded(self._left.marks[name]).left:
                self._resume(self._engines[name], decoded(self._left.take(name)))
        self._missing = frozenset(self._left.marks) - self._gone
        return faults

    def _restore_common(self, mark: bytes, ahead: float) -> None:
        """What is not one engine's. An older version's energy counters may not fit; since when we watch always does."""
        self.watched_since = watched_since(mark)
        kept = common(mark)
        self.joules, self._gone = kept.joules, frozenset(kept.gone)
        self._left.forgotten = kept.forgotten
        self.joules.shift(kept.ahead - ahead)

    def _resume(self, engine: Followed, mark: Mark) -> None:
        """Go on where the agent stopped: the time since is still to be settled."""
        engine.state, engine.away, engine.kept = mark.shifted(self._ahead), True, mark.gpus
        self.capacity.take(engine.state)

    def views(self) -> tuple[EngineView, ...]:
        """Every engine as its newest page shows it."""
        return tuple(view(engine) for engine in self._engines.values() if engine.watched.engine)

    def _watches(self) -> list[Watch]:
        """Every workload once."""
        return list({engine.watch.workload: engine.watch for engine in self._engines.values()}.values())

    def _rests(self, watch: Watch, gpu: Gpu | None = None) -> bool:
        """Whether a workload leaves a GPU, or all of its own, with nothing to do.

        Its engines are up, and say so; or the GPU itself is measured to do nothing, whatever its engines' others do.
        """
        engines = [self._engines[member.engine] for member in watch.engines]
        if engines and all(e.up and e.label == "idle" and e.state and e.state.pulse.at_rest for e in engines):
            return True
        rests = self._activity.rests(watch, gpu)
        return all(e.up for e in engines) and (not engines if rests is None else rests)

    def _cut(self, engine: Followed) -> None:
        """From now on the engine holds more or fewer GPUs: what it held until now is settled as it was."""
        if engine.state is not None and not engine.away and self._at > engine.state.settled_at:
            self._done.append(self._close(engine, self._at, engine.label))

    def _silence(self, engine: Followed, at: float) -> Interval:
        """A stretch in which no page told anything: of a workload without engines the GPUs may tell."""
        interval = self._close(engine, at, "unknown")
        if not engine.watched.engine:
            interval.working = self._activity.working(engine.watch.holds)
            if interval.working is not None:
                interval.state = "busy" if interval.working > 0 else "idle"
        return interval

    def _begin(self, name: str, engine: Followed) -> None:
        """An engine's time starts now; its counters go on where they were when it was followed before.

        Soon after the agent's start it may be one that was followed all the time, and is known again only now: what
        nobody holds is known with the first reading of the GPUs.
        """
        if name not in self._left.marks:
            engine.state = EngineState(settled_at=self._at)
            return
        mark = decoded(self._left.take(name))
        known_again = self._began is not None and self._at - self._began <= _KNOWN_AGAIN_SECONDS
        if known_again and not mark.left and name not in self._gone:
            self._resume(engine, mark)
            return
        engine.state = mark.shifted(self._ahead)
        engine.state.settled_at = self._at
        self.capacity.take(engine.state)

    def _leave(self, name: str, engine: Followed, state: EngineState, *, settle: bool) -> None:
        """The engine is no longer followed: ``settle`` what it did until now, and remember its counters."""
        if settle and not engine.away:
            last = self._close(engine, self._at, engine.label)
            last.strata = self._last(engine, state, self._at)
            self._tell(engine, state, last)
            self._done.append(last)
        self.capacity.free(state)
        self.joules.take(engine.watch.workload, engine.watched.engine)  # of a workload that is gone, nobody's
        mark = Mark(self._ahead, state, left=True, source=engine.watched.source)
        state.marks.spell_out()
        self._left.keep(name, encoded(mark), self._at, mark.source)
        self._changed.add(name)

    def _add_engine(self, engine: Followed, signal: EngineSignal) -> None:
        state = engine.state
        if state is None:
            return
        engine.up = not signal.error
        if signal.error:
            state.refused = state.refused or (state.read_at is None and signal.error == "refused")
            if engine.away and (signal.error == "refused" or self._is_patient_no_more(signal.at)):
                self._come_back(engine, state, signal.at)
            return
        engine.signal = signal
        born = signal.process_start if signal.process_start is not None else signal.created
        if engine.away:
            self._come_back(engine, state, signal.at, None if born is None else born - self._ahead)
        before, was_running = state.read_at, state.running
        reading = self.capacity.read(state, signal, self._watched_since(engine))
        for model in state.models.keys() - engine.known_models:
            engine.known_models.add(model)
            reading.models.setdefault(model, unmoved(model, signal))
        reading = scoped(reading, engine.scope)
        since = before if before is not None else state.settled_at
        running = was_running > 0 or state.running > 0
        engine.label = "unknown" if signal.at - since > 2 * self._interval else label(reading, running=running)
        interval = self._close(engine, signal.at, engine.label)
        interval.resets = reading.resets
        if judges(engine):
            page = (signal, before, self._ahead)
            interval.strata = verdicts.ended(state, engine.watch, engine.watched, reading, page)
        interval.models, interval.phases, interval.tenants = reading.models, reading.phases, reading.tenants
        self._tell(engine, state, interval)
        interval.opens = engine.opens(interval)
        self._done.append(interval)

    def _is_patient_no_more(self, at: float) -> bool:
        """Whether an engine that does not answer had its time to: one slow page is no proof that nobody is there."""
        return self._began is None or at - self._began > 2 * self._interval

    def _watched_since(self, engine: Followed) -> float:
        """Unix time since when tokens of this engine cannot have been anybody else's to count."""
        since, looked = self.watched_since[engine.watch.workload], engine.watched.since
        since = since if looked is None else min(since, looked + self._ahead)
        return max(since, self._left.forgotten)  # it may be one that was known once

    def _add_spans(self, engine: Followed, traced: Traced) -> None:
        if engine.state is not None and judges(engine):
            arrived = traced.at + self._ahead
            engine.state.traces.add(traced.requests, arrived, engine.watch.limits_of)
            self._changed.add(name_of(engine.watch, engine.watched))

    def _last(self, engine: Followed, state: EngineState, at: float) -> list[Stratum]:
        return verdicts.last(state, engine.watch, engine.watched, at, self._ahead) if judges(engine) else []

    def _tell(self, engine: Followed, state: EngineState, interval: Interval) -> None:
        reasoning = engine.signal is not None and places(engine.signal.shape).reasoning
        verdicts.tell(interval, state, engine.watched, page_counts_reasoning=reasoning)

    def _come_back(self, engine: Followed, state: EngineState, at: float, born: float | None = None) -> None:
        """Settle the agent's own absence."""
        engine.away = False
        lost = unproven_seconds(state, at, born)
        held = engine.watched.gpus if engine.kept is None else engine.kept
        if born is None and lost > 0:
            self._done.append(self._close(engine, at - lost, "unknown", held))
        if lost > 0:
            state.settled_at += lost
            empty = self._close(engine, state.settled_at, "unknown", held)
            empty.unaccounted_seconds = lost * held
            self._done.append(empty)
        if held != engine.watched.gpus:  # which GPUs there are is not known yet, or they are others now
            self._done.append(self._close(engine, at, "unknown", held))

    def _close(self, engine: Followed, at: float, label: str, held: float | None = None) -> Interval:
        state = engine.state
        if state is None:
            raise AssertionError("an engine is closed only after its first batch")
        self._changed.add(name_of(engine.watch, engine.watched))
        seconds = max(0.0, at - state.settled_at)
        state.settled_at = max(at, state.settled_at)
        used = self.joules.take(engine.watch.workload, engine.watched.engine)
        return Interval(
            workload=engine.watch.workload,
            engine=engine.watched.engine,
            until=state.settled_at + self._ahead,
            seconds=seconds,
            gpus=engine.watched.gpus if held is None else held,
            state=label,
            part=engine.part,
            source=engine.watched.source or engine.watched.engine,
            role=engine.watched.role,
            energy=used.energy,
            metered_gpu_seconds=used.metered_gpu_seconds,
            meter_resets=self.joules.take_resets(),
        )
