"""The last hour in memory, point by point: what the live page draws and ``/api/v1/history`` answers.

Bounded by construction: a point takes 8 bytes a column, so a workload or GPU of 240 points and 10 columns 19 kB, and
no more than MOST_ROWS of each are kept. The hour starts with the process.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

import msgspec

SECONDS = 3600
EVERY_SECONDS = 15
POINTS = SECONDS // EVERY_SECONDS
MOST_ROWS = 500
"""Workloads, and GPUs, of which an agent keeps the hour; further ones are left out."""

Values = Mapping[str, float | None]
Rows = Mapping[str, Values]
_NONE = math.nan


class History:
    """A ring of POINTS points, EVERY_SECONDS apart; ``tables`` names the columns of each table of rows."""

    def __init__(self, tables: Mapping[str, tuple[str, ...]]) -> None:
        self._tables = {name: _Table(columns) for name, columns in tables.items()}
        self._at = array("d", [_NONE]) * POINTS
        self._taken = 0

    def due(self, at: float) -> bool:
        """Whether a point at this unix time would be one interval or more after the last, or a clock was set back."""
        last = self.until
        return last is None or at - last >= EVERY_SECONDS or at < last

    @property
    def until(self) -> float | None:
        """Unix time of the newest point; None before the first."""
        return self._at[(self._taken - 1) % POINTS] if self._taken else None

    def add(self, at: float, tables: Mapping[str, Rows]) -> None:
        """Take one point. An axis that runs back is none: a clock set back starts the hour anew."""
        if self.until is not None and at < self.until:
            self._taken = 0
            for table in self._tables.values():
                table.rows.clear()
        place = self._taken % POINTS
        self._at[place] = at
        self._taken += 1
        for name, rows in tables.items():
            self._tables[name].put(place, self._taken, rows)

    def body(self, since: float = -math.inf) -> bytes:
        """JSON of the points after ``since``: the times, and per table, row and column as many values or nulls."""
        first = max(0, self._taken - POINTS)
        places = [n % POINTS for n in range(first, self._taken) if self._at[n % POINTS] > since]
        tables = {name: {row: table.read(row, places) for row in table.rows} for name, table in self._tables.items()}
        head = {"every_seconds": EVERY_SECONDS, "points": POINTS, "at": [self._at[place] for place in places]}
        return msgspec.json.encode({**head, **tables})  # NaN is null there


class _Row:
    """One ring per column, and when it was last written."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.rings = {column: array("d", [_NONE]) * POINTS for column in columns}
        self.written = 0


class _Table:
    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self.rows: dict[str, _Row] = {}

    def put(self, place: int, number: int, rows: Rows) -> None:
        """Write one point to every row; rows that are gone get none, and after an hour of that they go."""
        for name, values in rows.items():
            if name not in self.rows and len(self.rows) < MOST_ROWS:
                self.rows[name] = _Row(self.columns)
            if name in self.rows:
                self._write(self.rows[name], place, values)
                self.rows[name].written = number
        for name, row in list(self.rows.items()):
            if row.written != number:
                self._write(row, place, {})
            if number - row.written >= POINTS:
                del self.rows[name]

    def _write(self, row: _Row, place: int, values: Values) -> None:
        for column, ring in row.rings.items():
            value = values.get(column)
            ring[place] = _NONE if value is None else value

    def read(self, name: str, places: list[int]) -> dict[str, list[float]]:
        return {column: [ring[place] for place in places] for column, ring in self.rows[name].rings.items()}
