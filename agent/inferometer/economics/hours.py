"""Hours: money and verdicts of each hour, kept as long as a budget looks back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from msgspec import Struct

from inferometer.model import Account, Entry

HOUR_SECONDS = 3600.0
ERROR_BUDGET_SECONDS = 30 * 86400.0
_FIELDS = {
    "inferometer_cost_total": "money",
    "inferometer_slo_requests_total": "judged",
    "inferometer_good_requests_upper_total": "good_upper",
}


class Hour(Struct):
    """What a workload's budgets need of an hour."""

    money: float = 0.0
    judged: float = 0.0
    good_upper: float = 0.0

    def add(self, amounts: Mapping[Account, float]) -> None:
        """Take what was posted."""
        for (name, _), amount in amounts.items():
            if amount and name in _FIELDS:
                kind = _FIELDS[name]
                setattr(self, kind, getattr(self, kind) + amount)

    def plus(self, other: Hour, share: float = 1.0) -> Hour:
        """Both, or this and a share of the other."""
        money, judged = self.money + share * other.money, self.judged + share * other.judged
        return Hour(money, judged, self.good_upper + share * other.good_upper)


class Hours:
    """By workload and start of the hour (unix time). Of more hours than ``keep_seconds`` has the oldest are forgotten.

    A wall clock that is in another year for a time does not cost the past.
    """

    def __init__(self, keep_seconds: float) -> None:
        self.keep_seconds = keep_seconds
        self._hours: dict[str, dict[float, Hour]] = {}
        self._sums: dict[tuple[str, float], tuple[float, Hour]] = {}

    def load(self, rows: Iterable[tuple[str, float, Mapping[Account, float]]]) -> None:
        """Take hours that were kept elsewhere: workload, start, amounts."""
        for workload, start, amounts in rows:
            self._at(workload, float(start)).add(amounts)

    def post(self, entries: Iterable[Entry]) -> None:
        """Take what was settled."""
        for entry in entries:
            self._at(entry.workload, entry.until // HOUR_SECONDS * HOUR_SECONDS).add(entry.amounts)

    def since(self, workload: str, start: float, now: float = inf) -> Hour:
        """The sum of the hours since ``start``; of one that had begun before its share by time, up to ``now``."""
        hours = self._hours.get(workload, {})
        if not hours:
            return Hour()
        newest = max(hours)
        first = -(-start // HOUR_SECONDS) * HOUR_SECONDS
        known, whole = self._sums.get((workload, first), (0.0, Hour()))
        if known != newest:
            whole = Hour()
            for begun, hour in hours.items():
                if first <= begun < newest:
                    whole = whole.plus(hour)
            self._sums = {
                where: kept for where, kept in self._sums.items() if kept[0] == newest or where[0] != workload
            }
            self._sums[workload, first] = (newest, whole)
        if newest >= first:
            whole = whole.plus(hours[newest])
        begun = first - HOUR_SECONDS
        if begun in hours and begun < start < now:
            lasted = min(now - begun, HOUR_SECONDS)
            whole = whole.plus(hours[begun], max(0.0, begun + lasted - start) / lasted)
        return whole

    def _at(self, workload: str, start: float) -> Hour:
        hours = self._hours.setdefault(workload, {})
        if start not in hours:
            if start < max(hours, default=start):
                self._sums.clear()  # an hour that was summed already
            hours[start] = Hour()
            while len(hours) > self.keep_seconds / HOUR_SECONDS + 2:
                del hours[min(hours)]
        elif start < max(hours):
            self._sums.clear()
        return hours[start]
