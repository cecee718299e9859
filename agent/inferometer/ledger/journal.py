"""The journal: what each commit changed, as one row, until a later commit writes all of it to the tables.

A total, a histogram and a mark that change at every tick would each be a row to look up and a page to write at every
tick. In the journal they are a few pages that are written one after the other; in the tables they are written once for
many ticks, with the values that they have then. Both belong to the transaction of a commit: at any instant the tables,
and the journal's rows upon them, are the state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from math import isnan

from msgspec import Struct, field, msgpack

from inferometer.ledger.database import Untrusted, generation
from inferometer.ledger.state import Change, State
from inferometer.ledger.tables import Touched, read, save
from inferometer.model import Account, Histogram

# A fold takes about as long as twenty rows. Where commits are small their number says when, so that a journal is read
# back at once. Where they are large, bytes do: with a journal of 1, 2, 4 or 8 MB a commit of fifty engines takes the
# same CPU, as what fewer folds save, checkpoints cost that copy more pages. So it is small, for disks that are. But a
# fold writes all that was touched: with hundreds of engines it would come at every tick, if it did not wait for rows of
# two kilobytes a name, which are some four ticks.
_MOST_ROWS = 60
_MOST_BYTES = 2_000_000
_BYTES_A_NAME = 2_000


class _Row(Struct, array_like=True, forbid_unknown_fields=True):
    """A change on the disk. ``moved``: counts and sums of histograms that are laid out as they were before.

    Their edges, which stay the same, would be half of the row.
    """

    totals: dict[Account, float]
    created: dict[Account, float]
    begun: dict[Account, Histogram]
    moved: dict[Account, tuple[tuple[float, ...], float]]
    marks: dict[str, bytes]


_decoder = msgpack.Decoder(_Row)


class Journal(Struct):
    """So many ``rows`` of so many bytes in all, that touch these names."""

    rows: int = 0
    size: int = 0
    touched: Touched = field(default_factory=Touched)

    def write(self, database: sqlite3.Connection, state: State, change: Change) -> Journal:
        """A row, in the caller's transaction. Returns the journal as it is once that is committed.

        ``state``: all that is committed, without the change. Rows that have become many go into the tables before.
        """
        journal = self
        if self._is_full():
            save(database, state, self.touched)
            database.execute("DELETE FROM journal")
            journal = Journal()
        row = _encoded(change)
        database.execute("INSERT INTO journal VALUES (?, ?)", (state.generation + 1, row))
        return Journal(journal.rows + 1, journal.size + len(row), journal.touched)

    def _is_full(self) -> bool:
        return self.rows >= _MOST_ROWS or self.size >= max(_MOST_BYTES, _BYTES_A_NAME * self.touched.names)

    def touch(self, change: Change, forgotten: Iterable[Account]) -> None:
        """A row that is committed has this change."""
        touched = self.touched
        touched.totals.update(change.totals, forgotten)
        touched.histograms.update(change.histograms, forgotten)
        touched.marks.update(change.marks)


def load(database: sqlite3.Connection, at_least: int = 0) -> tuple[State, Journal]:
    """What is committed: the tables, and the journal upon them.

    Untrusted when it is damaged, has not had ``at_least`` so many commits, or lacks a part; what cannot be read at all
    raises MsgspecError, ValueError, TypeError or KeyError.
    """
    committed, state, journal = generation(database, at_least), read(database), Journal()
    state.generation = committed
    for number, row in database.execute("SELECT generation, change FROM journal ORDER BY generation"):
        if number > committed:
            raise Untrusted("its journal is newer than itself")
        change = _decoded(row, state)
        journal.touch(change, state.take(change))
        journal.rows, journal.size = journal.rows + 1, journal.size + len(row)
    (rows,) = database.execute("SELECT value FROM meta WHERE key = 'journaled'").fetchone()
    if journal.rows != rows:
        raise Untrusted(f"its journal has {journal.rows} rows, and had {rows}")
    return state, journal


def _encoded(change: Change) -> bytes:
    """Raises sqlite3.IntegrityError for a total that is none: the tables would refuse it, many commits later."""
    if any(map(isnan, change.totals.values())):
        raise sqlite3.IntegrityError("a total is not a number")
    begun, moved = {}, {}
    for account, histogram in change.histograms.items():
        if account in change.created:
            begun[account] = histogram
        else:
            moved[account] = (histogram.counts, histogram.sum)
    return msgpack.encode(_Row(change.totals, change.created, begun, moved, change.marks))


def _decoded(row: bytes, before: State) -> Change:
    """Raises MsgspecError or Untrusted where it cannot be what was written."""
    known = _decoder.decode(row)
    if any(map(isnan, known.totals.values())):
        raise Untrusted("its journal has a total that is not a number")
    histograms = known.begun
    for account, (counts, total) in known.moved.items():
        have = before.histograms.get(account)
        if have is None or len(have.edges) != len(counts):
            raise Untrusted(f"its journal has another layout of {account[0]}")
        histograms[account] = Histogram(have.edges, counts, total)
    return Change(known.totals, known.created, histograms, known.marks)
