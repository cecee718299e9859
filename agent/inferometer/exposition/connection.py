"""One connection of a server, which knows what it is waiting for and since when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from msgspec import Struct

if TYPE_CHECKING:
    from aiohttp.web_server import Server

_HEAD_BYTES = 1 << 15
_WRITE_BUFFER_BYTES = 1 << 14
_SAYS: dict[str, tuple[str, str]] = {
    "slow_request": ("408 Request Timeout", "The request took too long."),
    "large_head": ("431 Request Header Fields Too Large", "The head of the request is too large."),
    "crowded": ("503 Service Unavailable", "There are too many connections; this one asked for nothing."),
    "full": ("503 Service Unavailable", "There are too many connections; try again in a moment."),
}


def farewell(reason: str) -> bytes:
    """A whole answer that says why a connection is ended."""
    status, text = _SAYS[reason]
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text) + 1}\r\n"
    return f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n{text}\n".encode()


class Strict(Struct, frozen=True):
    """How requests are read. ``idle_seconds``: between two; Prometheus asks every minute or sooner."""

    auto_decompress: bool = True
    max_headers: int = 64
    lingering_seconds: float = 2.0
    idle_seconds: float = 300.0


class Keeper(Protocol):
    """Who looks after connections."""

    def opened(self, connection: Connection) -> None:
        """It is there."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def refuse(self, connection: Connection, reason: str) -> None:
        """End it."""


class Connection(web.RequestHandler):
    """``head_since``: since when a request's head is awaited; ``stalled_since``: since when nobody takes our answer.

    ``ended_at``: when it was told that it is over. Times are the loop's.
    """

    __slots__ = ("_head_bytes", "_keeper", "_rests_since", "ended_at", "head_since", "stalled_since")

    def __init__(self, server: Server, keeper: Keeper, how: Strict) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=how.idle_seconds,
            max_headers=how.max_headers,
            lingering_time=how.lingering_seconds,
            auto_decompress=how.auto_decompress,
        )
        self._keeper = keeper
        self._head_bytes = 0
        self._rests_since = 0.0
        self.head_since: float | None = None
        self.stalled_since: float | None = None
        self.ended_at: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request of it is being answered, or about to be."""
        return self._request_count > 0 and (self._waiter is None or self._waiter.done())

    @property
    def has_begun(self) -> bool:
        """Whether it owes us a request: its first, or the rest of one."""
        return self._request_count == 0 or self._head_bytes > 0

    @property
    def is_within_head(self) -> bool:
        """Whether part of a request's head has come."""
        return self._head_bytes > 0

    def rests(self, now: float) -> float:
        """Seconds since it last asked for anything whole; 0 while that is being answered."""
        return 0.0 if self.is_busy else now - self._rests_since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)  # type: ignore[attr-defined]
        self.head_since = self._rests_since = self._loop.time()
        self._keeper.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is over."""
        super().connection_lost(exc)
        self._keeper.closed(self)

    def data_received(self, data: bytes) -> None:
        """Part of a head, a whole one, or a body."""
        if self.ended_at is not None:
            return
        before = self._request_count
        is_head = not self.is_busy
        super().data_received(data)
        if self._request_count != before:
            self.head_since, self._head_bytes = None, 0
            self._rests_since = self._loop.time()
        elif is_head:
            self._head_bytes += len(data)
            if self.head_since is None:
                self.head_since = self._loop.time()
            if self._head_bytes > _HEAD_BYTES:
                self._keeper.refuse(self, "large_head")

    def pause_writing(self) -> None:
        """Nobody takes the answer."""
        super().pause_writing()
        self.stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        """Somebody does."""
        super().resume_writing()
        self.stalled_since = None

    def end(self, reason: str) -> bool:
        """Say why, where there is anything to be said and nothing of an answer under way.

        Whether the other side has yet to close: to close first would take back what was said from one who still sends.
        """
        transport = self.transport
        if transport is None or self.ended_at is not None:
            return False
        if self.is_busy or self.stalled_since is not None or reason not in _SAYS or not self.has_begun:
            self.abort()
            return False
        transport.write(farewell(reason))
        if transport.can_write_eof():
            transport.write_eof()
        self.close()
        self.ended_at = self._loop.time()
        return True

    def abort(self) -> None:
        """End it without waiting for anything."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()
