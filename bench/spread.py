"""A few runs of one thing: the median, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

_Run = TypeVar("_Run")


class Spread(Struct, frozen=True):
    """Median, least and most."""

    median: float
    least: float
    most: float

    def text(self, digits: int, scale: float = 1.0) -> str:
        """``median (least – most)`` in a unit ``scale`` times smaller."""
        middle, least, most = (f"{value * scale:,.{digits}f}" for value in (self.median, self.least, self.most))
        return f"{middle} ({least} – {most})"


def spread(runs: Iterable[_Run], value: Callable[[_Run], float]) -> Spread:
    """Of a value of each run."""
    values = [value(run) for run in runs]
    return Spread(statistics.median(values), min(values), max(values))
