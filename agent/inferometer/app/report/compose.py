"""What was asked of a report, and the report: the ledger read, the hours chosen, summed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TextIO

from msgspec import Struct

from inferometer.app.report.book import HOUR_SECONDS, Book, Span, moment, read
from inferometer.app.report.lines import BY, lines, total
from inferometer.app.report.months import months
from inferometer.app.report.output import Report, write, write_focus
from inferometer.app.report.price_list import load
from inferometer.app.report.versus import versus
from inferometer.config.zones import problem, zone
from inferometer.errors import ConfigError


class Question(Struct, frozen=True):
    """What was asked for, as words of the command line. ``until`` '' is now; ``against`` None compares with nothing."""

    folder: Path
    since: str = "30d"
    until: str = ""
    by: Sequence[str] = ("day", "workload")
    timezone: str = "UTC"
    form: str = "table"
    provider: str = "self-hosted"
    against: Path | None = None
    like: str = ""


def answer(question: Question, now: float, out: TextIO) -> None:
    """Write the report that was asked for, as of ``now``. Raises ConfigError or LedgerError."""
    place = _zone(question.timezone)
    book = read(question.folder)
    until = min(now, moment(question.until, "--until", now, place)) if question.until else now
    span = Span(moment(question.since, "--since", now, place), until)
    hours = book.within(span)
    if not hours:
        raise ConfigError([f"{question.folder}: nothing is recorded {_within(span, place)}; {_recorded(book, place)}"])
    if question.form == "focus":
        write_focus(hours, book.currency, question.provider, out)
        return
    found = lines(hours, question.by, place)
    report = Report(
        currency=book.currency,
        since=_date(max(span.since, hours[0].at), place),
        until=_date(min(span.until, hours[-1].at + HOUR_SECONDS), place),
        by=tuple(name for name in BY if name in question.by),
        lines=tuple(found),
        total=total(found),
        months=tuple(months(book, min(until, book.hours[-1].at + HOUR_SECONDS), place)),
        versus=()
        if question.against is None
        else tuple(versus(hours, book.currency, load(question.against), question.like)),
    )
    write(report, question.form, out)


def _zone(name: str) -> tzinfo:
    if wrong := problem(name):
        raise ConfigError([f"--timezone: is {name!r}{wrong}"])
    return zone(name)


def _within(span: Span, place: tzinfo) -> str:
    return f"from {_date(span.since, place)} to {_date(span.until, place)}"


def _recorded(book: Book, place: tzinfo) -> str:
    """What the ledger has instead."""
    if not book.hours:
        return "the ledger is empty: let the agent run with this --storage.path"
    first, last = _date(book.hours[0].at, place), _date(book.hours[-1].at + HOUR_SECONDS, place)
    return f"the ledger has hours from {first} to {last}: choose with --since and --until"


def _date(at: float, place: tzinfo) -> str:
    return datetime.fromtimestamp(at, place).strftime("%Y-%m-%d %H:%M %Z")
