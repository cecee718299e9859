"""Alarms: what many wait for together has one timer of the event loop, not one for each of them.

Fifty targets are read at one moment, and each answer is waited for so long and no longer. With a timer for each, of
which those for answers are nearly all taken back, asyncio's heap of timers was a tenth of what a page cost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

_LONGEST_SECONDS = 1e9  # infinity has no moment

Ring = Callable[[], None]


class Alarms:
    """Rings at about the moment asked for: never before, and up to ``together_seconds`` after."""

    def __init__(self, together_seconds: float) -> None:
        self._together_seconds = together_seconds
        self._due: dict[int, tuple[asyncio.TimerHandle, dict[Ring, None]]] = {}

    def set(self, seconds: float, ring: Ring) -> int:
        """Call ``ring``, which raises nothing, after so many seconds; returns what ``drop`` has to be told."""
        loop = asyncio.get_running_loop()
        moment = math.ceil((loop.time() + min(seconds, _LONGEST_SECONDS)) / self._together_seconds)
        due = self._due.get(moment)
        if due is None:
            timer = loop.call_at(moment * self._together_seconds, self._ring, moment)
            due = self._due[moment] = (timer, {})
        due[1][ring] = None
        return moment

    def drop(self, moment: int, ring: Ring) -> None:
        """Do not call it, if it was not called yet."""
        due = self._due.get(moment)
        if due is not None:
            timer, rings = due
            rings.pop(ring, None)
            if not rings:
                timer.cancel()
                del self._due[moment]

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        waiter = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        moment = self.set(seconds, wake)
        try:
            await waiter
        finally:
            self.drop(moment, wake)

    def _ring(self, moment: int) -> None:
        for ring in self._due.pop(moment)[1]:
            ring()
