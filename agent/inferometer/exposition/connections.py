"""Connections of one server: how many, and what each has to do in how long, so that none holds up the rest.

When as many are served as may be, those that ask for nothing are closed to let others in. Who cannot be let in waits,
which costs a file descriptor and little else, and is told so where it takes too long. The kernel's own queue would drop
what is too much for it without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from inferometer.exposition.connection import Connection, Strict, farewell
from inferometer.model import REFUSALS, Account

MOST: Final = 128
_LEAST = 8
_MOST_WAITING = 8_192
_SPARED_FILES = 64  # for the ledger, the log and engines, when files are few
_BACKLOG = 4_096
_MADE_ROOM = 64  # for so many at one look, of which there are ten in a second
_LET_IN = 16  # at one turn of the loop
_TURNED_AWAY = 512  # at one look
_AT_ONCE = 256  # accepted before anybody else has a turn
_SEND_BUFFER_BYTES = 1 << 16  # in the kernel, which doubles it; its own choice would be megabytes for each
_LOOK_SECONDS, _LOOK_SECONDS_WHEN_FULL = 0.5, 0.1
_HEAD_SECONDS = 10.0  # from the opening, or the first byte of the next request, to the end of its head
_STALL_SECONDS = 10.0  # with nothing taken of an answer
_PARTING_SECONDS = 1.0  # for the other side to close, when it was told why
_SPARED_SECONDS = 1.0  # a connection that is new is not closed for another's sake
_SPARED_SECONDS_WITHIN_A_HEAD = 0.25
_WAIT_SECONDS = 8.0  # for room; Prometheus gives up after ten
_HANDSHAKE_SECONDS = 10.0
_FILES_SECONDS = 1.0  # to the next try when there are none
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_log = logging.getLogger(__name__)


class Connections:
    """All connections of one server; ``most`` are served at one time. ``refusals``: by reason, since the start."""

    def __init__(self, most: int = MOST) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        spare = sys.maxsize if files == resource.RLIM_INFINITY else files - _SPARED_FILES
        self.most = min(most, max(_LEAST, spare // 8))
        self._most_waiting = min(_MOST_WAITING, max(_LEAST, spare // 2))
        self.refusals = dict.fromkeys(REFUSALS, 0)
        self.open: dict[Connection, None] = {}  # in the order of their opening
        self._parting: dict[Connection, None] = {}  # they are told why they end, and have yet to close
        self._waiting: deque[tuple[float, socket.socket]] = deque()  # to be let in
        self._turned_away: deque[tuple[float, socket.socket]] = deque()  # likewise, without having been served
        self._coming: set[asyncio.Task[Any]] = set()
        self._listens = self._lets_in = self._lacks_files = False
        self._look: asyncio.TimerHandle | None = None

    def serve(self, runner: web.AppRunner, bound: socket.socket, tls: ssl.SSLContext | None, how: Strict) -> None:
        """Accept from now on what comes to a socket that listens."""
        self._loop = asyncio.get_running_loop()
        self._bound, self._tls = bound, tls
        server = runner.server
        if server is None:
            raise AssertionError("the runner is set up first")
        self._make: Callable[[], Connection] = lambda: Connection(server, self, how)
        bound.settimeout(0.0)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        bound.listen(_BACKLOG)
        self._resume()

    def close(self) -> None:
        """Accept no more, and let go of those who ask for nothing or take nothing."""
        self._pause()
        self._bound.close()
        if self._look is not None:
            self._look.cancel()
        for coming in self._coming:
            coming.cancel()
        for connection in [*self.open, *self._parting]:
            if connection.stalled_since is not None or not connection.is_busy:
                connection.abort()
        for _, accepted in [*self._waiting, *self._turned_away]:
            accepted.close()

    def values(self, server: str) -> dict[Account, float]:
        """What there is to say of them on /metrics."""
        refused: dict[Account, float] = {
            ("inferometer_http_connections_refused_total", (server, reason)): float(count)
            for reason, count in self.refusals.items()
        }
        return {("inferometer_http_connections", (server,)): float(len(self.open)), **refused}

    # -- what connections tell

    def opened(self, connection: Connection) -> None:
        """It is there, and is served."""
        self.open[connection] = None

    def closed(self, connection: Connection) -> None:
        """It is gone: there is room."""
        self.open.pop(connection, None)
        self._parting.pop(connection, None)
        self._resume()

    # -- accepting

    def _resume(self) -> None:
        self._let_in_soon()
        room = len(self._waiting) + len(self._turned_away) < self._most_waiting
        if room and not self._listens and not self._lacks_files and self._bound.fileno() >= 0:
            self._listens = True
            self._loop.add_reader(self._bound.fileno(), self._accept)

    def _pause(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._bound.fileno())

    def _accept(self) -> None:
        """Take what waits in the kernel, which would drop what is too much for it without a word."""
        for _ in range(_AT_ONCE):
            if len(self._waiting) + len(self._turned_away) >= self._most_waiting:
                self._pause()
                break
            try:
                accepted, _address = self._bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._failed(error)
                break
            accepted.settimeout(0.0)
            self._waiting.append((self._loop.time(), accepted))
        if self._look is None:
            self._look_later()
        self._let_in_soon()

    def _let_in_soon(self) -> None:
        if self._waiting and not self._lets_in:
            self._lets_in = True
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        """Let in who has waited longest, a few at each turn of the loop: engines are read between them."""
        self._lets_in = False
        for _ in range(_LET_IN):
            if not self._waiting or len(self.open) + len(self._coming) >= self.most:
                return
            _, accepted = self._waiting.popleft()
            coming = self._loop.create_task(self._come(accepted))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)
        self._let_in_soon()

    def _turn_away(self, now: float) -> None:
        """Tell those who have waited too long that there is no room, which costs little; let go of those who know."""
        for _ in range(_TURNED_AWAY):
            if not self._waiting or now - self._waiting[0][0] <= _WAIT_SECONDS:
                break
            _, accepted = self._waiting.popleft()
            self.refusals["full"] += 1
            with contextlib.suppress(OSError):
                if self._tls is None:  # else there is nothing that it would understand
                    accepted.send(farewell("full"))
                    accepted.shutdown(socket.SHUT_WR)
            self._turned_away.append((now, accepted))
        while self._turned_away and now - self._turned_away[0][0] > _PARTING_SECONDS:
            _, told = self._turned_away.popleft()
            with contextlib.suppress(OSError):
                told.recv(_SEND_BUFFER_BYTES)  # else what it sent would take back what it was told
            told.close()

    async def _come(self, accepted: socket.socket) -> None:
        wait = _HANDSHAKE_SECONDS if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                self._make, accepted, ssl=self._tls, ssl_handshake_timeout=wait, ssl_shutdown_timeout=wait
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            accepted.close()

    def _failed(self, error: OSError) -> None:
        """Nothing can be accepted: try again in a while, not at once for ever."""
        self._pause()
        if error.errno not in _NO_FILES:
            _log.warning("a connection could not be accepted", extra={"error": str(error)})
        elif not self._lacks_files:
            self.refusals["no_files"] += 1
            _log.warning("no file descriptors are left to accept connections with; raise the limit (ulimit -n)")
        self._lacks_files = True
        self._loop.call_later(_FILES_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._lacks_files = False
        self._resume()

    # -- looking after them

    def _look_later(self) -> None:
        full = len(self.open) >= self.most or bool(self._waiting)
        self._look = self._loop.call_later(_LOOK_SECONDS_WHEN_FULL if full else _LOOK_SECONDS, self._look_after)

    def _look_after(self) -> None:
        now = self._loop.time()
        self._turn_away(now)
        for connection in [*self.open, *self._parting]:
            reason = self._overdue(connection, now)
            if reason:
                self.refuse(connection, reason)
        if len(self.open) >= self.most:
            for connection in [one for one in self.open if self._may_go(one, now)][:_MADE_ROOM]:
                self.refuse(connection, "crowded" if connection.stalled_since is None else "slow_reader")
        self._resume()
        self._look = None
        if self.open or self._parting or self._coming or self._waiting or self._turned_away:
            self._look_later()  # else there is nobody to look after until the next one comes

    def _overdue(self, connection: Connection, now: float) -> str:
        if connection.ended_at is not None:
            if now - connection.ended_at > _PARTING_SECONDS:
                connection.abort()
            return ""
        if connection.stalled_since is not None:
            return "slow_reader" if now - connection.stalled_since > _STALL_SECONDS else ""
        late = connection.head_since is not None and now - connection.head_since > _HEAD_SECONDS
        return "slow_request" if late else ""

    def _may_go(self, connection: Connection, now: float) -> bool:
        """Whether it asks for nothing or takes nothing, and is not so new that it may be about to."""
        if connection.stalled_since is not None:
            return now - connection.stalled_since > _SPARED_SECONDS
        if connection.is_within_head:
            return connection.rests(now) > _SPARED_SECONDS_WITHIN_A_HEAD
        return connection.rests(now) > (_SPARED_SECONDS if connection.has_begun else 0.0)

    def refuse(self, connection: Connection, reason: str) -> None:
        """End a connection for this reason; one that only rested is closed without being counted."""
        if connection.has_begun or reason != "crowded":
            self.refusals[reason] += 1
        if len(self._parting) >= 2 * self.most:
            connection.abort()
        elif connection.end(reason):
            self.open.pop(connection, None)
            self._parting[connection] = None
