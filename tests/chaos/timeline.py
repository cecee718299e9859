"""A clock that a test moves: steady time, and a wall clock that may be set."""

from __future__ import annotations

from inferometer.app.clock import Clock


class Timeline(Clock):
    """``now``: steady seconds; ``offset``: what the wall clock is ahead of them."""

    def __init__(self, start: float) -> None:
        self.now, self.offset = start, 0.0

    def at(self) -> float:
        return self.now

    def ahead(self) -> float:
        return self.offset

    def wall(self) -> float:
        return self.now + self.offset
