"""The agent beside others on the same pages: trials by number of targets, and the tables that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench import subjects, trial
from bench.nginx import Shelf
from bench.spread import spread
from bench.stage import say
from bench.subjects import AGENT, Task
from bench.trial import Trial


class Row(Struct, frozen=True):
    """A number of targets with their page, and every subject's trials, run by run in turn. ``machine``: and when."""

    targets: int
    every: float
    page: str
    page_size: str
    seconds: float
    machine: str
    titles: Mapping[str, str]
    trials: Mapping[str, Sequence[Trial]]

    @property
    def head(self) -> str:
        """What was read."""
        count = f"{self.targets:,} target{'s' if self.targets > 1 else ''}"
        return f"{count} at {self.every:g} s" + (f", {self.page}" if self.page != "vllm" else "")


class Peers(Struct, frozen=True):
    """All rows."""

    rows: Sequence[Row]


class Plan(Struct, frozen=True):
    """A row to be measured."""

    targets: int
    every: float
    names: Sequence[str]
    runs: int = 3
    seconds: float = 10.0
    page: str = "vllm"


def longest_seconds(plan: Plan) -> float:
    """What a row takes on a machine that is slow."""
    return 120 + 3 * plan.runs * len(plan.names) * (plan.seconds + 2 * plan.every + 5)


def measured(plan: Plan, shelf: Shelf, folder: Path) -> dict[str, list[Trial]]:
    """Let every subject read in turn, as often as the plan says."""
    trials: dict[str, list[Trial]] = {name: [] for name in plan.names}
    place = f"{plan.page}-{plan.targets}"
    with shelf.site(f"{place}-site", {plan.page: plan.targets}) as site:
        urls = site.urls[plan.page]
        for run in range(plan.runs):
            for name in plan.names:
                task = Task(urls, plan.every, site.sink, folder / place / f"{run}-{name}")
                trials[name].append(trial.run(name, task, site, plan.seconds))
    return trials


def ratios(row: Row) -> Iterator[tuple[str, str]]:
    """The agent's CPU per page over each other's, run by run."""
    others = [name for name in row.trials if name != AGENT] if AGENT in row.trials else []
    for other in others:
        pairs = list(zip(row.trials[AGENT], row.trials[other], strict=True))
        yield other, spread(pairs, lambda pair: pair[0].cpu_seconds_per_page / pair[1].cpu_seconds_per_page).text(2)


COLUMNS = (
    "CPU per page, ms",
    "of a core, %",
    "resident, MB",
    "wake-ups/s",
    "jitter p50, ms",
    "jitter p99, ms",
    "loop lag, ms",
    "pages/s",
)


def cells(runs: Sequence[Trial]) -> list[str]:
    """A subject's columns."""
    lags = [run for run in runs if run.lag_seconds is not None]
    return [
        spread(runs, lambda run: run.cpu_seconds_per_page).text(2, 1e3),
        spread(runs, lambda run: run.core_ratio).text(1, 100),
        spread(runs, lambda run: run.resident_bytes).text(0, 1e-6),
        spread(runs, lambda run: run.wakeups_per_second).text(0),
        spread(runs, lambda run: run.jitter_p50).text(1, 1e3),
        spread(runs, lambda run: run.jitter_p99).text(0, 1e3),
        spread(lags, lambda run: run.lag_seconds or 0.0).text(0, 1e3) if lags else "",
        spread(runs, lambda run: run.pages_per_second).text(1),
    ]


def show(row: Row) -> None:
    """Ratios first, then what they are made of."""
    compared = dict(ratios(row))
    say(f"\n{row.head}" + (": CPU per page, the agent's over that of" if compared else ""))
    for other, ratio in compared.items():
        say(f"  {row.titles[other]:<32} {ratio}")
    table(row.titles, row.trials)


def table(titles: Mapping[str, str], trials: Mapping[str, Sequence[Trial]]) -> None:
    """A line for each subject."""
    lines = [COLUMNS, *map(cells, trials.values())]
    widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
    for name, line in zip(("", *map(titles.get, trials)), lines, strict=True):
        say(f"  {name:<36}{''.join(f'{cell:<{width}}' for cell, width in zip(line, widths, strict=True))}".rstrip())


def titles(names: Sequence[str]) -> dict[str, str]:
    """With versions."""
    return {name: subjects.title(name) for name in names}
