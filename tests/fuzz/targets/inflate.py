"""Compressed bodies: never more than the limit, and only errors with a reason."""

from __future__ import annotations

import gzip
import zlib

from inferometer.errors import SourceError
from inferometer.sources.inflate import inflate

LIMIT = 4096
ENCODINGS = ("gzip", "deflate", "x-gzip", "", "br")
DICTIONARY = (b"\x1f\x8b\x08", b"\x78\x9c", b"\x03\x00" + bytes(8))


def seeds():
    """Whole, doubled, and one that inflates a thousandfold."""
    yield b"\0" + gzip.compress(b"x 1\n", mtime=0)
    yield b"\0" + gzip.compress(b"x 1\n", mtime=0) * 2
    yield b"\0" + gzip.compress(bytes(1 << 20), mtime=0)
    yield b"\1" + zlib.compress(b"x 1\n")


def check(data):
    """A body within the limit, or a SourceError."""
    encoding = ENCODINGS[data[0] % len(ENCODINGS)] if data else ""
    try:
        body = inflate(data[1:], encoding, LIMIT)
    except SourceError as error:
        if error.reason not in {"too_large", "truncated", "protocol"}:
            raise
        return
    if encoding and len(body) > LIMIT:
        raise AssertionError(len(body))
