"""The ledger's tables of totals, histograms and marks: the state as the last fold of the journal left it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable
from json.encoder import encode_basestring_ascii

import msgspec
from msgspec import Struct, field

from inferometer.ledger.state import State
from inferometer.model import Account, Histogram


class Touched(Struct):
    """Where the tables may differ from the state: names of rows, which have values or are gone."""

    totals: set[Account] = field(default_factory=set)
    histograms: set[Account] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)

    @property
    def names(self) -> int:
        """How many."""
        return len(self.totals) + len(self.histograms) + len(self.marks)


def touched_by(state: State) -> Touched:
    """All that it has."""
    return Touched(set(state.totals), set(state.histograms), set(state.marks))


def read(database: sqlite3.Connection) -> State:
    """What the tables have, with no generation: it is that of the last fold."""
    state = State()
    for name, labels, value, created in database.execute("SELECT * FROM totals"):
        account = (name, tuple(json.loads(labels)))
        state.totals[account], state.created[account] = value, created
    for name, labels, blob, created in database.execute("SELECT * FROM histograms"):
        account = (name, tuple(json.loads(labels)))
        state.histograms[account] = msgspec.msgpack.decode(blob, type=Histogram)
        state.created[account] = created
    state.marks = dict(database.execute("SELECT * FROM marks"))
    return state


def save(database: sqlite3.Connection, state: State, touched: Touched) -> None:
    """Make the tables equal to the state, within the caller's transaction: what it no longer has is deleted.

    Rows are replaced whole: an engine that was forgotten and came back since has accounts that were created later.
    """
    kept, gone = _split(touched.totals, state.totals)
    database.executemany(
        "INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?)",
        [(*_key(account), state.totals[account], state.created[account]) for account in kept],
    )
    database.executemany("DELETE FROM totals WHERE name = ? AND labels = ?", map(_key, gone))
    kept, gone = _split(touched.histograms, state.histograms)
    encode = msgspec.msgpack.encode
    database.executemany(
        "INSERT OR REPLACE INTO histograms VALUES (?, ?, ?, ?)",
        [(*_key(account), encode(state.histograms[account]), state.created[account]) for account in kept],
    )
    database.executemany("DELETE FROM histograms WHERE name = ? AND labels = ?", map(_key, gone))
    marks = [(name, state.marks.get(name)) for name in touched.marks]
    database.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", [row for row in marks if row[1] is not None])
    database.executemany("DELETE FROM marks WHERE name = ?", [(name,) for name, mark in marks if mark is None])


def _split(touched: Iterable[Account], table: Container[Account]) -> tuple[list[Account], list[Account]]:
    """What of it is there, and what is not, in the order of the rows: neighbours share pages."""
    ordered = sorted(touched)
    return [a for a in ordered if a in table], [a for a in ordered if a not in table]


def _key(account: Account) -> tuple[str, str]:
    """An account as its row has it: as ``json.dumps`` spells it, in a third of its time; all rows there are do."""
    return account[0], f"[{', '.join(map(encode_basestring_ascii, account[1]))}]"
