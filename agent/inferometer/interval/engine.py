"""One engine's readings, one after the other: restarts, token and request changes, strata, states of time."""

from __future__ import annotations

from msgspec import Struct, field

from inferometer.interval import strata
from inferometer.interval.marks import Change, Marks, total
from inferometer.interval.places import FAILED, MOVES, places
from inferometer.interval.room import Room, within
from inferometer.interval.tenants import tokens_by_tenant
from inferometer.interval.traced import Traces
from inferometer.interval.vanished import Vanished
from inferometer.model import LATENCIES, EngineSignal, ModelChange, Recent, Stratum

_STALLED_AFTER_SECONDS = 10.0
_PENDING_CONNECTIONS = 2.0
_OUTCOME_OF = {
    "finished_ok": "ok",
    "finished_error": "error",
    "finished_aborted": "aborted",
    "rejected": "rejected",
}


class Pulse(Struct, omit_defaults=True):
    """Whether an engine that shows nothing is at rest or stuck (design §7, stalled).

    ``at_rest``: nothing runs or waits on the newest page, and no connection is open beyond the usual.
    """

    vital: tuple[float, ...] = ()
    moved_at: float = 0.0
    resting_fds: float | None = None
    at_rest: bool = False

    def see(self, at: float, signal: EngineSignal) -> bool:
        """Take a page and say whether the engine is stalled."""
        alive = signal.vital != self.vital
        if alive:
            self.vital, self.moved_at = signal.vital, at
        queued = requests(signal, "running") + requests(signal, "waiting")
        fds = signal.gauges.get(("open_fds", ""))
        if fds is not None and queued == 0 and (alive or self.resting_fds is None or fds < self.resting_fds):
            self.resting_fds = fds
        crowded = fds is not None and self.resting_fds is not None and fds >= self.resting_fds + _PENDING_CONNECTIONS
        self.at_rest = queued == 0 and not crowded and any(name == "running" for name, _ in signal.gauges)
        return at - self.moved_at >= _STALLED_AFTER_SECONDS and (queued > 0 or crowded)


class ModelState(Struct, omit_defaults=True):
    """What is open for one model of one engine process."""

    stratum: Stratum
    vanished: Vanished = field(default_factory=Vanished)
    wasted_before: float | None = 0.0
    wasted: float = 0.0
    cached_ahead: float = 0.0
    failed_ahead: float = 0.0


class Reading(Struct):
    """What one page brought: changes by model, ended strata, restarts, and the state of the time before it.

    ``over``: those of the strata that ended with their process. ``counts_from``: start, where all that the page shows
    is new; here, where it is a baseline; '' where it goes on from the last one. ``dropped``: series left out.
    """

    models: dict[str, ModelChange] = field(default_factory=dict)
    strata: list[Stratum] = field(default_factory=list)
    over: list[Stratum] = field(default_factory=list)
    counts_from: str = ""
    resets: int = 0
    phases: tuple[float, float] | None = None
    tenants: dict[str, dict[str, float]] = field(default_factory=dict)
    moved: bool = False
    stalled: bool = False
    dropped: int = 0


class EngineState(Struct, omit_defaults=True):
    """Everything about one engine that must survive the agent; its times are on the agent's steady clock."""

    settled_at: float
    read_at: float | None = None
    refused: bool = False
    running: float = 0.0
    marks: Marks = field(default_factory=Marks)
    pulse: Pulse = field(default_factory=Pulse)
    models: dict[str, ModelState] = field(default_factory=dict)
    traces: Traces = field(default_factory=Traces)
    recent: Recent = field(default_factory=Recent)

    def read(self, signal: EngineSignal, watched_since: float, room: int = Room().series) -> Reading:
        """Take a whole page. ``watched_since`` (unix): a process that started later counts from zero.

        ``room``: for how many series there is room.
        """
        reading = Reading()
        if self.read_at is None:
            known = not self._young(signal, watched_since)
        else:
            restarted = self.marks.restarted(signal)
            known = not restarted and self.marks.switched(signal)
            if restarted:
                self._waste_all(reading)
            if restarted or known:
                reading.over = self.end_strata(signal.at)
                reading.strata += reading.over
                reading.resets = 1
                self._forget()
        if self.read_at is None or reading.resets:
            reading.counts_from = "here" if known else "start"
        signal, reading.dropped = within(signal, self.marks, room)
        reading.stalled = self.pulse.see(signal.at, signal)
        if known:
            self._baseline(signal)
            self.marks.blind = reading.dropped > 0
        else:
            self._change(signal, reading)
        self.read_at = signal.at
        self.running = requests(signal, "running")
        return reading

    def end_strata(self, at: float) -> list[Stratum]:
        """Close every open stratum with what it has; what is in flight goes on in new ones."""
        over = [state.stratum for state in self.models.values() if state.stratum.judged > 0]
        for name, state in self.models.items():
            state.stratum = strata.following(state.stratum, at, self._in_flight(name, state, self.running))
        return over

    def shift(self, seconds: float) -> None:
        """Move all times to another clock."""
        self.settled_at += seconds
        self.read_at = None if self.read_at is None else self.read_at + seconds
        self.pulse.moved_at += seconds
        self.traces.shift(seconds)
        for state in self.models.values():
            state.stratum.began += seconds
            for floor in (state.vanished.streaming, state.vanished.known):
                floor.recent = [(at + seconds, value) for at, value in floor.recent]

    def _young(self, signal: EngineSignal, watched_since: float) -> bool:
        born = signal.process_start if signal.process_start is not None else signal.created
        return self.refused if born is None else born >= watched_since

    def _waste_all(self, reading: Reading) -> None:
        """The process died: what was in flight in it was for nothing."""
        for name, state in self.models.items():
            self._waste(name, state, reading.models.setdefault(name, ModelChange()))

    def _forget(self) -> None:
        """Another process: nothing of the last one is open any more."""
        self.models = {}
        self.marks.forget()
        self.pulse = Pulse()

    def _baseline(self, signal: EngineSignal) -> None:
        self.marks.baseline(signal)
        at_rest = self.pulse.at_rest
        models = places(signal.shape).models
        for name in models:
            state = self._model(name, signal)
            by_token, by_call = self._missing(signal, name, models)
            state.vanished.start_here(max(by_token, by_call))
            state.vanished.see(signal.at, by_token, by_call, at_rest=at_rest)
            state.wasted_before = None
            if at_rest:
                self._waste(name, state, ModelChange())
            state.stratum.in_flight = self._in_flight(name, state, _gauge(signal, "running", name))

    def _change(self, signal: EngineSignal, reading: Reading) -> None:
        change = self.marks.change(signal)
        reading.phases = _phases(signal, change)
        reading.tenants = tokens_by_tenant(change, cached_in_prompt=signal.traits.cached_in_prompt)
        moved: dict[str, dict[str, float]] = {}
        for (kind, name), amount in change.counters.items():
            moved.setdefault(name, {})[kind] = amount
            reading.moved = reading.moved or (amount > 0 and kind in MOVES)
        models = places(signal.shape).models
        for name in models:
            began_as_another = name in change.renamed and name not in self.models
            state = self._model(name, signal)
            if began_as_another:  # what it left over until now has been told under the other name
                state.vanished.start_here(max(self._missing(signal, name, models)))
                state.wasted_before = None
            model = reading.models.setdefault(name, ModelChange())
            _count(model, moved[name], state, signal)
            for latency in LATENCIES:
                if (latency, name) in change.histograms:
                    model.latencies[latency] = change.histograms[latency, name]
            model.outcomes["vanished"] = 0.0
            if not change.whole:  # what is in one counter may be missing in the other
                strata.grow(state.stratum, model)
                continue
            by_token, by_call = self._missing(signal, name, models)
            model.outcomes["vanished"] = state.vanished.see(signal.at, by_token, by_call, at_rest=self.pulse.at_rest)
            strata.grow(state.stratum, model)
            self._end(name, state, signal, reading)

    def _end(self, name: str, state: ModelState, signal: EngineSignal, reading: Reading) -> None:
        """End what is at rest or has lasted long enough: waste that was not told yet, and the stratum."""
        in_flight = self._in_flight(name, state, _gauge(signal, "running", name))
        if self.pulse.at_rest and in_flight <= 0:
            self._waste(name, state, reading.models[name])
        if strata.ended(state.stratum, signal.at, in_flight):
            if state.stratum.judged > 0:
                reading.strata.append(state.stratum)
            state.stratum = strata.following(state.stratum, signal.at, in_flight)

    def _model(self, name: str, signal: EngineSignal) -> ModelState:
        if name not in self.models:
            traits = signal.traits
            self.models[name] = ModelState(Stratum(name, signal.at, single_token_has_tpot=traits.single_token_has_tpot))
        return self.models[name]

    def _missing(self, signal: EngineSignal, model: str, models: list[str]) -> tuple[float, float]:
        """Requests that should be on the page and are not: first tokens without an end, calls without a request."""
        by_token = 0.0  # where what is in flight cannot be told from what is gone
        if any(name == "running" for name, _ in signal.gauges):
            by_token = self._begun(model) - _gauge(signal, "running", model)
        return by_token, self.marks.lost_calls() if len(models) == 1 else 0.0

    def _begun(self, model: str) -> float:
        """Requests with a first token and no end on the page."""
        return self.marks.level(model, "ttft") - self.marks.finished(model)

    def _in_flight(self, model: str, state: ModelState, running: float) -> float:
        """An upper bound of the requests that have a first token and no end."""
        return max(self._begun(model) - state.vanished.streaming.certain, running)

    def _waste(self, model: str, state: ModelState, change: ModelChange) -> None:
        """With nothing in flight, output that no finished request has is wasted."""
        if ("finished_output_tokens", model) not in self.marks.levels:
            return
        wasted = self.marks.level(model, "output_tokens") - self.marks.level(model, "finished_output_tokens")
        if state.wasted_before is None:
            state.wasted_before = wasted
        more = max(0.0, wasted - state.wasted_before - state.wasted)
        state.wasted += more
        change.wasted += more


def requests(signal: EngineSignal, gauge: str) -> float:
    """Running or waiting requests of all models."""
    found = 0.0
    for (name, _), value in signal.gauges.items():
        if name == gauge:
            found += value
    return found


def _gauge(signal: EngineSignal, gauge: str, model: str) -> float:
    return signal.gauges.get((gauge, model), 0.0)


def _phases(signal: EngineSignal, change: Change) -> tuple[float, float] | None:
    """Busy GPU seconds of prefill and decode, per group of GPUs that reports them; None where none does."""
    groups = signal.phase_groups
    if groups == 0:
        return None
    return total(change.counters, "prefill_seconds") / groups, total(change.counters, "decode_seconds") / groups


def _count(model: ModelChange, moved: dict[str, float], state: ModelState, signal: EngineSignal) -> None:
    prompt, cached = moved.get("prompt_tokens", 0.0), moved.get("cached_tokens", 0.0)
    if signal.traits.cached_in_prompt:
        prompt, state.cached_ahead = _less(prompt, cached, state.cached_ahead)
    model.tokens = {"input_uncached": prompt, "input_cached": cached, "output": moved.get("output_tokens", 0.0)}
    model.reasoning = moved.get("reasoning_tokens", 0.0)
    for counter, outcome in _OUTCOME_OF.items():
        model.outcomes[outcome] = moved.get(counter, 0.0)
    if "finished" in moved:
        failed = sum(moved.get(counter, 0.0) for counter in FAILED)
        model.outcomes["ok"], state.failed_ahead = _less(moved["finished"], failed, state.failed_ahead)


def _less(whole: float, part: float, ahead: float) -> tuple[float, float]:
    """What is left of ``whole`` without ``part``, and by how much the part is ahead.

    A part may show up a page before the whole that it belongs to: then it waits for it.
    """
    rest = whole - part - ahead
    return max(0.0, rest), max(0.0, -rest)
