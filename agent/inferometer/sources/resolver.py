"""Host names to addresses, such that a name server that hangs for one host keeps no other host waiting."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

from inferometer.sources.detached import detached

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""As getaddrinfo gives it: family, type, protocol, canonical name, socket address."""


class Resolver:
    """getaddrinfo in one thread per host being looked up; whoever asks for the same host meanwhile shares the answer.

    asyncio's own way uses six threads on a machine with two cores: six dead names would stop all the others.
    """

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[list[Address]]] = {}

    async def lookup(self, host: str, port: int) -> list[Address]:
        """Addresses of ``host`` with this port; raises socket.gaierror, or another OSError, when there are none."""
        found = _lookup(host, socket.AI_NUMERICHOST) if _is_address(host) else await self._looked_up(host)
        return [(*one[:4], (one[4][0], port, *one[4][2:])) for one in found]

    async def _looked_up(self, host: str) -> list[Address]:
        pending = self._pending.get(host)
        if pending is None:
            pending = self._pending[host] = detached(lambda: _lookup(host, socket.AI_ADDRCONFIG), f"dns-{host[:40]}")
            pending.add_done_callback(lambda _: self._pending.pop(host, None))
        return await asyncio.shield(pending)


def _lookup(host: str, flags: int) -> list[Address]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags))


def _is_address(host: str) -> bool:
    """Whether no name server is needed."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
