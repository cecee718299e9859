"""Ledgers as earlier versions left them, in the SQL of their time."""

from __future__ import annotations

import contextlib
import sqlite3

SCHEMAS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE totals (name TEXT, labels TEXT, value REAL NOT NULL, created REAL NOT NULL,
                         PRIMARY KEY (name, labels)) WITHOUT ROWID;
    CREATE TABLE histograms (name TEXT, labels TEXT, histogram BLOB NOT NULL, created REAL NOT NULL,
                             PRIMARY KEY (name, labels)) WITHOUT ROWID;
    CREATE TABLE marks (name TEXT PRIMARY KEY, mark BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE hours (workload TEXT, hour INTEGER, amounts TEXT NOT NULL,
                        PRIMARY KEY (workload, hour)) WITHOUT ROWID;
    INSERT INTO meta VALUES ('generation', 0);
    """,
    """
    CREATE TABLE spans (minute INTEGER NOT NULL, ids BLOB NOT NULL);
    CREATE INDEX spans_by_minute ON spans (minute);
    """,
)


def write(folder, schema, *statements, currency="USD"):
    """A ledger of this schema with what the statements put into it."""
    folder.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for script in SCHEMAS[:schema]:
            database.executescript(script)
        database.execute("INSERT INTO meta VALUES ('currency', ?)", (currency,))
        for statement in statements:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {schema}")
        database.commit()
