"""What ``report`` prints: a table for people, CSV for sheets, JSON for programs, FOCUS for bills."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import msgspec
from msgspec import Struct

from inferometer.app.report import focus
from inferometer.app.report.book import Hour
from inferometer.app.report.lines import BY, Line
from inferometer.app.report.months import Month
from inferometer.app.report.versus import Versus

_KNOWN_AS = "-"
_Cell = Callable[[Line], str]


class Report(Struct, frozen=True):
    """All that one report says. ``versus`` is there where a price list was given."""

    currency: str
    since: str
    until: str
    by: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Line
    months: tuple[Month, ...]
    versus: tuple[Versus, ...] = ()


def write(report: Report, form: str, out: TextIO) -> None:
    """One of the formats table, csv and json."""
    if form == "json":
        text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
        out.write(text + "\n")
    elif form == "csv":
        _csv(report, out)
    else:
        out.writelines(f"{line}\n" for line in _table(report))


def write_focus(hours: Sequence[Hour], currency: str, provider: str, out: TextIO) -> None:
    """A FOCUS 1.2 file."""
    sheet = csv.DictWriter(out, focus.COLUMNS, lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(focus.rows(hours, currency, provider))


def _csv(report: Report, out: TextIO) -> None:
    """All columns but the keys that were not asked for; what is not known is empty."""
    names = [name for name in Line.__struct_fields__ if name not in BY or name in report.by]
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow([*names, "currency"])
    for line in report.lines:
        values = (getattr(line, name) for name in names)
        sheet.writerow([*("" if value is None else _exact(value) for value in values), report.currency])


def _exact(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def _table(report: Report) -> Iterator[str]:
    yield f"From {report.since} to {report.until}; money in {report.currency}."
    yield ""
    columns = [(name, _name_cell(name)) for name in report.by] + list(_COLUMNS)
    rows = [[cell(line) for _, cell in columns] for line in report.lines]
    bottom = [cell(report.total) for _, cell in columns]
    if report.by:
        bottom[0] = "all"
    yield from _aligned([title for title, _ in columns], [*rows, bottom], len(report.by))
    if report.months:
        yield from ("", "Month to date, and at the present pace its end:")
        yield from (_month(month) for month in report.months)
    for versus in report.versus:
        yield from ("", *versus.sentences(report.currency))


def _aligned(titles: list[str], rows: list[list[str]], left: int) -> Iterator[str]:
    """Columns as wide as their widest cell; the first ``left`` of them are words, the rest numbers."""
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    for row in [titles, *rows]:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _name_cell(name: str) -> _Cell:
    return lambda line: getattr(line, name) or _KNOWN_AS


def _number(name: str, form: str) -> _Cell:
    """A cell of one field; what is not known is a dash."""

    def cell(line: Line) -> str:
        value = getattr(line, name)
        return _KNOWN_AS if value is None else format(value, form)

    return cell


def _share(part: str, whole: str) -> _Cell:
    def cell(line: Line) -> str:
        above, below = getattr(line, part), getattr(line, whole)
        return _KNOWN_AS if above is None or not below else f"{above / below:.1%}"

    return cell


def _good(line: Line) -> str:
    """Good requests of those judged, lower and upper bound."""
    if not line.judged_requests or line.good_requests_lower is None or line.good_requests_upper is None:
        return _KNOWN_AS
    lower, upper = (bound / line.judged_requests for bound in (line.good_requests_lower, line.good_requests_upper))
    return f"{lower:.1%}" if lower == upper else f"{lower:.1%} to {upper:.1%}"


_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("cost", _number("cost", ",.2f")),
    ("idle", _share("cost_idle", "cost")),
    ("GPU-h", _number("gpu_hours", ",.2f")),
    ("tokens in", _number("input_uncached_tokens", ",.0f")),
    ("cached", _number("input_cached_tokens", ",.0f")),
    ("out", _number("output_tokens", ",.0f")),
    ("per M", _number("cost_per_million_tokens", ",.4f")),
    ("per M out", _number("cost_per_million_output_tokens", ",.4f")),
    ("requests", _number("requests", ",.0f")),
    ("good", _good),
    ("kJ", lambda line: _KNOWN_AS if line.joules is None else f"{line.joules / 1000:,.0f}"),
    ("g CO2", _number("carbon_grams", ",.0f")),
)


def _month(month: Month) -> str:
    spent = f"  {month.month}  {month.workload}: {month.spent:,.2f} spent"
    if month.forecast is None or month.per_hour is None:
        return f"{spent}; no forecast before the first whole hour"
    pace = f"{month.per_hour:,.4f} an hour over the last {month.pace_hours:,.0f} h"
    return f"{spent}, {month.forecast:,.2f} forecast ({pace}, {month.hours_left:,.0f} h left)"
