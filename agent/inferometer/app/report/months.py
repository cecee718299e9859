"""Month to date and forecast: what was spent, and what the rest of the month costs at the present pace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo

from msgspec import Struct

from inferometer.app.report.book import HOUR_SECONDS, Book, Hour, Span

_PACE_SECONDS = 7 * 24 * HOUR_SECONDS


class Month(Struct, frozen=True):
    """One workload's calendar month. ``per_hour``: the pace of the last ``pace_hours``, of which the forecast is made.

    ``forecast`` = ``spent`` + ``per_hour`` × ``hours_left``; both are None before the first whole hour.
    """

    month: str
    workload: str
    spent: float
    hours_left: float
    pace_hours: float = 0.0
    per_hour: float | None = None
    forecast: float | None = None


def months(book: Book, now: float, zone: tzinfo) -> list[Month]:
    """The month that ``now`` lies in, for every workload with money in it or in the week before."""
    first, following = _month_of(now, zone)
    name = datetime.fromtimestamp(now, zone).strftime("%Y-%m")
    found = []
    for workload, rows in _by_workload(book, now):
        spent, left = sum(_money(hour) for hour in rows if hour.at >= first), (following - now) / HOUR_SECONDS
        pace_hours, paid = _pace(rows, now)
        if pace_hours <= 0:
            found.append(Month(name, workload, spent, left))
        elif spent or paid:
            per_hour = paid / pace_hours
            found.append(Month(name, workload, spent, left, pace_hours, per_hour, spent + per_hour * left))
    return found


def _pace(rows: list[Hour], now: float) -> tuple[float, float]:
    """Hours up to ``now`` and their money; the ledger's first hour is a part of one and tells no pace."""
    if len(rows) < 2:
        return 0.0, 0.0
    begin = max((now - _PACE_SECONDS) // HOUR_SECONDS * HOUR_SECONDS, rows[1].at)
    return (now - begin) / HOUR_SECONDS, sum(_money(hour) for hour in rows if hour.at >= begin)


def _by_workload(book: Book, now: float) -> Iterator[tuple[str, list[Hour]]]:
    rows: dict[str, list[Hour]] = {}
    for hour in book.within(Span(0.0, now)):
        rows.setdefault(hour.workload, []).append(hour)
    yield from sorted(rows.items())


def _money(hour: Hour) -> float:
    return sum(amount for (name, _), amount in hour.amounts.items() if name == "inferometer_cost_total")


def _month_of(now: float, zone: tzinfo) -> tuple[float, float]:
    """The unix times at which the month of ``now`` begins and the next one does."""
    first = datetime.fromtimestamp(now, zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)
    return first.timestamp(), first.replace(year=year, month=month).timestamp()
