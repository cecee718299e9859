"""The connections to all servers of pages: opened when asked for, kept while the server keeps them."""

from __future__ import annotations

import asyncio
import socket
import ssl

from aiohappyeyeballs import start_connection
from yarl import URL

from inferometer.errors import SourceError
from inferometer.sources.alarms import Alarms
from inferometer.sources.connection import Answer, Connection
from inferometer.sources.credentials import default_tls
from inferometer.sources.resolver import Resolver

_KEPT_PER_SERVER = 16
_BUFFER_BYTES = 1 << 17  # most pages are smaller
_KEPT_SECONDS = 300.0
_FORGOTTEN_EVERY_SECONDS = 30.0
_LATE_SECONDS = 0.05  # after its timeout an answer may come still
_NEXT_ADDRESS_SECONDS = 0.25  # a host of two addresses of which one is dead (RFC 8305)

_Server = tuple[str, int, ssl.SSLContext | None, str]


class Session:
    """Answers of any number of servers at a time; no one waits for another's. ``deadlines``: of those who wait."""

    def __init__(self) -> None:
        self.deadlines = Alarms(_LATE_SECONDS)
        self._resolver = Resolver()
        self._time = asyncio.get_running_loop().time
        self._idle: dict[_Server, list[Connection]] = {}
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._forgets_at = 0.0

    async def close(self) -> None:
        """Let go of all connections that nobody waits at."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def get(
        self, url: URL, request: bytes, limit: int, tls: ssl.SSLContext | None = None, server_name: str = ""
    ) -> Answer:
        """The whole answer to ``request``, of at most ``limit`` bytes; https with ``tls``, or the system's authorities.

        A kept connection may be closed by the server at the moment of the request: then it is sent once more. Raises
        OSError (with ssl.SSLError) and SourceError, as Connection.get does.
        """
        server = _server(url, tls, server_name)
        kept = self._kept(server)
        if kept is not None:
            try:
                return await self._ask(server, kept, request, limit)
            except (ConnectionError, SourceError):
                if kept.has_begun:
                    raise
        return await self._ask(server, await self._connect(server), request, limit)

    def _kept(self, server: _Server) -> Connection | None:
        idle = self._idle.get(server, [])
        while idle:
            connection = idle.pop()
            if connection.open:
                return connection
        return None

    async def _ask(self, server: _Server, connection: Connection, request: bytes, limit: int) -> Answer:
        answer = await connection.get(request, limit)
        idle = self._idle.setdefault(server, [])
        if connection.open and len(idle) < _KEPT_PER_SERVER:
            connection.rests_since = self._time()
            idle.append(connection)
        else:
            connection.close()
        return answer

    def _forget(self) -> None:
        """Drop what its server closed, and what nobody asked for long: servers come and go."""
        if self._time() < self._forgets_at:
            return
        self._forgets_at = self._time() + _FORGOTTEN_EVERY_SECONDS
        since = self._time() - _KEPT_SECONDS
        for server, idle in list(self._idle.items()):
            kept = [one for one in idle if one.open and one.rests_since >= since]
            for connection in idle:
                if connection not in kept:
                    connection.close()
            if kept:
                self._idle[server] = kept
            else:
                del self._idle[server]

    async def _connect(self, server: _Server) -> Connection:
        self._forget()
        host, port, tls, name = server
        addresses = await self._resolver.lookup(host, port)
        loop = asyncio.get_running_loop()
        connected = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(self._buffer),
                sock=connected,
                ssl=tls,
                server_hostname=name if tls is not None else None,
            )
        except BaseException:
            connected.close()
            raise
        return connection


def _server(url: URL, tls: ssl.SSLContext | None, server_name: str) -> _Server:
    host, port = url.raw_host, url.port
    if not host or port is None:
        raise ValueError("the address names no host")
    context = (tls or default_tls()) if url.scheme == "https" else None
    return host, port, context, server_name or host
