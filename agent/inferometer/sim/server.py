"""One simulated engine behind a real HTTP server: its page, its completions API, and its controls for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from inferometer.sim.engine import Engine
from inferometer.sim.flight import Flight
from inferometer.sim.traffic import Request, Traffic

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_COMPLETIONS = "/v1/completions"
_BIND_PATIENCE_SECONDS = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves ``engine`` on ``host``:``port`` (0: a free one); ``clock`` is unix time. Lives on one event loop."""

    host = "127.0.0.1"

    def __init__(self, engine: Engine, traffic: Traffic | None, clock: Callable[[], float], port: int = 0) -> None:
        self.engine = engine
        self.port = port
        self._traffic, self._clock = traffic, clock
        self._hung_until = 0.0
        self._refusing: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        """Where its metrics page is."""
        return f"http://{self.host}:{self.port}/metrics"

    async def start(self) -> None:
        """Listen."""
        app = web.Application(middlewares=[self._faults])
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health", self._health)
        app.router.add_post(_COMPLETIONS, self._completions)
        app.router.add_get("/sim/truth", self._show_truth)
        for control in (self.restart, self.stall, self.hang, self.refuse):
            app.router.add_post(f"/sim/{control.__name__}", partial(self._control, control))
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._refusing:
            self._refusing.cancel()
        if self._runner:
            await self._runner.cleanup()

    def catch_up(self) -> None:
        """Bring the engine, and the clients that it has of its own, to the clock's time."""
        now = self._clock()
        if self._traffic:
            self.engine.submit_all(self._traffic.between(self.engine.now, now))
        self.engine.advance(now)

    # -- controls ----------------------------------------------------------------------------------

    async def restart(self, seconds: float = 0.0) -> None:
        """Kill the process and start another one, which refuses connections for ``seconds``."""
        self.catch_up()
        self.engine.restart(seconds)
        if seconds > 0:
            await self.refuse(seconds)

    async def stall(self, seconds: float) -> None:
        """No progress and a frozen page for ``seconds``."""
        self.catch_up()
        self.engine.stall(seconds)

    async def hang(self, seconds: float) -> None:
        """Accept connections and answer none for ``seconds``; the engine goes on, and so do the controls."""
        self._hung_until = self._clock() + seconds

    async def refuse(self, seconds: float) -> None:
        """Refuse connections for ``seconds``; the engine goes on."""
        if self._refusing:
            self._refusing.cancel()
        if self._site:
            await self._site.stop()
            self._site = None
        self._refusing = asyncio.create_task(self._listen_after(seconds))

    def truth(self) -> dict[str, Any]:
        """What really happened until now; see ``Engine.truth``."""
        self.catch_up()
        return self.engine.truth()

    # -- how it works ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("listen before start")
        self._site = web.TCPSite(self._runner, self.host, self.port)
        await self._site.start()
        self.port = int(self._runner.addresses[-1][1])

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()
        self._refusing = None

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._site is None:  # a connection from before it refused
            return _break(request)
        if self._clock() < self._hung_until and not request.path.startswith("/sim/"):
            await asyncio.sleep(self._hung_until - self._clock())
            return _break(request)
        return await handler(request)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        self.catch_up()
        return web.Response(body=self.engine.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _show_truth(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self.truth())

    async def _control(self, control: Callable[[float], Awaitable[None]], request: web.Request) -> web.StreamResponse:
        try:
            seconds = float(request.query.get("seconds", "0"))
        except ValueError:
            raise web.HTTPBadRequest(text="seconds must be a number") from None
        await control(seconds)
        return web.Response()

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self.catch_up()
        try:
            asked, stream = _asked(await request.json(), self.engine.now, self.engine.machine.max_model_len)
        except (TypeError, ValueError) as fault:
            self.engine.sheet.http(_COMPLETIONS, "4xx", self.engine.now)
            return web.json_response({"error": {"message": str(fault), "code": 400}}, status=400)
        moved = asyncio.Event()
        flight = self.engine.submit(asked, lambda _flight: moved.set())
        self.engine.advance(self.engine.now)
        try:
            return await (_stream if stream else _whole)(request, flight, moved)
        except (asyncio.CancelledError, ConnectionResetError):
            self.catch_up()
            self.engine.leave(flight)
            raise


def _break(request: web.Request) -> web.StreamResponse:
    """End the connection without an answer."""
    if request.transport:
        request.transport.abort()
    return web.Response()


def _asked(body: Any, now: float, longest: int) -> tuple[Request, bool]:
    """The request in a call's body: ``prompt`` is a text or a list of token ids; TypeError, ValueError if wrong."""
    if not isinstance(body, dict):
        raise TypeError("the body must be an object")
    prompt, output = body.get("prompt", ""), int(body.get("max_tokens", 16))
    tokens = max(1, len(prompt) if isinstance(prompt, list) else len(str(prompt).split()))
    if tokens + output > longest:
        raise ValueError(f"{tokens} + {output} tokens do not fit into {longest}")
    cached = int(body.get("cached_tokens", 0))
    return Request(now, tokens, output, cached, output, handler=_COMPLETIONS), bool(body.get("stream"))


def _body(flight: Flight, text: str) -> dict[str, Any]:
    request, reason = flight.request, "length" if flight.outcome else None
    return {
        "id": f"cmpl-{request.at:.6f}",
        "object": "text_completion",
        "created": int(request.at),
        "choices": [{"index": 0, "text": text, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": flight.output_tokens,
            "total_tokens": request.prompt_tokens + flight.output_tokens,
        },
    }


async def _whole(request: web.Request, flight: Flight, moved: asyncio.Event) -> web.StreamResponse:
    while not flight.outcome:
        moved.clear()
        await moved.wait()
    if flight.outcome == "rejected":
        return web.json_response({"error": {"message": "the queue is full", "code": 503}}, status=503)
    return (
        web.json_response(_body(flight, " token" * flight.output_tokens)) if flight.outcome == "ok" else _break(request)
    )


async def _stream(request: web.Request, flight: Flight, moved: asyncio.Event) -> web.StreamResponse:
    if flight.outcome == "rejected":
        return await _whole(request, flight, moved)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    sent = 0
    while not flight.outcome or sent < flight.output_tokens:
        moved.clear()
        if flight.output_tokens == sent:
            await moved.wait()
        text, sent = " token" * (flight.output_tokens - sent), flight.output_tokens
        await response.write(f"data: {json.dumps(_body(flight, text))}\n\n".encode())
    if flight.outcome != "ok":
        return _break(request)
    await response.write(b"data: [DONE]\n\n")
    return response
