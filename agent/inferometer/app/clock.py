"""The agent's two times: a steady one that never steps, and the wall clock for tariffs and people."""

from __future__ import annotations

import time

from inferometer.sources import boottime


class Clock:
    """``at()`` starts as unix time and then only follows CLOCK_BOOTTIME; ``wall()`` is the clock as it is set."""

    def __init__(self) -> None:
        self._ahead = time.time() - boottime()

    def at(self) -> float:
        """Steady seconds."""
        return boottime() + self._ahead

    def wall(self) -> float:
        """Unix time."""
        return time.time()
