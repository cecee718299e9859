"""Host names to addresses, such that a name server that hangs for one host keeps no other host waiting."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from inferometer.sources.detached import detached


class Resolver(AbstractResolver):
    """getaddrinfo in one thread per host being looked up; whoever asks for the same host meanwhile shares the answer.

    asyncio's own way uses six threads on a machine with two cores: six dead names would stop all the others.
    """

    def __init__(self) -> None:
        self._pending: dict[tuple[str, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of ``host``; raises OSError when there are none."""
        key = (host, family)
        lookup = self._pending.get(key)
        if lookup is None:
            lookup = detached(lambda: _lookup(host, family), f"dns-{host[:40]}")
            self._pending[key] = lookup
            lookup.add_done_callback(lambda _: self._pending.pop(key, None))
        return [_result(host, port, info) for info in await asyncio.shield(lookup)]

    async def close(self) -> None:
        """Nothing to close: a lookup that still hangs ends with the process."""


def _lookup(host: str, family: int) -> list[Any]:
    return socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def _result(host: str, port: int, info: Any) -> ResolveResult:
    family, _, proto, _, address = info
    resolved = address[0]
    if family == socket.AF_INET6 and address[3]:  # a link-local address is good only with its interface
        resolved = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=resolved, port=port, family=family, proto=proto, flags=flags)
