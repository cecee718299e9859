"""What every request passes before it is answered: certificate, password, and the headers of the web configuration."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from inferometer.web.config import Settings, WebConfig
from inferometer.web.rate import Bucket
from inferometer.web.users import Users

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN = frozenset({"/-/healthy", "/-/ready"})
"""What is answered without a password: a kubelet has none, and all that it learns is one sentence about the agent."""

_GRACE_SECONDS = 5.0
_NO_NAME = "The certificate is for none of the names in client_allowed_sans.\n"
_OFTEN = "More requests than rate_limit allows; try again later.\n"
_BUSY = "Too many passwords are being checked; try again in a moment.\n"


class Gate:
    """The middleware and the headers of one web configuration."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self._users = Users()
        self._bucket = Bucket()
        self._answering: dict[int, web.Request] = {}  # by identity: a request cannot be hashed
        config.changed = self._changed

    def install(self, app: web.Application) -> None:
        """Stand before everything that the app answers."""
        app.middlewares.insert(0, self._pass)
        app.on_response_prepare.append(self._dress)
        app.on_shutdown.append(self._close)

    @web.middleware
    async def _pass(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        settings = self._config.current()
        if not self._bucket.takes(settings.limit, asyncio.get_running_loop().time()):
            return web.Response(text=_OFTEN, status=429, headers={"Retry-After": "1"})
        if settings.allowed and settings.allowed.isdisjoint(names(_peer(request))):
            return _closing(web.Response(text=_NO_NAME, status=403))
        if settings.users and request.path not in OPEN:
            refusal = await self._refusal(request, settings.users)
            if refusal is not None:
                return refusal
        self._answering[id(request)] = request
        try:
            response = await handler(request)
        finally:
            del self._answering[id(request)]
        return _closing(response) if _is_outdated(request, settings) and not response.prepared else response

    async def _refusal(self, request: web.Request, users: Mapping[str, str]) -> web.Response | None:
        verdict = await self._users.check(users, request.headers.get("Authorization", ""), request.remote or "")
        if verdict == "ok":
            return None
        if verdict == "busy":
            return web.Response(text=_BUSY, status=429, headers={"Retry-After": "1"})
        asks = {"WWW-Authenticate": 'Basic realm="inferometer", charset="UTF-8"'}
        return web.Response(text="Unauthorized\n", status=401, headers=asks)

    def _changed(self) -> None:
        """What is being answered by the old rules may end soon; a stream that goes on is cut, and asked for anew."""
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._cut, tuple(self._answering.values()))

    def _cut(self, requests: tuple[web.Request, ...]) -> None:
        for request in requests:
            if self._answering.get(id(request)) is request and request.transport is not None:
                request.transport.abort()

    async def _dress(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._config.current().headers)

    async def _close(self, _: web.Application) -> None:
        self._users.close()


def names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The alternative names in a certificate that was verified, written as Go does."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            yield str(ipaddress.ip_address(value))
        elif kind in {"DNS", "email", "URI"}:
            yield value


def _peer(request: web.Request) -> Mapping[str, Any]:
    peer = request.get_extra_info("peercert")
    return peer if isinstance(peer, Mapping) else {}


def _is_outdated(request: web.Request, settings: Settings) -> bool:
    """Whether the connection was made with another certificate, or other rules for clients, than hold now."""
    connection = request.get_extra_info("ssl_object")
    return connection is not None and connection.context is not settings.context


def _closing(response: web.StreamResponse) -> web.StreamResponse:
    response.force_close()
    return response
