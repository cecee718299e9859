"""Binding an address and serving an app on it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from inferometer.exposition.connection import Strict
from inferometer.exposition.connections import Connections

_FLAG = "--web.listen-address"
_SHUTDOWN_SECONDS = 0.5


class Listener(NamedTuple):
    """Where a server is reached, and the coroutine function that ends it."""

    host: str
    port: int
    close: Callable[[], Awaitable[None]]


async def listen(  # noqa: PLR0913 - what is served, where and how
    app: web.Application,
    address: str,
    setting: str = _FLAG,
    *,
    auto_decompress: bool = True,
    tls: ssl.SSLContext | None = None,
    connections: Connections | None = None,
) -> Listener:
    """Serve ``app`` on ``:10110`` (every interface), ``127.0.0.1:0`` (any free port) or ``[::1]:9``, by ``tls`` if any.

    ``connections`` looks after those that come. OSError whose text names the ``setting``: the address cannot be read,
    resolved or bound.
    """
    bound = bind(address, setting)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    served = connections if connections is not None else Connections()
    try:
        await runner.setup()
        served.serve(runner, bound, tls, Strict(auto_decompress=auto_decompress))
    except BaseException:
        bound.close()
        await runner.cleanup()
        raise
    host, port = bound.getsockname()[:2]

    async def close() -> None:
        served.close()
        await runner.cleanup()

    return Listener(host, port, close)


def bind(address: str, setting: str) -> socket.socket:
    """A socket that listens there; OSError as of ``listen``."""
    host, port = _parsed(address, setting)
    try:
        return _socket(host, port)
    except OSError as error:
        hint = "; is another agent running?" if error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, f"cannot listen on {address!r} ({setting}): {_reason(error)}{hint}") from error


def _parsed(address: str, setting: str = _FLAG) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise OSError(errno.EINVAL, f"{setting} is {address!r}, want HOST:PORT, :PORT or [IPV6]:PORT")
    return host.strip("[]"), int(port)


def _socket(host: str, port: int) -> socket.socket:
    if not host:
        return _every_interface(port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, where = min(found, key=lambda info: info[0] != socket.AF_INET)
    return socket.create_server(where[:2], family=family)


def _every_interface(port: int) -> socket.socket:
    """One socket for IPv6 and IPv4, or for IPv4 alone where the kernel has IPv6 switched off."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
    return socket.create_server(("", port))


def _reason(error: OSError) -> str:
    """The plain words, without the address that create_server adds."""
    return (error.strerror or str(error)).partition(" (while")[0]
