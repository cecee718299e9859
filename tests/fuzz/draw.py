"""Structure out of bytes: what a fuzzer mutates decides what a target builds, so that no mutator of its own is needed."""

from __future__ import annotations

import struct

INTERESTING = (
    0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, 1e-9, 3.0, 100.0, 2.0**31, 2.0**53, 2.0**63, 2.0**64, 1e18, 9.9e17, 1e300,
    1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), 1.8e9, 1.8e12, 1e-300,
)  # fmt: skip
"""Numbers at which something may end."""


class Draw:
    """Reads decisions off ``data``; past its end every decision is the first choice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def below(self, count: int) -> int:
        """A number from 0 on; of 256 and more in two bytes."""
        return (self.byte() if count <= 256 else self.byte() << 8 | self.byte()) % count

    def choose(self, options):
        return options[self.below(len(options))]

    def chunk(self, most: int = 255) -> bytes:
        """Bytes behind their length."""
        size = self.below(most + 1)
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def rest(self) -> bytes:
        found = self._data[self._at :]
        self._at = len(self._data)
        return found

    def text(self, most: int = 20) -> str:
        return self.chunk(most).decode("utf-8", "replace")

    def number(self) -> float:
        """An interesting one, a small one, or any double."""
        kind = self.byte()
        if kind < 128:
            return float(kind)
        if kind < 240:
            return INTERESTING[kind % len(INTERESTING)]
        return struct.unpack("<d", self.chunk(8).ljust(8, b"\0")[:8])[0]
