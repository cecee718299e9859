"""The body of an answer: bytes that all who ask share, handed out a piece at a time."""

from __future__ import annotations

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

_PIECE_BYTES = 1 << 15


class Body(Payload):
    """A client that does not read has one piece of it waiting, not a copy of it all."""

    def __init__(self, data: bytes, content_type: str) -> None:
        super().__init__(data, content_type=content_type)
        self._size = len(data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Wait after each piece until there is room for the next."""
        data = memoryview(self._value)
        for start in range(0, len(data), _PIECE_BYTES):
            await writer.write(data[start : start + _PIECE_BYTES])
            await writer.drain()
