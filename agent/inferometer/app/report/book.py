"""The ledger as a report reads it: its hourly rows and their currency, read-only, also while an agent writes."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from inferometer.config import durations
from inferometer.errors import ConfigError, LedgerError
from inferometer.ledger import hours
from inferometer.model import Account

HOUR_SECONDS = 3600


class Hour(Struct, frozen=True):
    """What one hour added to one workload; ``at`` is the unix time of its start, accounts are without engine."""

    workload: str
    at: int
    amounts: dict[Account, float]


class Span(Struct, frozen=True):
    """Unix seconds from ``since`` up to, not including, ``until``."""

    since: float
    until: float


class Book(Struct, frozen=True):
    """All hours that the ledger keeps, oldest first, and the currency of their money."""

    currency: str
    hours: tuple[Hour, ...]

    def within(self, span: Span) -> tuple[Hour, ...]:
        """The hours that begin in a span."""
        return tuple(hour for hour in self.hours if span.since <= hour.at < span.until)


def read(folder: Path) -> Book:
    """The whole book. Raises LedgerError where there is no ledger that can be read."""
    rows = tuple(Hour(*row) for row in hours(folder))
    path = folder / "ledger.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT value FROM meta WHERE key = 'currency'").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: cannot be read: {error}; check --storage.path") from error
    return Book(row[0] if row else "", rows)


def moment(text: str, flag: str, now: float, zone: tzinfo = UTC) -> float:
    """Midnight of a date given to a flag, or of the day that was so long before ``now``. Raises ConfigError."""
    with contextlib.suppress(ValueError):
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone).timestamp()
    ago = durations.seconds(text)
    if ago is None:
        raise ConfigError([f"{flag}: {text!r} is neither a duration nor a date; write e.g. 30d or 2026-11-01"])
    return _midnight(datetime.fromtimestamp(now, zone) - timedelta(seconds=ago)).timestamp()


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
