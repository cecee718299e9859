"""How late the event loop is: the number that tells whether one source can hold up the others."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_EVERY_SECONDS = 0.5
_REMEMBERED = 120  # a minute: a scrape every 15 s sees the worst of its time


class LoopLag:
    """Measures how much later than asked a sleeping task wakes up."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_EVERY_SECONDS)
            self._lags.append(time.monotonic() - before - _EVERY_SECONDS)

    def worst(self) -> float:
        """The largest lag of the last minute in seconds."""
        return max(self._lags, default=0.0)
