"""The room that there is for the series of all engines, and what of it is taken."""

from __future__ import annotations

from inferometer.interval.engine import EngineState, Reading
from inferometer.interval.room import Room
from inferometer.model import EngineSignal


class Capacity:
    """``room``: what there is; ``held``: what of it is taken.

    ``dropped``: series left out of pages, each time, by what there was no room in.
    """

    def __init__(self) -> None:
        self.room = Room()
        self.dropped = {"series": 0, "all_series": 0}
        self.held = 0

    def take(self, state: EngineState) -> None:
        """The engine is followed, with the series that it had."""
        self.held += state.marks.size

    def free(self, state: EngineState) -> None:
        """The engine is followed no longer."""
        self.held -= state.marks.size

    def read(self, state: EngineState, signal: EngineSignal, watched_since: float) -> Reading:
        """The page, as far as there is room for its series beside those of all others."""
        held = state.marks.size
        left = held + max(0, self.room.all_series - self.held)
        reading = state.read(signal, watched_since, min(self.room.series, left))
        self.held += state.marks.size - held
        self.dropped["series" if self.room.series <= left else "all_series"] += reading.dropped
        return reading
