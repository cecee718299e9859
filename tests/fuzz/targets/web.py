"""Any bytes on the agent's own port: an answer below 500 (503 for what is not there yet), or a closed connection."""

from __future__ import annotations

import asyncio
import logging
import re

from aiohttp import web
from fuzz.draw import Draw
from inferometer.exposition.feed import Feed
from inferometer.exposition.server import make_app
from inferometer.model import Snapshot

PATHS = (
    "/",
    "/metrics",
    "/api/v1/history",
    "/api/v1/history?since=",
    "/api/v1/snapshot?metrics=",
    "/api/v1/board",
    "/-/release?seconds=",
    "/-/reload",
    "/-/ready",
    "/page.js",
    "/../etc/passwd",
    "/%2e%2e/",
    "*",
)
VALUES = ("nan", "inf", "-inf", "1e999", "1_0", "", "0", "60", "-1", "٣", "%00", "a&since=1", "1" * 400)
HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "Range",
    "X",
)
CONTENTS = (
    "application/openmetrics-text;q=1",
    "text/plain;q=nan",
    "gzip;q=1e999",
    "*;q=0,gzip",
    ",,;;=",
    "chunked",
    "keep-alive, upgrade",
    "100-continue",
    "5",
    "\xff",
)
DICTIONARY = (
    *tuple(word.encode("utf-8", "replace") for word in (*PATHS, *VALUES, *HEADERS, *CONTENTS)),
    b"GET ",
    b"POST ",
    b" HTTP/1.1\r\n",
    b"\r\n\r\n",
    b": ",
)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class State:
    """What the server asks of the agent."""

    interval_seconds = 5.0
    lifecycle = True

    def __init__(self) -> None:
        self.feed = Feed()

    def snapshot(self):
        return Snapshot(wall=1.7e9, totals={("inferometer_cost_total", ("w", "gpu", "busy")): 1.0})

    def age_seconds(self):
        return 1.0

    def healthy(self):
        return ""

    async def release(self, seconds):
        if not 0 < seconds <= 3600:
            raise AssertionError(seconds)
        return "released"

    def ready(self):
        return True, "ready"

    async def reload(self):
        return False, "bad"


class Wire(asyncio.Transport):
    """Takes what is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answered, self.closed = bytearray(), False

    def write(self, data):
        self.answered += data

    def writelines(self, pieces):
        self.answered += b"".join(pieces)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def get_extra_info(self, _, default=None):
        return default

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def is_reading(self):
        return True


_loop = asyncio.new_event_loop()
_server = []


def seeds():
    """Requests as they are, and built ones."""
    yield b"\0GET /api/v1/history?since=5 HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"\0POST /-/release?seconds=60 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
    yield b"\1" + bytes(range(80))


def check(data):
    """One connection, fed in two pieces."""
    draw = Draw(data)
    body = _request(draw) if draw.byte() & 1 else draw.rest()
    _loop.run_until_complete(_exchange(body))


async def _exchange(body):
    if not _server:
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        runner = web.AppRunner(make_app(State()), access_log=None)
        await runner.setup()
        _server.append(runner.server)
    protocol, wire = _server[0](), Wire()
    protocol.connection_made(wire)
    half = len(body) // 2
    protocol.data_received(body[:half])
    if not wire.closed:
        protocol.data_received(body[half:])
    for _ in range(12):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    for status in _STATUS.findall(bytes(wire.answered)):
        if int(status) >= 500 and int(status) != 503:
            raise AssertionError((body, bytes(wire.answered)))


def _request(draw):
    path = draw.choose(PATHS) + (draw.choose(VALUES) if draw.byte() & 3 else draw.text(12))
    lines = [f"{draw.choose(('GET', 'POST', 'HEAD', 'OPTIONS', 'GE T'))} {path} HTTP/1.1", "Host: a"]
    lines += [
        f"{draw.choose(HEADERS)}: {draw.choose(CONTENTS) if draw.byte() & 1 else draw.text(12)}"
        for _ in range(draw.below(5))
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace") + draw.chunk(20)
