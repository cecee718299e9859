"""Decompression that never makes more than it is allowed to."""

from __future__ import annotations

import zlib

from inferometer.errors import SourceError

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_MEMBERS = 100  # gzip streams in one body; each costs a copy of all that follows it


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo an HTTP content encoding. SourceError: ``too_large`` (over ``limit`` bytes), ``truncated``, ``protocol``."""
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW:
        raise SourceError("protocol", f"the answer has an encoding that was not asked for: {encoding[:40]}")
    pieces: list[bytes] = []
    left = limit
    for _ in range(_MEMBERS):
        if not body:
            return b"".join(pieces)
        piece, body = _member(body, _window(body, encoding), left)
        left -= len(piece)
        pieces.append(piece)
    raise SourceError("protocol", f"the compressed body has more than {_MEMBERS} parts")


def _window(body: bytes, encoding: str) -> int:
    """Some servers say deflate and leave out the zlib header that belongs to it."""
    bare = encoding == "deflate" and (len(body) < 2 or body[0] & 0x0F != 8 or (body[0] << 8 | body[1]) % 31)
    return -zlib.MAX_WBITS if bare else _WINDOW[encoding]


def _member(body: bytes, window: int, limit: int) -> tuple[bytes, bytes]:
    """One compressed stream (a gzip file may hold several) and what follows it."""
    stream = zlib.decompressobj(window)
    try:
        piece = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise SourceError("protocol", f"the compressed body is damaged ({error})") from error
    if len(piece) > limit:
        raise SourceError("too_large", f"the body inflates beyond {limit} bytes")
    if not stream.eof:
        raise SourceError("truncated", "the compressed body ends in the middle")
    return piece, stream.unused_data
