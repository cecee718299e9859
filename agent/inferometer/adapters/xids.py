"""XID errors counted, out of series that do not count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

NO_ERROR = frozenset({"", "0"})

Row = tuple[int | None, str]  # instance and XID


class _Memory(NamedTuple):
    """What the page before showed of one GPU."""

    is_window: bool
    rows: Mapping[Row, float]


class XidCounter:
    """Counts errors by GPU and XID from the first page on; what a page shows before that is from earlier times.

    A lower bound: of equal errors in a row the newest's number shows one, and a window shows none that comes as another
    one leaves it.
    """

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._counts: dict[str, dict[str, float]] = {}

    def count(self, uuid: str, newest: Mapping[int | None, str], window: Mapping[Row, float]) -> dict[str, float]:
        """Errors of a GPU by XID, after a page that shows the newest one per instance, or how many are in a window.

        Rows of several instances may repeat one error of their device: it counts once.
        """
        counts = self._counts.setdefault(uuid, {})
        before = self._memories.get(uuid)
        rows: dict[Row, float] = dict(window)
        if not window and newest:
            rows = dict.fromkeys(newest.items(), 1.0)
            if before is not None and not before.is_window:
                rows |= {row: value for row, value in before.rows.items() if row[0] not in newest}
        if rows:
            self._memories[uuid] = now = _Memory(bool(window), rows)
            for xid, new in _new(before, now).items():
                counts[xid] = counts.get(xid, 0.0) + new
        return dict(counts)


def _new(before: _Memory | None, now: _Memory) -> dict[str, float]:
    """How many errors of each XID came since; 0 of those that cannot be told apart from earlier ones."""
    new: dict[str, float] = {}
    for (instance, xid), value in now.rows.items():
        if xid in NO_ERROR:
            continue
        more = 0.0
        if before is not None and before.is_window == now.is_window:
            more = value - before.rows.get((instance, xid), 0.0)
        new[xid] = max(new.get(xid, 0.0), more)
    return new
