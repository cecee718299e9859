"""Counters that wrap, made such that never fall."""

from __future__ import annotations


class Rising:
    """The sum of a counter's increases; it begins at the counter's first value.

    A fall by more than half of the counter's range is a wrap, any other a fresh start from 0.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._last = 0.0
        self._is_reopened = False

    def reopened(self) -> None:
        """The driver was opened anew: if the counter fell it was reset, however far."""
        self._is_reopened = True

    def add(self, raw: float, bits: int) -> float:
        """The sum, with this reading of a counter of ``bits``."""
        size = 2.0**32 if bits == 32 or self._last < 2.0**32 else 2.0**64  # 32 bits may stand in a field of 64
        if raw >= self._last:
            self.total += raw - self._last
        elif self._last - raw > size / 2 and not self._is_reopened:
            self.total += raw + size - self._last
        else:
            self.total += raw
        self._last, self._is_reopened = raw, False
        return self.total
