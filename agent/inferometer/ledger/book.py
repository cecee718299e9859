"""Ledger: totals, meter marks, hourly rows and the ids of new spans, written in one transaction. The only writer.

What is exposed is committed: ``totals`` change only after the disk has them (``synchronous=FULL``). A ledger that
cannot be trusted is set aside, never deleted, and the totals start at zero: a clean reset for every reader.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections import ChainMap
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct, field

from inferometer.errors import LedgerError
from inferometer.ledger.database import (
    State,
    Untrusted,
    amounts_in,
    aside,
    connected,
    expose,
    exposed,
    forget,
    is_about_access,
    is_damage,
    load,
    locked,
    set_aside,
)
from inferometer.ledger.span_ids import SpanIds
from inferometer.model import Account, Entry, Histogram, by_workload

_log = logging.getLogger(__name__)
_KEPT_HOURS = 400 * 24
_REMEMBERED_HOURS = 24
_HOUR = 3600
_SPARE = 1_024


class _Change(Struct):
    """New values of what one post touches."""

    totals: dict[Account, float] = field(default_factory=dict)
    created: dict[Account, float] = field(default_factory=dict)
    histograms: dict[Account, Histogram] = field(default_factory=dict)
    hours: dict[tuple[str, int], dict[Account, float]] = field(default_factory=dict)


class Ledger:
    """Totals that only grow. ``folder`` None keeps them in memory only. ``spans``: those that were taken lately.

    ``steady``: starts as unix time and is never set, as the wall clock may be, which would forget the spans.
    ``kept_aside``: ledgers in the folder that could not be trusted and wait for somebody to look at them.

    Raises LedgerError where the folder cannot be used at all or another agent holds it.
    """

    def __init__(
        self,
        folder: Path | None,
        currency: str,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self.state = State()
        self.error = ""
        self.failures = self.kept_aside = 0
        self.spans = SpanIds(wall if steady is None else steady)
        self._wall = wall
        self._currency = currency
        self._waiting: list[Entry] = []
        self._waiting_marks: dict[str, bytes] = {}
        self._hour: dict[str, tuple[int, dict[Account, float]]] = {}
        self._span_minute = 0
        self._texts: dict[tuple[str, ...], str] = {}
        self._damage, self._is_moved = "", False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._folder = folder
        self._database: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None
        if folder is not None:
            self._lock = locked(folder)
            self._open(folder)

    @property
    def has_new_spans(self) -> bool:
        """Whether spans were taken since the last commit, so that there is something to post without any entry."""
        return self.spans.pending

    async def post(self, entries: Iterable[Entry], marks: Mapping[str, bytes]) -> bool:
        """Commit entries, marks and new span ids together. An empty mark forgets an engine: its mark and its accounts.

        False (and ``error``) when the disk refused: they wait for the next.
        """
        self._waiting += entries
        self._waiting_marks.update(marks)
        ids = self.spans.waiting()
        try:
            change = await asyncio.get_running_loop().run_in_executor(self._writer, self._write, ids)
        except (sqlite3.Error, OSError) as error:
            self._waiting = _compacted(self._waiting)
            self.failures += 1
            self._complain(str(error))
            return False
        self._complain("")
        self.state.totals |= change.totals
        self.state.created |= change.created
        self.state.histograms |= change.histograms
        self.state.marks |= self._waiting_marks
        for name in _forgotten(self._waiting_marks):
            self.state.forget(name)
        for (workload, hour), amounts in change.hours.items():
            if hour >= self._hour.get(workload, (0, {}))[0]:
                self._hour[workload] = (hour, amounts)
        newest = max((hour for hour, _ in self._hour.values()), default=0)
        self._hour = {
            workload: row for workload, row in self._hour.items() if newest - row[0] <= _REMEMBERED_HOURS * _HOUR
        }
        self._waiting, self._waiting_marks = [], {}
        self.spans.committed(ids)
        return True

    def past(self, since: float, workloads: Container[str]) -> list[tuple[str, int, dict[Account, float]]] | None:
        """The hourly rows of these workloads since then, as on the disk; None where the ledger is in memory only."""
        if self._database is None:
            return None
        query = "SELECT workload, hour, amounts FROM hours WHERE hour >= ? ORDER BY hour"
        rows = self._database.execute(query, (since,))
        return [(workload, hour, amounts_in(text)) for workload, hour, text in rows if workload in workloads]

    def close(self) -> None:
        """Finish what is being written and let go of the folder."""
        self._writer.shutdown(wait=True)
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.close()

    def _write(self, ids: bytes) -> _Change:
        """Merge and commit what waits; runs on the writer's thread, where reading a row back may take its time."""
        try:
            if self._damage:
                self._begin_anew()
            return self._write_once(ids)
        except sqlite3.Error as error:
            if self._damage or not is_damage(error):
                raise
            self._damage = str(error)
        self._begin_anew()
        return self._write_once(ids)

    def _write_once(self, ids: bytes) -> _Change:
        change = self._merge(self._waiting)
        self._commit(change, self._waiting_marks, ids)
        return change

    # -- in memory

    def _merge(self, entries: Iterable[Entry]) -> _Change:
        change, now = _Change(), self._wall()
        state = self.state
        for entry in entries:
            hour = _hour_of(entry)
            for account, amount in entry.amounts.items():
                known = change.totals.get(account)
                known = state.totals.get(account) if known is None else known
                if amount == 0 and known is not None:
                    continue
                change.totals[account] = (known or 0.0) + amount
                if known is None:
                    change.created[account] = now
                reduced = by_workload(account)
                if amount and reduced is not None:
                    row = self._hour_row(change, entry.workload, hour)
                    row[reduced] = row.get(reduced, 0.0) + amount
            for account, more in entry.histograms.items():
                have = change.histograms.get(account) or state.histograms.get(account)
                same = have is not None and have.edges == more.edges
                change.histograms[account] = have.plus(more) if have is not None and same else more
                if not same:
                    change.created[account] = now
        return change

    def _hour_row(self, change: _Change, workload: str, hour: int) -> dict[Account, float]:
        where = (workload, hour)
        if where not in change.hours:
            kept_hour, kept = self._hour.get(workload, (-1, {}))
            change.hours[where] = dict(kept) if kept_hour == hour else self._read_hour(workload, hour)
        return change.hours[where]

    def _complain(self, error: str) -> None:
        if error != self.error:
            if error:
                _log.error(
                    "the ledger cannot be written; totals stand still until it can: check space, mount and owner",
                    extra={"error": error, "ledger": str(self._folder)},
                )
            else:
                _log.info("the ledger is written again")
        self.error = error

    # -- on disk

    def _open(self, folder: Path) -> None:
        path = folder / "ledger.db"
        try:
            self.kept_aside = aside(folder)
            self._open_or_set_aside(folder, path)
            self._check_currency(path)
            if self._database is not None:
                self._load_spans(self._database)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise LedgerError(
                f"{path}: cannot be used: {error}; check --storage.path, its owner and its disk"
            ) from error
        except LedgerError:
            self.close()
            raise

    def _open_or_set_aside(self, folder: Path, path: Path) -> None:
        try:
            self._database = connected(path)
            self.state = load(self._database, at_least=exposed(folder))
        except (sqlite3.Error, msgspec.MsgspecError, Untrusted, ValueError, TypeError, KeyError) as error:
            if isinstance(error, sqlite3.Error) and is_about_access(error):
                raise
            self._set_aside(path, str(error))

    def _set_aside(self, path: Path, why: str) -> None:
        if self._database is not None:
            self._database.close()
        kept = set_aside(path, int(self._wall()))
        self.kept_aside = aside(path.parent)
        _log.error("the ledger is set aside and totals start at zero", extra={"error": why, "kept_as": str(kept)})
        self._database = connected(path)
        self.state = load(self._database)

    def _begin_anew(self) -> None:
        """A ledger that was damaged while in use: what it had is in memory, and goes into another; hours apart."""
        if self._folder is None:
            return
        path, state = self._folder / "ledger.db", self.state
        if self._database is not None:
            self._database.close()
            self._database = None
        if not self._is_moved:
            kept, self._is_moved = set_aside(path, int(self._wall())), True
            self.kept_aside = aside(self._folder)
            _log.error(
                "the ledger is damaged and set aside; totals go on in a new one, earlier hours stay in the old one",
                extra={"error": self._damage, "kept_as": str(kept)},
            )
        self._database = connected(path)
        self._check_currency(path)
        hours = {(workload, hour): amounts for workload, (hour, amounts) in self._hour.items()}
        whole = _Change(state.totals, state.created, state.histograms, hours)
        self._commit(whole, state.marks, self.spans.remembered())
        self._damage, self._is_moved = "", False

    def _load_spans(self, database: sqlite3.Connection) -> None:
        shift = self.spans.load(database.execute("SELECT minute, ids FROM spans"))
        if shift:
            with database:
                database.execute("UPDATE spans SET minute = minute + ?", (shift,))

    def _check_currency(self, path: Path) -> None:
        if self._database is None:
            return
        row = self._database.execute("SELECT value FROM meta WHERE key = 'currency'").fetchone()
        if row is None:
            with self._database:
                self._database.execute("INSERT INTO meta VALUES ('currency', ?)", (self._currency,))
        elif row[0] != self._currency:
            raise LedgerError(
                f"{path}: its money is {row[0]}, the configuration says currency: {self._currency}; "
                f"use another --storage.path for another currency"
            )

    def _oldest_hour(self, change: _Change) -> int:
        """Up to which hour rows may go: a clock that jumps ahead, and is put right within the hour, deletes none."""
        before = max((hour for hour, _ in self._hour.values()), default=0)
        return min(max(hour for _, hour in change.hours), before + _HOUR) - _KEPT_HOURS * _HOUR

    def _read_hour(self, workload: str, hour: int) -> dict[Account, float]:
        if self._database is None:
            return {}
        query = "SELECT amounts FROM hours WHERE workload = ? AND hour = ?"
        row = self._database.execute(query, (workload, hour)).fetchone()
        try:
            return amounts_in(row[0]) if row else {}
        except (ValueError, TypeError):  # damaged where no check sees it: the totals are worth more than this hour
            return {}

    def _spelled(self, labels: tuple[str, ...]) -> str:
        """Label values as the database has them; the same ones are written at every commit."""
        text = self._texts.get(labels)
        if text is None:
            if len(self._texts) > 2 * len(self.state.totals) + _SPARE:  # most are of what is gone
                self._texts.clear()
            text = self._texts[labels] = json.dumps(labels)
        return text

    def _commit(self, change: _Change, marks: Mapping[str, bytes], ids: bytes) -> None:
        database = self._database
        if database is None or self._folder is None:
            return
        created = ChainMap(change.created, self.state.created)
        with database:
            database.executemany(
                "INSERT INTO totals VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(a[0], self._spelled(a[1]), value, created[a]) for a, value in change.totals.items()],
            )
            database.executemany(
                "INSERT OR REPLACE INTO histograms VALUES (?, ?, ?, ?)",
                [
                    (a[0], self._spelled(a[1]), msgspec.msgpack.encode(h), created[a])
                    for a, h in change.histograms.items()
                ],
            )
            database.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", [m for m in marks.items() if m[1]])
            for name in _forgotten(marks):
                forget(database, name, self.state.of_engine(name))
            database.executemany(
                "INSERT OR REPLACE INTO hours VALUES (?, ?, ?)",
                [(w, hour, json.dumps([(*a, v) for a, v in row.items()])) for (w, hour), row in change.hours.items()],
            )
            if any(hour != self._hour.get(workload, (0, {}))[0] for workload, hour in change.hours):
                oldest = self._oldest_hour(change)
                # No more than two hours' rows at a time: a wall clock that is years ahead must not cost the past.
                oldest_kept = "min(?, (SELECT min(hour) FROM hours) + 7200)"
                database.execute(f"DELETE FROM hours WHERE hour < {oldest_kept}", (oldest,))  # noqa: S608  no input
            if ids:
                database.execute("INSERT INTO spans VALUES (?, ?)", (self.spans.minute(), ids))
            if self._span_minute != self.spans.minute():
                database.execute("DELETE FROM spans WHERE minute < ?", (self.spans.oldest(),))
            database.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (self.state.generation + 1,))
        self.state.generation += 1
        self._span_minute = self.spans.minute()
        expose(self._folder, self.state.generation)


def _forgotten(marks: Mapping[str, bytes]) -> list[str]:
    return [name for name, mark in marks.items() if not mark]


def _hour_of(entry: Entry) -> int:
    return int(entry.until // _HOUR) * _HOUR


def _compacted(entries: Iterable[Entry]) -> list[Entry]:
    """The same sums in one entry per workload and hour, so that a long outage of the disk does not eat the memory."""
    sums: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        one = sums.setdefault((entry.workload, _hour_of(entry)), Entry(entry.workload, entry.until))
        for account, amount in entry.amounts.items():
            one.amounts[account] = one.amounts.get(account, 0.0) + amount
        for account, more in entry.histograms.items():
            have = one.histograms.get(account)
            one.histograms[account] = have.plus(more) if have is not None and have.edges == more.edges else more
    return list(sums.values())
