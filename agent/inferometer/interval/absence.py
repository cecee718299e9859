"""The agent's own absence: as far as the GPUs were provably held, somebody pays for it (design §7, agent away)."""

from __future__ import annotations

from inferometer.interval.engine import EngineState

_HELD_BEYOND_READING_SECONDS = 900.0


def unproven_seconds(state: EngineState, at: float, born: float | None) -> float:
    """So much of the time up to ``at`` nobody is charged for. ``born``: when the engine's process began.

    Without a page (or a start time on it) nothing is proven beyond 15 min after the last reading.
    """
    gap_start = state.settled_at
    if born is not None:
        return min(max(born, gap_start), at) - gap_start
    last = state.read_at if state.read_at is not None else gap_start
    return max(0.0, at - max(gap_start, last + _HELD_BEYOND_READING_SECONDS))
