"""What may be wrong with an answer as a whole: its status, headers, encoding and length, or that there is none."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp

MOST_BYTES = 1 << 20  # max_page_bytes in these tests


@dataclass
class Answer:
    """One HTTP answer in the place of aiohttp's. ``error``: raised before its headers, or ``at_end`` of its body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None
    at_end: Exception | None = None
    length: int | None = None

    async def __aenter__(self) -> Self:
        """Its headers come, or do not."""
        if self.error is not None:
            raise self.error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    @property
    def content(self) -> Answer:
        return self

    @property
    def content_length(self) -> int | None:
        return len(self.body) if self.length is None else self.length

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body
        if self.at_end is not None:
            raise self.at_end

    def close(self) -> None:
        """Nothing is open."""


Fault = Callable[[random.Random, bytes], Answer]


def _gzip(body: bytes, **headers: str) -> Answer:
    return Answer(body, headers={"Content-Encoding": "gzip", **headers})


def _status(code: int, **headers: str) -> Fault:
    return lambda _rng, page: Answer(b"" if code == 204 else page, code, headers)


def _raises(error: type[Exception], *arguments: object) -> Fault:
    return lambda _rng, _page: Answer(error=error(*arguments))


def _cut(rng: random.Random, page: bytes) -> bytes:
    """Somewhere in a line."""
    while page[(at := rng.randrange(1, len(page))) - 1 : at] == b"\n":
        pass
    return page[:at]


ANSWERS: dict[str, tuple[Fault, str]] = {
    "no_content": (_status(204), "status"),
    "moved to nowhere": (_status(301), "redirect"),
    "moved for ever": (_status(302, Location="/metrics"), "redirect"),
    "unauthorized": (_status(401), "status"),
    "too many requests": (_status(429), "status"),
    "server error": (_status(500), "status"),
    "reset before the headers": (_raises(ConnectionResetError), "reset"),
    "hung up": (_raises(aiohttp.ServerDisconnectedError), "reset"),
    "silence": (_raises(TimeoutError), "timeout"),
    "no HTTP": (_raises(aiohttp.http_exceptions.BadStatusLine, "x"), "protocol"),
    "cut in the body": (lambda rng, page: Answer(_cut(rng, page), at_end=aiohttp.ClientPayloadError()), "truncated"),
    "cut, and nobody says so": (lambda rng, page: Answer(_cut(rng, page)), "truncated"),
    "no final newline": (lambda _, page: Answer(page[:-1]), "truncated"),
    "nothing": (lambda *_: Answer(), "truncated"),
    "announced too large": (lambda _, page: Answer(page, length=10**12), "too_large"),
    "endless": (lambda *_: Answer(b"x 1\n" * (MOST_BYTES // 3)), "too_large"),
    "gzip": (lambda _, page: _gzip(gzip.compress(page)), ""),
    "gzip in many parts": (lambda _, page: _gzip(gzip.compress(page[:1000]) + gzip.compress(page[1000:])), ""),
    "gzip bomb": (lambda *_: _gzip(gzip.compress(b"0" * (MOST_BYTES * 20))), "too_large"),
    "bomb in parts": (lambda *_: _gzip(gzip.compress(b"x 1\n") * 200), "protocol"),
    "broken gzip": (lambda _, page: _gzip(b"\x1f\x8b\x08" + bytes(40) + page[:100]), "protocol"),
    "half a gzip": (lambda _, page: _gzip(gzip.compress(page)[:-20]), "truncated"),
    "no gzip at all": (lambda _, page: _gzip(page), "protocol"),
    "bare deflate": (lambda _, page: Answer(zlib.compress(page)[2:-4], headers={"Content-Encoding": "deflate"}), ""),
    "brotli": (lambda _, page: Answer(page, headers={"Content-Encoding": "br"}), "protocol"),
    "HTML": (lambda *_: Answer(b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>\n"), "not_metrics"),
    "JSON": (lambda *_: Answer(b'{"error": "not today"}\n'), "not_metrics"),
    "protobuf": (lambda rng, _: Answer(b"\x96\x01\x0a" + rng.randbytes(300).replace(b"\n", b"")), "not_metrics"),
    "another content type": (lambda _, page: Answer(page, headers={"Content-Type": "image/png"}), ""),
    "metrics of something else": (lambda *_: Answer(b"# TYPE up gauge\nup 1\nnode_load1 0.5\n"), "unknown_engine"),
}
"""By name the fault, and the reason by which the agent is to count it; '' where the page is read all the same."""
