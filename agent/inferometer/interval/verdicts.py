"""The strata of an engine's pages and the spans of its requests, brought together: what is judged when."""

from __future__ import annotations

from math import exp, inf

from inferometer.interval.engine import EngineState, Reading
from inferometer.interval.traced import WAIT_SECONDS, Limits
from inferometer.interval.watch import Watch, Watched
from inferometer.model import EngineSignal, Interval, Stratum

_RECENT_SECONDS = 600.0


def expects(state: EngineState, watched: Watched, wall: float) -> bool:
    """Whether strata wait for spans: they are said to come, or did within the hour."""
    return watched.traced or state.traces.expected(wall)


def ended(
    state: EngineState, watch: Watch, watched: Watched, reading: Reading, page: tuple[EngineSignal, float | None, float]
) -> list[Stratum]:
    """What is judged with a page: its ended strata at once, or 60 s later where spans may tell of them.

    ``page``: the page, the time of the one before, and what the wall clock is ahead of the steady one.
    """
    signal, before, ahead = page
    traces, at = state.traces, signal.at
    if not watched.traced and traces.seen_at is None:
        return reading.strata
    if reading.counts_from and before is not None:
        traces.over(reading.over, before)
    own = [stratum for stratum in reading.strata if not any(stratum is old for old in reading.over)]
    open_now = [model.stratum for model in state.models.values()]
    traces.page(open_now, own, at, _start(state, reading, signal, before, ahead))
    traces.settle(at, ahead, watch.limits_of)
    return late(state, watch, watched, at, ahead)


def late(state: EngineState, watch: Watch, watched: Watched, at: float, ahead: float) -> list[Stratum]:
    """What need not wait any longer at this time."""
    traces = state.traces
    waits = expects(state, watched, at + ahead)
    until = at - WAIT_SECONDS if waits else at
    done = traces.close(until, ahead, watch.limits_of)
    if not waits:
        traces.seal()
    return done + traces.alone(until, ahead, watch.limits_of) if state.read_at is None else done


def last(state: EngineState, watch: Watch, watched: Watched, at: float, ahead: float) -> list[Stratum]:
    """The engine is followed no longer: everything that is open or waits."""
    strata, traces = state.end_strata(at), state.traces
    if not watched.traced and traces.seen_at is None:
        return strata
    limits: Limits = watch.limits_of
    if state.read_at is None:
        return traces.alone(inf, ahead, limits)
    traces.over(strata, state.read_at)
    traces.settle(inf, ahead, limits)
    return traces.close(inf, ahead, limits)


def pending(state: EngineState) -> float:
    """Requests that wait for their stratum to end, or for its spans."""
    return sum(model.stratum.judged for model in state.models.values()) + state.traces.pending()


def tell(interval: Interval, state: EngineState, watched: Watched, *, page_counts_reasoning: bool) -> None:
    """Give the interval what spans say by themselves, and the work that gives their tokens a price."""
    recent, traces = state.recent, state.traces
    faded = exp(-interval.seconds / _RECENT_SECONDS)
    recent.seconds = recent.seconds * faded + (interval.seconds if interval.state == "busy" else 0.0)
    for name, change in interval.models.items():
        tokens = recent.tokens.setdefault(name, {})
        for kind in {*tokens, *change.tokens}:
            tokens[kind] = tokens.get(kind, 0.0) * faded + change.tokens.get(kind, 0.0)
    interval.exact = traces.expected(interval.until)
    interval.traced = watched.traced or interval.exact
    if traces.tallies:
        interval.tallies, traces.tallies = traces.tallies, {}
        interval.recent = recent
        for tally in interval.tallies.values():
            tally.reasoning = 0.0 if page_counts_reasoning else tally.reasoning


def _start(
    state: EngineState, reading: Reading, signal: EngineSignal, before: float | None, ahead: float
) -> float | None:
    """Since when a page counts that does not go on from the last one."""
    if reading.counts_from != "start":
        return signal.at if reading.counts_from else None
    born = signal.process_start if signal.process_start is not None else signal.created
    if born is None:
        return -inf if before is None else before
    low, high = state.traces.skew.place(born)
    return min(signal.at, (born if low <= born <= high else high) - ahead)
