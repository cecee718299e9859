"""The server's side of a trial: who was read when, out of nginx's log."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct


class Hit(Struct, frozen=True):
    """One answer. ``first``: it was the first on its connection."""

    at: float
    host: str
    whole: bool
    first: bool


class Pace(Struct, frozen=True):
    """How steadily targets were read: how far the time between two readings of one was from the interval, seconds."""

    p50: float
    p99: float


class Access:
    """Reads the log in pieces. A site has one reader at a time, so that all answers are its."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """Where the log ends now."""
        return self._path.stat().st_size if self._path.exists() else 0

    def since(self, mark: int) -> list[Hit]:
        """All answers after a mark."""
        return self.between(mark, self.mark())

    def between(self, begin: int, end: int) -> list[Hit]:
        """All answers after one mark and before another."""
        if end <= begin:
            return []
        with self._path.open("rb") as file:
            file.seek(begin)
            lines = file.read(end - begin).decode().splitlines()
        return [_hit(line) for line in lines if line.count(" ") == 4]


def pace(hits: Sequence[Hit], every: float) -> Pace:
    """The jitter of the readings of each target; zeros where no target was read twice."""
    times: dict[str, list[float]] = defaultdict(list)
    for hit in hits:
        times[hit.host].append(hit.at)
    off = [abs(b - a - every) for read in times.values() for a, b in itertools.pairwise(sorted(read))]
    if len(off) < 2:
        return Pace(*(off * 2 or (0.0, 0.0)))
    cuts = statistics.quantiles(off, n=100, method="inclusive")
    return Pace(cuts[49], cuts[98])


def _hit(line: str) -> Hit:
    at, host, status, size, number = line.split(" ")
    return Hit(float(at), host, status == "200" and int(size) > 0, number == "1")
