"""Server-sent events: the board pushed to whoever watches, a bounded number of them, none of whom holds us up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from inferometer.exposition.feed import Feed

MOST_CLIENTS = 32
HEARTBEAT_SECONDS = 15.0
_LEAST_SECONDS = 0.5  # between two events to one client; what is published meanwhile is in the second
_PATIENCE_SECONDS = 10.0  # with a client that does not read
_HEARTBEAT = b": still here\n\n"
_FULL = f"{MOST_CLIENTS} clients are being told already; ask /api/v1/board now and then instead.\n"


class Events:
    """The handler of ``/api/v1/events``. ``board``: JSON of the newest board; None before the first snapshot."""

    def __init__(self, feed: Feed, board: Callable[[], bytes | None]) -> None:
        self._feed, self._board = feed, board
        self._closing = False

    async def close(self, _: web.Application) -> None:
        """End every stream, so that a shutdown waits for nobody."""
        self._closing = True
        for news in self._feed.listeners:
            news.set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One event at once, one at each publish, a comment when nothing happens; until the client goes."""
        if len(self._feed.listeners) >= MOST_CLIENTS:
            return web.Response(text=_FULL, status=503, headers={"Retry-After": "30"})
        news = asyncio.Event()
        news.set()
        self._feed.listeners.add(news)
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            await response.prepare(request)
            await self._tell(response, news)
        except (ConnectionError, TimeoutError):
            if request.transport:
                request.transport.abort()
            return web.Response()
        finally:
            self._feed.listeners.discard(news)
        return response

    async def _tell(self, response: web.StreamResponse, news: asyncio.Event) -> None:
        while not self._closing:
            chunk = _HEARTBEAT
            if await _within(news, HEARTBEAT_SECONDS):
                news.clear()
                board = self._board()
                chunk = b"retry: 1000\ndata: " + board + b"\n\n" if board else _HEARTBEAT
            if self._closing:
                return
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await response.write(chunk)
            await asyncio.sleep(_LEAST_SECONDS)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    """Whether something came in time."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True
