"""The agent's HTTP server: every answer comes out of the newest snapshot and triggers no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web

from inferometer.exposition.accept import takes_gzip, wants_openmetrics
from inferometer.exposition.api import snapshot_json
from inferometer.exposition.body import Body, Unpacked
from inferometer.exposition.cache import Cache
from inferometer.exposition.events import Events
from inferometer.exposition.feed import Feed
from inferometer.exposition.lifecycle import lifecycle
from inferometer.exposition.listen import Listener, listen
from inferometer.exposition.press import Press, is_large
from inferometer.exposition.prometheus import OPENMETRICS_TYPE, TEXT_TYPE, Renderer
from inferometer.exposition.protection import protect
from inferometer.model import Snapshot

__all__ = ["Listener", "ServerState", "listen", "make_app"]

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATIC = {f"/{path.name}": path.name for path in _PAGE.iterdir() if path.suffix in _TYPES} | {"/": "index.html"}
_EXISTS = (
    "/  /metrics  /api/v1/snapshot  /api/v1/board  /api/v1/history  /api/v1/events  "
    "/-/healthy  /-/ready  POST /-/reload  POST /-/release"
)
_NO_SNAPSHOT = "There is no snapshot yet: the first readings are still under way. Try again in a moment.\n"
_LEAST_PATIENCE_SECONDS = 30.0
_LONGEST_RELEASE_SECONDS = 3600.0
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServerState(Protocol):
    """What the server asks of the agent; each answer is at hand, without I/O, but for a reload."""

    @property
    def interval_seconds(self) -> float:
        """The configured interval."""

    @property
    def lifecycle(self) -> bool:
        """Whether it may be reloaded, and the GPU driver released, over HTTP."""

    @property
    def feed(self) -> Feed:
        """What every snapshot is published to."""

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""

    def age_seconds(self) -> float:
        """Steady seconds since the last publish, or since the start before the first."""

    def healthy(self) -> str:
        """Why only a restart of the agent helps; '' while all is well."""

    async def release(self, seconds: float) -> str:
        """Let go of the GPU driver for so long; what to say about it."""

    def ready(self) -> tuple[bool, str]:
        """Whether the numbers may be relied on, and if not, why."""

    async def reload(self) -> tuple[bool, str]:
        """Read the configuration anew: whether it was accepted, and what to say about it."""


def make_app(state: ServerState) -> web.Application:
    """The routes, over one renderer and one cache."""
    app = web.Application(middlewares=[lifecycle(lambda: state.lifecycle), _not_found])
    app.on_response_prepare.append(protect)
    for path, name in _STATIC.items():
        app.router.add_get(path, _static(_PAGE / name))
    pages, live, probes = _Pages(state), _Live(state), _Probes(state)
    app.router.add_get("/metrics", pages.metrics)
    state.feed.followers.append(pages.press.published)
    app.on_shutdown.append(pages.press.close)
    app.router.add_get("/api/v1/snapshot", pages.api)
    app.router.add_get("/api/v1/board", live.board)
    app.router.add_get("/api/v1/history", live.history)
    app.router.add_get("/api/v1/events", live.events.stream)
    app.on_shutdown.append(live.events.close)
    app.router.add_get("/-/healthy", probes.healthy)
    app.router.add_get("/-/ready", probes.ready)
    app.router.add_post("/-/reload", probes.reload)
    app.router.add_post("/-/release", probes.release)
    return app


class _Pages:
    """What renders the snapshot, in the format and encoding that the client would rather have."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._renderer = Renderer()
        self.press = Press(self._renderer, state.snapshot)
        self._json = Cache()

    async def metrics(self, request: web.Request) -> web.Response:
        snapshot = self._state.snapshot()
        if snapshot is None:
            return _unavailable(_NO_SNAPSHOT)
        openmetrics = wants_openmetrics(request.headers.get("Accept", ""))
        content_type = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        packed = takes_gzip(request.headers.get("Accept-Encoding", ""))
        if is_large(snapshot):
            edition = await self.press.edition(openmetrics=openmetrics)
            text = Unpacked(edition.packed, edition.size, content_type)
            return _answer(Body(edition.packed, content_type) if packed else text, packed=packed)
        render = self._renderer.compressed if packed else self._renderer.render
        return _page(render(snapshot, openmetrics=openmetrics), content_type, packed=packed)

    async def api(self, request: web.Request) -> web.Response:
        """``?metrics=false`` leaves the single series out."""
        snapshot = self._state.snapshot()
        if snapshot is None:
            return _unavailable(_NO_SNAPSHOT)
        metrics = request.query.get("metrics") != "false"
        packed = takes_gzip(request.headers.get("Accept-Encoding", ""))
        make = self._json.compressed if packed else self._json.get
        body = make(snapshot, f"metrics={metrics}", lambda: snapshot_json(snapshot, metrics=metrics))
        return _page(body, "application/json", packed=packed)


class _Live:
    """What people watch: the board, now, pushed, and as it was in the last hour."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self.events = Events(state.feed, self._newest)

    def _newest(self) -> bytes | None:
        snapshot = self._state.snapshot()
        return None if snapshot is None else self._state.feed.board(snapshot, self._state.interval_seconds)

    async def board(self, _: web.Request) -> web.Response:
        body = self._newest()
        return _unavailable(_NO_SNAPSHOT) if body is None else _page(body, "application/json", packed=False)

    async def history(self, request: web.Request) -> web.Response:
        """``?since=UNIX`` leaves out the points up to then."""
        text = request.query.get("since", "0")
        try:
            since = float(text)
        except ValueError:
            return web.Response(text=f"since={text}: give unix seconds\n", status=400)
        return _page(self._state.feed.history(since), "application/json", packed=False)


class _Probes:
    """What an orchestrator asks."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def healthy(self, _: web.Request) -> web.Response:
        age = self._state.age_seconds()
        limit = max(3 * self._state.interval_seconds, _LEAST_PATIENCE_SECONDS)
        if age > limit:
            return _unavailable(f"The newest snapshot is {age:.0f} s old, more than {limit:.0f} s.\n")
        fault = self._state.healthy()
        if fault:
            return _unavailable(f"{fault}\n")
        return web.Response(text="ok\n")

    async def ready(self, _: web.Request) -> web.Response:
        ready, reason = self._state.ready()
        return web.Response(text="ready\n") if ready else _unavailable(f"{reason}\n")

    async def reload(self, _: web.Request) -> web.Response:
        accepted, text = await self._state.reload()
        return web.Response(text=f"{text}\n", status=200 if accepted else 400)

    async def release(self, request: web.Request) -> web.Response:
        """``?seconds=60``: how long the driver is let alone."""
        text = request.query.get("seconds", "60")
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds <= _LONGEST_RELEASE_SECONDS:
            fault = f"seconds={text}: give a number above 0 and up to {_LONGEST_RELEASE_SECONDS:.0f}\n"
            return web.Response(text=fault, status=400)
        return web.Response(text=f"{await self._state.release(seconds)}\n")


def _static(path: Path) -> _Handler:
    """A file of the package, read once."""
    body = path.read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=_TYPES[path.suffix], charset="utf-8")

    return answer


def _page(body: bytes, content_type: str, *, packed: bool) -> web.Response:
    return _answer(Body(body, content_type), packed=packed)


def _answer(body: Body, *, packed: bool) -> web.Response:
    headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


def _unavailable(text: str) -> web.Response:
    return web.Response(text=text, status=503, headers={"Retry-After": "1"})


@web.middleware
async def _not_found(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(text=f"Nothing is here. There is: {_EXISTS}\n", status=404)
