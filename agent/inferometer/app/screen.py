"""The board as lines of text of a given size: what ``inferometer top`` draws, without any terminal."""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]
NONE = "–"
MARKS = {"assumed": "*", "estimated": "~"}
"""Behind a number that is not measured; two numbers are bounds."""

BOLD, FAINT, RED, REVERSED, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[7m", "\x1b[0m"
_BAR = 10
_MARGIN = 1


class Column(NamedTuple):
    """A column of the table of workloads. ``key``: what it is sorted by; ``made``: whose provenance marks it."""

    title: str
    key: str
    show: Callable[[Row], str]
    made: str = ""


class View(NamedTuple):
    """What the person at the keyboard chose: window and column by their places, and the order."""

    window: int = 0
    sort: int = 0
    descending: bool = False


def number(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, without an exponent, and with thousands apart."""
    if value is None:
        return NONE
    if abs(value) >= 10 ** (digits - 1) or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"


def money(value: float | None) -> str:
    """From 1 on two decimals, below three digits."""
    return f"{value:,.2f}" if value is not None and abs(value) >= 1 else number(value)


def percent(value: float | None) -> str:
    """A ratio as a percentage, without the sign."""
    return NONE if value is None else number(100 * value)


def _bounds(row: Row) -> str:
    lower, upper = (percent(row.get(f"goodput_ratio_{side}")) for side in ("lower", "upper"))
    return lower if lower == upper else f"{lower}–{upper}"


COLUMNS = (
    Column("WORKLOAD", "name", lambda row: str(row["name"])),
    Column("COST/M", "cost_per_million_all", lambda row: money(row.get("cost_per_million_all")), "cost"),
    Column("OUT/M", "cost_per_million_output", lambda row: money(row.get("cost_per_million_output")), "cost"),
    Column("GOOD %", "goodput_ratio_lower", _bounds),
    Column("J/TOKEN", "joules_per_token", lambda row: number(row.get("joules_per_token")), "joules"),
    Column("COST/H", "money_per_hour", lambda row: money(row.get("money_per_hour")), "cost"),
    Column("IDLE %", "idle_ratio", lambda row: percent(row.get("idle_ratio"))),
    Column("TOK/S", "tokens_per_second", lambda row: number(row.get("tokens_per_second"), 4)),
    Column("WATTS", "power_watts", lambda row: number(row.get("power_watts"))),
    Column("UP", "engines_up", lambda row: f"{row['engines_up']}/{row['engines']}"),
)


def lines(board: Row, view: View, url: str, fault: str = "") -> list[str]:
    """Everything there is to say, from the top; colours are ANSI sequences."""
    window = board["windows"][view.window % len(board["windows"])] if board["windows"] else ""
    return [
        *_head(board, window, url, fault),
        "",
        *_workloads(board, window, view),
        "",
        *_gpus(board),
        *_sources(board),
        *(f"{BOLD}missing{PLAIN}  {_printable(hint)}" for hint in board["hints"]),
    ]


def fit(text: list[str], columns: int, rows: int, keys: str) -> list[str]:
    """Exactly ``rows`` lines no wider than ``columns``: cut, or filled up, with the keys in the last one."""
    shown = text[: rows - 1]
    if len(text) > len(shown) and shown:
        shown[-1] = f"{FAINT}… {len(text) - len(shown) + 1} more lines: make the window taller{PLAIN}"
    shown += [""] * (rows - 1 - len(shown))
    return [clip(line, columns) for line in [*shown, f"{REVERSED}{keys}{PLAIN}"]]


def clip(line: str, columns: int) -> str:
    """The line's first columns; sequences of the terminal take none, wide letters two."""
    out, used, place = [], 0, 0
    while place < len(line):
        if line[place] == "\x1b":
            end = line.index("m", place) + 1
            out.append(line[place:end])
            place = end
            continue
        width = _width(line[place])
        if used + width > columns:
            return "".join(out) + PLAIN
        out.append(line[place])
        used, place = used + width, place + 1
    return "".join(out)


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1


def _printable(text: str) -> str:
    """Names come from other people's pages: what would steer a terminal is shown as a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _head(board: Row, window: str, url: str, fault: str) -> Iterator[str]:
    at, currency = _clock(board["wall"]), _printable(board["currency"])
    over = f"over the last {_printable(window)}" if window else "no window has passed yet"
    yield f"{BOLD}Inferometer{PLAIN} {url}  as of {at}  {over}  in {currency}"
    if fault:
        yield f"{RED}{_printable(fault)}{PLAIN}"


def _clock(wall: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(wall))
    except (OverflowError, ValueError, OSError):  # beyond what the system's clock can be
        return NONE


def _workloads(board: Row, window: str, view: View) -> Iterator[str]:
    rows = ordered(board, window, view)
    if not rows:
        yield "No workload has been read yet."
        return
    table = [[_cell(column, row) for column in COLUMNS] for row in rows]
    widths = [max(len(column.title) + 1, *(_columns(line[n]) for line in table)) for n, column in enumerate(COLUMNS)]
    titles = [column.title + ("▼" if view.descending else "▲") * (n == view.sort) for n, column in enumerate(COLUMNS)]
    yield f"{BOLD}{_line(titles, widths)}{PLAIN}"
    yield from (_line(cells, widths) for cells in table)
    used = {made["how"] for row in rows for made in row["made"].values()}
    legend = [f"{mark} {how}" for how, mark in MARKS.items() if how in used]
    yield f"{FAINT}COST/M: a million tokens, OUT/M: the same bill over output tokens alone{PLAIN}"
    yield f"{FAINT}two numbers: bounds · {''.join(f'{part} · ' for part in legend)}else measured · – not there{PLAIN}"


def ordered(board: Row, window: str, view: View) -> list[Row]:
    """The workloads with the numbers of a window, in the order chosen; those without that number come last."""
    rows = [
        {
            **workload["windows"].get(window, {}),
            "name": _printable(workload["name"]),
            "made": workload["made"],
            "engines": len(workload["engines"]),
            "engines_up": sum(engine["up"] for engine in workload["engines"]),
        }
        for workload in board["workloads"]
        if workload["engines"] or workload["windows"].get(window, {}).get("power_watts")
    ]
    key = COLUMNS[view.sort % len(COLUMNS)].key
    there = sorted((row for row in rows if row.get(key) is not None), key=lambda row: row[key], reverse=view.descending)
    return [*there, *(row for row in rows if row.get(key) is None)]


def _cell(column: Column, row: Row) -> str:
    text = column.show(row)
    made = row["made"].get(column.made, {})
    return text + (MARKS.get(made.get("how", ""), "") if text != NONE else "")


def _line(cells: list[str], widths: list[int]) -> str:
    """The first cell to the left, numbers to the right."""
    padded = [" " * (width - _columns(cell)) for cell, width in zip(cells, widths, strict=True)]
    first, *others = zip(cells, padded, strict=True)
    return (" " * _MARGIN).join([first[0] + first[1], *(pad + cell for cell, pad in others)])


def _columns(text: str) -> int:
    return sum(_width(letter) for letter in text)


def _gpus(board: Row) -> Iterator[str]:
    """One line a GPU: power against its limit, activity, who holds it."""
    if not board["gpus"]:
        return
    yield f"{BOLD}GPU  POWER                        ACTIVITY            HELD BY{PLAIN}"
    for gpu in board["gpus"]:
        limit, watts, active = gpu["power_limit_watts"], gpu["power_watts"], gpu["activity_ratio"]
        power = _bar(watts / limit if watts is not None and limit else None)
        drawn = f"{number(watts)} of {number(limit)} W" if limit else f"{number(watts)} W"
        holders = ", ".join(map(_printable, gpu["workloads"])) or "nobody"
        state = "" if gpu["up"] else f"{RED}down{PLAIN} "
        yield f"{gpu['index']:>3}  {power} {drawn:<17} {_bar(active)} {percent(active):>5} %  {state}{holders}"
    yield ""


def _bar(ratio: float | None) -> str:
    filled = round(_BAR * min(max(ratio or 0.0, 0.0), 1.0))
    return "█" * filled + "░" * (_BAR - filled)


def _sources(board: Row) -> Iterator[str]:
    """A count of those that are up, and every one that is not."""
    down = [source for source in board["sources"] if not source["up"]]
    yield f"{BOLD}sources{PLAIN}  {len(board['sources']) - len(down)} of {len(board['sources'])} up"
    for source in down:
        reasons = ", ".join(f"{reason} {count}" for reason, count in source["errors"].items())
        yield f"{RED}down{PLAIN}     " + _printable(f"{source['source']}  {reasons}  {source['detail']}")
