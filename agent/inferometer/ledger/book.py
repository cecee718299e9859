"""Ledger: totals, meter marks, hourly rows and the ids of new spans, written in one transaction. The only writer.

What is exposed is committed: ``totals`` change only after the disk has them (``synchronous=FULL``). A ledger that
cannot be trusted is set aside, never deleted, and the totals start at zero: a clean reset for every reader.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import IO

import msgspec

from inferometer.errors import LedgerError
from inferometer.ledger.database import (
    Untrusted,
    amounts_in,
    aside,
    connected,
    expose,
    exposed,
    is_about_access,
    is_damage,
    locked,
    set_aside,
    text_of,
)
from inferometer.ledger.journal import Journal, load
from inferometer.ledger.span_ids import SpanIds
from inferometer.ledger.state import Change, State
from inferometer.ledger.tables import save, touched_by
from inferometer.model import Account, Entry, Histogram, by_workload

_log = logging.getLogger(__name__)
_KEPT_HOURS = 400 * 24
_REMEMBERED_HOURS = 24
_HOUR = 3600


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
        self._journal = Journal()
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
        forgotten = self.state.take(change)
        if self._database is not None:
            self._journal.touch(change, forgotten)
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

    def _write(self, ids: bytes) -> Change:
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

    def _write_once(self, ids: bytes) -> Change:
        change = self._merge(self._waiting, self._waiting_marks)
        self._commit(change, ids)
        return change

    # -- in memory

    def _merge(self, entries: Iterable[Entry], marks: dict[str, bytes]) -> Change:
        change, now = Change(marks=marks), self._wall()
        for where, some in _grouped(entries).items():
            self._add_amounts(change, where, _amounts(some), now)
            for entry in some:
                self._add_histograms(change, entry.histograms, now)
        return change

    def _add_amounts(self, change: Change, where: tuple[str, int], amounts: dict[Account, float], now: float) -> None:
        """``where``: the workload and the hour whose row they are in."""
        totals, committed = change.totals, self.state.totals
        row: dict[Account, float] | None = None
        for account, amount in amounts.items():
            known = totals.get(account)
            if known is None:
                known = committed.get(account)
            if known is None:
                change.created[account], known = now, 0.0
            elif amount == 0:
                continue
            totals[account] = known + amount
            reduced = by_workload(account) if amount else None
            if reduced is not None:
                row = self._hour_row(change, where) if row is None else row
                row[reduced] = row.get(reduced, 0.0) + amount

    def _add_histograms(self, change: Change, histograms: Mapping[Account, Histogram], now: float) -> None:
        for account, more in histograms.items():
            have = change.histograms.get(account) or self.state.histograms.get(account)
            if have is not None and have.edges == more.edges:
                change.histograms[account] = have.plus(more)
            else:
                change.histograms[account], change.created[account] = more, now

    def _hour_row(self, change: Change, where: tuple[str, int]) -> dict[Account, float]:
        row = change.hours.get(where)
        if row is None:
            workload, hour = where
            kept_hour, kept = self._hour.get(workload, (-1, {}))
            row = change.hours[where] = dict(kept) if kept_hour == hour else self._read_hour(workload, hour)
        return row

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
            self.state, self._journal = load(self._database, at_least=exposed(folder))
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
        self.state, self._journal = load(self._database)

    def _begin_anew(self) -> None:
        """A ledger that was damaged while in use: what it had is in memory, and goes into another; hours apart."""
        if self._folder is None:
            return
        path = self._folder / "ledger.db"
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
        self._commit(Change(hours=hours), self.spans.remembered(), is_whole=True)
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

    def _oldest_hour(self, change: Change) -> int:
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

    def _commit(self, change: Change, ids: bytes, *, is_whole: bool = False) -> None:
        """One transaction; ``is_whole``: into a ledger that is new, all of the state before."""
        database, journal = self._database, self._journal
        if database is None or self._folder is None:
            return
        with database:
            if is_whole:
                save(database, self.state, touched_by(self.state))
                journal = Journal()
            elif change.totals or change.histograms or change.marks:
                journal = journal.write(database, self.state, change)
            self._write_hours(database, change)
            if ids:
                database.execute("INSERT INTO spans VALUES (?, ?)", (self.spans.minute(), ids))
            if self._span_minute != self.spans.minute():
                database.execute("DELETE FROM spans WHERE minute < ?", (self.spans.oldest(),))
            numbers = [(self.state.generation + 1, "generation"), (journal.rows, "journaled")]
            database.executemany("UPDATE meta SET value = ? WHERE key = ?", numbers)
        self._journal = journal
        self.state.generation += 1
        self._span_minute = self.spans.minute()
        expose(self._folder, self.state.generation)

    def _write_hours(self, database: sqlite3.Connection, change: Change) -> None:
        """Hours are not journaled: they are read while the agent runs, by others, who know nothing of a journal."""
        rows = [(workload, hour, text_of(row)) for (workload, hour), row in change.hours.items()]
        database.executemany("INSERT OR REPLACE INTO hours VALUES (?, ?, ?)", rows)
        if any(hour != self._hour.get(workload, (0, {}))[0] for workload, hour in change.hours):
            oldest = self._oldest_hour(change)
            # No more than two hours' rows at a time: a wall clock that is years ahead must not cost the past.
            oldest_kept = "min(?, (SELECT min(hour) FROM hours) + 7200)"
            database.execute(f"DELETE FROM hours WHERE hour < {oldest_kept}", (oldest,))  # noqa: S608  no input


def _hour_of(entry: Entry) -> int:
    return int(entry.until // _HOUR) * _HOUR


def _grouped(entries: Iterable[Entry]) -> dict[tuple[str, int], list[Entry]]:
    """Those of one workload and hour together."""
    groups: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.workload, _hour_of(entry)), []).append(entry)
    return groups


def _amounts(entries: Sequence[Entry]) -> dict[Account, float]:
    """Their sums: most accounts of a workload are those of all its engines."""
    if len(entries) == 1:
        return entries[0].amounts
    sums: dict[Account, float] = defaultdict(float)
    for entry in entries:
        for account, amount in entry.amounts.items():
            sums[account] += amount
    return sums


def _compacted(entries: Iterable[Entry]) -> list[Entry]:
    """The same sums in one entry per workload and hour, so that a long outage of the disk does not eat the memory."""
    compacted = []
    for (workload, _), some in _grouped(entries).items():
        one = Entry(workload, some[0].until, dict(_amounts(some)))
        for account, more in chain.from_iterable(entry.histograms.items() for entry in some):
            have = one.histograms.get(account)
            one.histograms[account] = have.plus(more) if have is not None and have.edges == more.edges else more
        compacted.append(one)
    return compacted
