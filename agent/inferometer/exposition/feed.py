"""What changes as snapshots come: the newest board, the last hour of it, and who is to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferometer.exposition.board import GPU_COLUMNS, WORKLOAD_COLUMNS, board, columns, encode, outline, windows
from inferometer.exposition.cache import Cache
from inferometer.exposition.history import History
from inferometer.exposition.spending import Spending
from inferometer.model import Snapshot

_LOOK_SECONDS = 1.0
_WARM_UP_SECONDS = 5.0  # ratios over the first second would stand out in the hour that follows


class Feed:
    """Takes every snapshot; cheap while nobody listens: sums once a second, a point every 15 s.

    ``listeners``: those who are connected, and wake up; ``followers`` are called at once.
    """

    def __init__(self) -> None:
        self.listeners: set[asyncio.Event] = set()
        self.followers: list[Callable[[], None]] = []
        self._history = History({"workloads": WORKLOAD_COLUMNS, "gpus": GPU_COLUMNS})
        self._spending = Spending()
        self._made = Cache()
        self._looked = float("-inf")
        self._began: float | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Take a snapshot and tell all who are to be told."""
        for follow in self.followers:
            follow()
        if not 0 <= snapshot.wall - self._looked < _LOOK_SECONDS:
            self._looked = snapshot.wall
            self._look(snapshot)
        for news in self.listeners:
            news.set()

    def _look(self, snapshot: Snapshot) -> None:
        there = windows(snapshot)
        self._spending.see(snapshot, there)
        if there and self._began is None:
            self._began = snapshot.wall
        warm = self._began is not None and not 0 <= snapshot.wall - self._began < _WARM_UP_SECONDS
        if warm and self._history.due(snapshot.wall):
            self._history.add(snapshot.wall, columns(outline(snapshot, self._spending)))

    def board(self, snapshot: Snapshot, interval_seconds: float) -> bytes:
        """JSON of the newest board, made once per snapshot."""

        def make() -> bytes:
            made = board(snapshot, self._spending, interval_seconds)
            return encode({**made, "history_until": self._history.until})

        return self._made.get(snapshot, "board", make)

    def history(self, since: float) -> bytes:
        """JSON of the last hour's points after ``since``, a unix time."""
        return self._history.body(since)
