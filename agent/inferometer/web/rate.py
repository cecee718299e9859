"""How many requests a server answers: a bucket that fills by one in each interval, and is emptied by one at each."""

from __future__ import annotations

from inferometer.web.schema import RateLimit


class Bucket:
    """Full at first; without a limit it never empties. Times are steady seconds."""

    def __init__(self) -> None:
        self._limit: RateLimit | None = None
        self._left = 0.0
        self._at = 0.0

    def takes(self, limit: RateLimit | None, now: float) -> bool:
        """Whether one more request is within ``limit``; a limit that has changed starts full."""
        if limit is None:
            return True
        if limit != self._limit:
            self._limit, self._left, self._at = limit, float(limit.burst), now
        self._left = min(float(limit.burst), self._left + (now - self._at) / limit.interval)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
