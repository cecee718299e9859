"""Turns of the event loop: of many who begin at one moment a few at a time, and everybody else in between."""

from __future__ import annotations

import asyncio
from collections import deque

_AT_ONCE = 4


class Turns:
    """Lets so many begin at each turn of the loop, in the order in which they came."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._counts = False

    async def mine(self) -> None:
        """Wait for a turn; while nobody else does, it is now."""
        loop = asyncio.get_running_loop()
        self._count(loop)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._counts:
            self._counts = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._counts, self._left = False, self._at_once
        while self._waiting and self._left > 0:
            turn = self._waiting.popleft()
            if not turn.done():  # nobody waits for it any more
                turn.set_result(None)
                self._left -= 1
        if self._left < self._at_once:
            self._count(loop)
