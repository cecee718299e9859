"""What may be wrong with an answer as a whole: its status, headers, encoding and length, or that there is none."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from inferometer.errors import SourceError
from inferometer.sources import connection

MOST_BYTES = 1 << 20  # max_page_bytes in these tests


@dataclass
class Answer:
    """One HTTP answer. ``error``: there is none; ``length``: as its head announces it, where it is another."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None
    length: int | None = None

    def given(self, limit: int) -> connection.Answer:
        """What a connection makes of it."""
        if self.error is not None:
            raise self.error
        if (len(self.body) if self.length is None else self.length) > limit:
            raise SourceError("too_large", f"more than {limit} bytes")
        return connection.Answer(self.status, {k.lower().encode(): v for k, v in self.headers.items()}, self.body)


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
    "hung up": (_raises(SourceError, "reset", "hung up"), "reset"),
    "silence": (_raises(TimeoutError), "timeout"),
    "no HTTP": (_raises(SourceError, "protocol", "no HTTP"), "protocol"),
    "cut in the body": (_raises(SourceError, "truncated", "ends early"), "truncated"),
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
