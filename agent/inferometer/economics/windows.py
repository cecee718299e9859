"""Totals as they were: enough of them, per workload, to take the difference over each window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from inferometer.model import LATENCIES, Account, Entry, by_workload

_LATENCIES = {f"inferometer_{latency}_seconds" for latency in LATENCIES}
_POINTS_PER_WINDOW = 60

Sums = dict[Account, float]


class Windows:
    """Keeps the running sums of each workload and, for every window, about 60 older copies of them.

    Sums start at zero with this process: a window is the part of it that the agent has seen.
    """

    def __init__(self, windows: Iterable[float]) -> None:
        self.windows = tuple(windows)
        self._now: dict[str, Sums] = {}
        self._at: dict[str, float] = {}
        self._past: dict[tuple[str, float], deque[tuple[float, Sums]]] = {}

    def post(self, entries: Iterable[Entry], ahead: float = 0.0) -> None:
        """Add settled entries. ``ahead``: what the wall clock is ahead of the steady one, by which windows are."""
        for entry in entries:
            until = entry.until - ahead
            if entry.workload not in self._now:
                self._now[entry.workload] = {}
                self._at[entry.workload] = until
            sums = self._now[entry.workload]
            for account, amount in entry.amounts.items():
                reduced = by_workload(account)
                if reduced is not None:
                    sums[reduced] = sums.get(reduced, 0.0) + amount
            for (name, labels), histogram in entry.histograms.items():
                if name not in _LATENCIES:
                    continue
                workload, _, model = labels
                for suffix, amount in (("sum", histogram.sum), ("count", histogram.total)):
                    where = (f"{name}_{suffix}", (workload, model))
                    sums[where] = sums.get(where, 0.0) + amount
            self._at[entry.workload] = max(self._at[entry.workload], until)

    def forget(self, workloads: Iterable[str]) -> None:
        """Drop what is no longer shown."""
        for workload in workloads:
            if self._now.pop(workload, None) is not None:
                del self._at[workload]
                for window in self.windows:
                    self._past.pop((workload, window), None)

    def keep(self) -> None:
        """Remember the sums of this moment where the last copy is old enough."""
        for workload, sums in self._now.items():
            at = self._at[workload]
            for window in self.windows:
                past = self._past.setdefault((workload, window), deque())
                if not past or at - past[-1][0] >= window / _POINTS_PER_WINDOW:
                    past.append((at, dict(sums)))
                while len(past) > 1 and past[1][0] <= at - window:
                    past.popleft()

    def changes(self) -> Iterable[tuple[str, float, float, Mapping[Account, float]]]:
        """Per workload and window: workload, window, seconds that it really covers, and what each sum grew by."""
        for (workload, window), past in self._past.items():
            if workload in self._now and past:
                then, old = past[0]
                seconds = self._at[workload] - then
                if seconds > 0:
                    now = self._now[workload]
                    yield workload, window, seconds, {k: v - old.get(k, 0.0) for k, v in now.items()}
