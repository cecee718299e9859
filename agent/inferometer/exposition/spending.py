"""Money per hour and its idle share over each window: differences of the totals that /metrics shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from inferometer.model import Account, Snapshot

_COST = "inferometer_cost_total"
_SETTLED = "inferometer_settled_until_timestamp_seconds"
_STEPS_PER_WINDOW = 60


class Rate(NamedTuple):
    """Money per hour, and the share of it that was spent while the GPUs did nothing; None where nothing was spent."""

    money_per_hour: float
    idle_ratio: float | None


class _Sums(NamedTuple):
    until: float
    money: float
    idle: float


class Spending:
    """Remembers, for each workload and window, about 60 older sums of cost; a window is the part of it that was seen.

    A workload without a price has no cost and therefore no rate.
    """

    def __init__(self) -> None:
        self._past: dict[tuple[str, float], deque[_Sums]] = {}
        self._now: dict[str, _Sums] = {}

    def see(self, snapshot: Snapshot, windows: Mapping[str, float]) -> None:
        """Take the totals of a snapshot; ``windows``: seconds by label."""
        self._now = _sums(snapshot)
        for workload, sums in self._now.items():
            for seconds in windows.values():
                self._keep((workload, seconds), sums)
        for key in [key for key in self._past if key[0] not in self._now]:
            del self._past[key]

    def _keep(self, key: tuple[str, float], sums: _Sums) -> None:
        past = self._past.setdefault(key, deque())
        if past and (sums.money < past[-1].money or sums.until < past[-1].until):
            past.clear()  # a ledger set aside, a clock set back
        if not past or sums.until - past[-1].until >= key[1] / _STEPS_PER_WINDOW:
            past.append(sums)
        while len(past) > 1 and past[1].until <= sums.until - key[1]:
            past.popleft()

    def rate(self, workload: str, seconds: float) -> Rate | None:
        """Over the newest ``seconds``; None before two sums were seen."""
        past, now = self._past.get((workload, seconds)), self._now.get(workload)
        if not past or now is None or now.until <= past[0].until:
            return None
        money, idle = now.money - past[0].money, now.idle - past[0].idle
        return Rate(3600 * money / (now.until - past[0].until), idle / money if money > 0 else None)


def _sums(snapshot: Snapshot) -> dict[str, _Sums]:
    """By workload: settled until when, its money so far, and its money in state idle."""
    found: dict[str, _Sums] = {}
    for (name, labels), amount in snapshot.totals.items():
        if name == _COST:
            workload, _, state = labels
            until, money, idle = found.get(workload) or _Sums(_until(snapshot, workload), 0.0, 0.0)
            found[workload] = _Sums(until, money + amount, idle + (amount if state == "idle" else 0.0))
    return found


def _until(snapshot: Snapshot, workload: str) -> float:
    account: Account = (_SETTLED, (workload,))
    return snapshot.values.get(account, snapshot.wall)
