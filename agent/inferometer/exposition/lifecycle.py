"""What changes something, POST /-/reload and POST /-/release: off until it is switched on, and never for a browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

PATHS = frozenset({"/-/reload", "/-/release"})
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OFF = "This is switched off. SIGHUP reloads; --web.enable-lifecycle switches it on.\n"
_BROWSER = "This comes from a page in a browser, and no page has business here. Use curl -X POST.\n"


def lifecycle(allowed: Callable[[], bool]) -> Middleware:
    """The middleware. ``allowed``: whether it is switched on now."""

    @web.middleware
    async def refuse(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.method in _SAFE:
            return await handler(request)
        if _by_page(request):
            return web.Response(text=_BROWSER, status=403)
        if request.path in PATHS and not allowed():
            return web.Response(text=_OFF, status=403)
        return await handler(request)

    return refuse


def _by_page(request: web.Request) -> bool:
    """Whether a page sends this, whosever it is: browsers give a POST its origin, and no page of ours posts.

    To compare the origin with the host would let in a page whose name was made to resolve to this machine.
    """
    return "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none"
