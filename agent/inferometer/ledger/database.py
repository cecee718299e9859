"""The ledger's file: its lock and schema, what is in it, and whether that may be trusted."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from itertools import count
from math import isfinite
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from inferometer.errors import LedgerError
from inferometer.model import Account

_ACCESS_ERRORS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
_EXPOSED = "exposed"
_SUFFIXES = ("-wal", "-shm", "")
_MIGRATIONS = (
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
    """
    CREATE TABLE journal (generation INTEGER PRIMARY KEY, change BLOB NOT NULL);
    INSERT INTO meta VALUES ('journaled', 0);
    """,
)


class Untrusted(Exception):  # noqa: N818  it says what the ledger is
    """A ledger that is whole but must not be gone on with."""


def locked(folder: Path) -> IO[bytes]:
    """The folder, made where it is not there yet, for this process alone; LedgerError where it cannot be had."""
    try:
        make(folder)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise LedgerError(f"{folder}: {error.strerror}; check --storage.path and its owner") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise LedgerError(
            f"{folder}: another agent is using this ledger; stop it or give this one its own --storage.path"
        ) from error
    return lock


def make(folder: Path) -> None:
    """The folder and those above it, each of them on the disk: what is committed in a folder that is not can be lost.

    SQLite sees to what is in the folder, as soon as it first writes there.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync(path.parent)


def sync(folder: Path) -> None:
    """Put the names in a folder on the disk: those that are new, changed and gone."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def connected(path: Path) -> sqlite3.Connection:
    """The database in today's schema. Raises Untrusted or sqlite3.Error."""
    database = sqlite3.connect(path, check_same_thread=False, timeout=10)
    try:
        _prepare(database)
    except BaseException:
        database.close()  # what is in the -wal file goes into the database, which may be set aside as one file then
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_MIGRATIONS):
        raise Untrusted(f"a newer Inferometer wrote it (schema {version}, this one knows {len(_MIGRATIONS)})")
    if version == 0 and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Untrusted("it is a database of something else")  # and is left as it is
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    # Some distributions' SQLite writes zeros over all that is deleted: what a commit brings would be written twice.
    database.execute("PRAGMA secure_delete = OFF")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what is in the file cannot be understood."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_about_access(error: sqlite3.Error) -> bool:
    """Whether the way to the file is at fault, not what is in it: setting it aside would lose a good ledger."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _ACCESS_ERRORS


def set_aside(path: Path, at: int) -> Path:
    """Give a ledger another name, that no other has; the one that it has now.

    Its write-ahead log goes first: SQLite deletes one that has no database beside it. All is on the disk before another
    ledger takes the place: else a power cut might leave the old database with the new one's log.
    """
    aside = _free(path, at)
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    path.with_name(_EXPOSED).unlink(missing_ok=True)
    sync(path.parent)
    return aside


def aside(folder: Path) -> int:
    """How many ledgers were set aside in a folder, and are there still."""
    return sum(path.suffix == ".db" for path in folder.glob("ledger.set-aside-*"))


def _free(path: Path, at: int) -> Path:
    """A name of which no file of a ledger has even a part, as a kill in the midst of setting one aside leaves it."""
    names = (path.with_name(f"ledger.set-aside-{at}.{number}.db") for number in count(1))
    return next(name for name in names if not any(os.path.lexists(f"{name}{suffix}") for suffix in _SUFFIXES))


def generation(database: sqlite3.Connection, at_least: int) -> int:
    """How many commits it has had. Untrusted when it is damaged or has not had ``at_least`` so many."""
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise Untrusted(f"it is damaged: {verdict}")
    found = int(database.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0])
    if found < at_least:
        raise Untrusted("it is older than what was exposed (restored from a backup?)")
    return found


def exposed(folder: Path) -> int:
    """The generation that was last exposed, as a file beside the ledger has it; a backup restores only one of them."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / _EXPOSED).read_text(encoding="ascii"))
    return 0


def expose(folder: Path, generation: int) -> None:
    """Write it down, over the last one: a disk that is full has room for it. Only a hint, so no error matters."""
    with contextlib.suppress(OSError):
        opened = os.open(f"{folder}/{_EXPOSED}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(opened, b"%020d" % generation, 0)
        finally:
            os.close(opened)


def text_of(amounts: dict[Account, float]) -> str:
    """An hour's row as the database has it. Numbers that JSON lacks are written as Python's reader takes them."""
    rows = [(*account, value) for account, value in amounts.items()]
    return msgspec.json.encode(rows).decode() if isfinite(sum(amounts.values())) else json.dumps(rows)


def amounts_in(text: str) -> dict[Account, float]:
    """An hour's row."""
    return {(name, tuple(labels)): value for name, labels, value in json.loads(text)}


def hours(folder: Path) -> list[tuple[str, int, dict[Account, float]]]:
    """All hourly rows: workload, unix time of the hour's start, amounts by account without engine.

    Raises LedgerError where there is no ledger that can be read.
    """
    path = folder / "ledger.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT workload, hour, amounts FROM hours ORDER BY hour, workload").fetchall()
            return [(workload, hour, amounts_in(text)) for workload, hour, text in rows]
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}; check --storage.path") from error
