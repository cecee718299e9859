"""The agent's two times: a steady one that never steps, and the wall clock for tariffs and people."""

from __future__ import annotations

import time

from inferometer.sources import boottime

_STEP_SECONDS = 0.001


class Clock:
    """``at()`` starts as unix time and then only follows CLOCK_BOOTTIME, which runs as fast as the wall clock does."""

    def __init__(self) -> None:
        self._offset = time.time() - boottime()
        self._ahead = 0.0

    def at(self) -> float:
        """Steady seconds."""
        return boottime() + self._offset

    def ahead(self) -> float:
        """Seconds by which unix time is ahead of ``at()``: always the same until somebody sets the wall clock.

        Two clocks cannot be read at once: what is less than a step is the time between the readings, and that
        would add up in the ledger over many lives of the agent.
        """
        before, wall, after = self.at(), time.time(), self.at()
        ahead = wall - (before + after) / 2
        if abs(ahead - self._ahead) > _STEP_SECONDS + (after - before):
            self._ahead = ahead
        return self._ahead

    def wall(self) -> float:
        """Unix time."""
        return self.at() + self.ahead()
