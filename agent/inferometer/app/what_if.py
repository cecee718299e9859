"""``inferometer what-if``: the recorded traffic at another price, SLO or busy share, side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferometer.app.replay import replay, sources
from inferometer.config import FLAGS, Config
from inferometer.config.faults import near
from inferometer.errors import ConfigError
from inferometer.model import TOKEN_TYPES, Snapshot

Flags = Mapping[str, str | Sequence[str]]
_MILLION = 1e6
_PRICE_FLAG, _PRICE, _BUSY = "price.gpu-hour", "price", "busy"
_KEYS = (*(flag.name for flag in FLAGS if flag.name.startswith(("price.", "slo.")) or flag.name == "gpus"),)
_CHANGES = (*_KEYS, _PRICE, _BUSY)


class Change(Struct, frozen=True):
    """One column: what stands on the command line, as flags, a name under ``prices`` and a busy share."""

    title: str
    flags: Mapping[str, str]
    price: str = ""
    busy: float | None = None


class Outcome(Struct, frozen=True):
    """What one workload's traffic costs under one change; None where the recording cannot tell.

    At another busy share the same tokens are made per busy GPU-hour, so the bill goes with 1 ÷ share; latencies at
    another load are unknown, and goodput with them.
    """

    change: str
    workload: str
    cost: float | None
    cost_per_million_tokens: float | None
    cost_per_million_output_tokens: float | None
    busy_share: float | None
    judged_requests: float | None
    good_ratio_lower: float | None
    good_ratio_upper: float | None
    cost_per_good_request_lower: float | None
    cost_per_good_request_upper: float | None


def change(text: str) -> Change:
    """``KEY=VALUE[,KEY=VALUE…]`` as it stands on the command line. Raises ConfigError."""
    pairs = [part.partition("=") for part in re.split(r",(?=[a-z][a-z0-9.-]*=)", text)]
    wrong = next((key for key, equals, value in pairs if key not in _CHANGES or not equals or not value), None)
    if wrong is not None:
        guess = near(wrong, _CHANGES)
        meant = f"; did you mean {guess}?" if guess and guess != wrong else ""
        raise ConfigError([f"--with {text}: write KEY=VALUE with a key of {', '.join(_CHANGES)}{meant}"])
    given = {key: value for key, _, value in pairs}
    busy = _share(given.pop(_BUSY), text) if _BUSY in given else None
    return Change(text, {key: value for key, value in given.items() if key != _PRICE}, given.get(_PRICE, ""), busy)


def _share(text: str, whole: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError([f"--with {whole}: busy is a share above 0 and at most 1, e.g. busy=0.6"])
    return share


async def outcomes(
    folder: Path, changes: Sequence[Change], load: Callable[[Flags], Config], environ: Mapping[str, str]
) -> tuple[str, list[Outcome]]:
    """The currency, and every workload under every change. ``load``: the configuration with some flags over it.

    Raises ConfigError, and RecordingError where there is no recording.
    """
    found: list[Outcome] = []
    currency = ""
    for each in changes:
        settings = _changed(load(each.flags), each)
        snapshot = await replay(folder, settings, environ)
        currency = snapshot.currency
        found += [_outcome(snapshot, workload.name, each) for workload in settings.workloads]
    return currency, found


def recorded_engines(folder: Path) -> list[str]:
    """Engines to configure where nothing else says which: all that the recording has."""
    return [f"recording:{name}" for name in sources(folder)]


def _changed(settings: Config, asked: Change) -> Config:
    """A price on the command line is meant for every workload, whatever price it has in the file."""
    name = asked.price or ("default" if _PRICE_FLAG in asked.flags else "")
    if not name:
        return settings
    if name not in settings.prices:
        raise ConfigError([f"--with {asked.title}: there is no {name!r} under prices; add it to the configuration"])
    return replace(settings, workloads=tuple(replace(workload, price=name) for workload in settings.workloads))


def _outcome(snapshot: Snapshot, workload: str, asked: Change) -> Outcome:
    def total(name: str, *wanted: str) -> float | None:
        name = f"inferometer_{name}_total"
        rows = [(labels, amount) for (of, labels), amount in snapshot.totals.items() if of == name]
        mine = [(labels, amount) for labels, amount in rows if labels[0] == workload]
        chosen = [amount for labels, amount in mine if not wanted or labels[-1] in wanted]
        return sum(chosen) if mine else None

    held = total("gpu_seconds")
    busy = _ratio(total("gpu_seconds", "busy"), held)
    cost, output, every = total("cost"), total("tokens", "output"), total("tokens", *TOKEN_TYPES)
    known = asked.busy is None
    if asked.busy is not None:
        cost = cost * busy / asked.busy if cost is not None and busy else None
        busy = asked.busy
    judged = total("slo_requests") if known else None
    good = [total(f"good_requests_{side}") if known else None for side in ("lower", "upper")]
    return Outcome(
        change=asked.title,
        workload=workload,
        cost=cost,
        cost_per_million_tokens=_ratio(cost, every, _MILLION),
        cost_per_million_output_tokens=_ratio(cost, output, _MILLION),
        busy_share=busy,
        judged_requests=judged,
        good_ratio_lower=_ratio(good[0], judged),
        good_ratio_upper=_ratio(good[1], judged),
        cost_per_good_request_lower=_ratio(cost, good[1]),
        cost_per_good_request_upper=_ratio(cost, good[0]),
    )


def _ratio(above: float | None, below: float | None, times: float = 1.0) -> float | None:
    return None if above is None or not below else above / below * times


# -- output ---------------------------------------------------------------------------------------

_ROWS = (
    ("cost", "{:,.6f}", ("cost",)),
    ("per million tokens", "{:,.4f}", ("cost_per_million_tokens",)),
    ("per million output tokens", "{:,.4f}", ("cost_per_million_output_tokens",)),
    ("busy share of GPU time", "{:.1%}", ("busy_share",)),
    ("requests judged", "{:,.0f}", ("judged_requests",)),
    ("good requests", "{:.1%}", ("good_ratio_lower", "good_ratio_upper")),
    ("per good request", "{:,.6f}", ("cost_per_good_request_lower", "cost_per_good_request_upper")),
)
_NOTE = "With busy=SHARE the same tokens are made per busy GPU-hour; goodput at another load is not known."


def write(currency: str, found: Sequence[Outcome], form: str, out: TextIO) -> None:
    """A table per workload with a column per change, or JSON."""
    if form == "json":
        body = {"currency": currency, "outcomes": found}
        out.write(msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n")
        return
    for workload in dict.fromkeys(outcome.workload for outcome in found):
        columns = [outcome for outcome in found if outcome.workload == workload]
        out.writelines(f"{line}\n" for line in _table(workload, currency, columns))
    if any("busy=" in outcome.change for outcome in found):
        out.write(f"{_NOTE}\n")


def _table(workload: str, currency: str, columns: Sequence[Outcome]) -> Iterator[str]:
    rows = [[f"{workload} ({currency})", *(column.change for column in columns)]]
    rows += [[title, *(_cell(column, form, fields) for column in columns)] for title, form, fields in _ROWS]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *rest = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *rest]).rstrip()
    yield ""


def _cell(column: Outcome, form: str, fields: tuple[str, ...]) -> str:
    """A value, or both bounds where they differ; a dash where nothing is known."""
    said = [form.format(value) for name in fields if (value := getattr(column, name)) is not None]
    return " to ".join(dict.fromkeys(said)) or "-"
