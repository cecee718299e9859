"""The headers with which every answer goes out: what a browser may do with it."""

from __future__ import annotations

from aiohttp import web

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "inferometer",  # and not the releases of Python and its libraries
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer; a web configuration file may set some of them otherwise."""


async def protect(_: web.Request, response: web.StreamResponse) -> None:
    """Put them on. What has no rule of its own for caches is kept by none."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
