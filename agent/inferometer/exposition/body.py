"""The body of an answer: bytes that all who ask share, handed out a piece at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

_PIECE_BYTES = 1 << 15
_GZIP = 31


class Body(Payload):
    """A client that does not read has one piece of it waiting, not a copy of it all."""

    def __init__(self, data: bytes, content_type: str) -> None:
        super().__init__(data, content_type=content_type)
        self._size = len(data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text."""
        return str(b"".join(self._pieces()), encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Wait after each piece until there is room for the next."""
        for piece in self._pieces():
            await writer.write(piece)
            await writer.drain()

    def _pieces(self) -> Iterator[bytes | memoryview]:
        data = memoryview(self._value)
        for start in range(0, len(data), _PIECE_BYTES):
            yield data[start : start + _PIECE_BYTES]


class Unpacked(Body):
    """What ``packed`` has in gzip, of which there are ``size`` bytes."""

    def __init__(self, packed: bytes, size: int, content_type: str) -> None:
        super().__init__(packed, content_type)
        self._size = size

    def _pieces(self) -> Iterator[bytes | memoryview]:
        inflater, rest = zlib.decompressobj(_GZIP), bytes(self._value)
        while not inflater.eof:
            yield inflater.decompress(rest, _PIECE_BYTES)
            rest = inflater.unconsumed_tail
