"""How many spans a second are taken: a bucket that one batch may overdraw, since none is known before it is read."""

from __future__ import annotations

_BURST_SECONDS = 2.0  # what may come at once after a rest
_DEBT_SECONDS = 10.0  # the longest that one batch keeps the next out


class Rate:
    """``per_second``: what is taken in the long run; it may be changed at any time."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left = per_second * _BURST_SECONDS
        self._at = 0.0

    def has_room(self, at: float) -> bool:
        """Whether something can be taken at this steady time."""
        grown = self._left + max(0.0, at - self._at) * self.per_second
        self._left, self._at = min(self.per_second * _BURST_SECONDS, grown), at
        return self._left > 0

    def spend(self, spans: float) -> None:
        """So many were taken."""
        self._left = max(self._left - spans, -self.per_second * _DEBT_SECONDS)
