"""``python -m bench.growth``: how CPU and memory grow with the targets, and memory with the cycles that an agent ran.

Cycles are quick ones: two engines at 100 ms, whose pages change each time. ``--cycles 100000`` takes three hours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench import machine, pages, peers, result, stage, subjects
from bench.nginx import Shelf
from bench.peers import Plan
from bench.process import started, usage
from bench.stage import numbers
from bench.subjects import AGENT, LOOP, Task, agent
from bench.trial import Trial, alive, warm_up

_CYCLE_SECONDS = 0.1


class Point(Struct, frozen=True):
    """Resident memory after so many cycles."""

    cycles: float
    resident_bytes: float


class Growth(Struct, frozen=True):
    """By subject, a trial for each number of targets, read every ``every`` seconds; and the agent's memory in time."""

    machine: str
    every: float
    targets: Sequence[int]
    titles: Mapping[str, str]
    trials: Mapping[str, Sequence[Trial]]
    uptime: Sequence[Point]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both and print them."""
    options = _options(argv)
    where = machine.described()
    stage.say(where)
    before = result.kept(options.out, "growth", Growth) if options.only and options.out else None
    with stage.folder() as folder:
        shelf = Shelf(folder, {"vllm": pages.vllm()})
        trials = before.trials if before and options.only == "uptime" else _by_targets(shelf, folder, options)
        uptime = before.uptime if before and options.only == "targets" else _uptime(shelf, folder, options.cycles)
    if before and options.only == "uptime":
        options.every, options.targets = before.every, before.targets
    titles = peers.titles(list(trials))
    result.keep(options.out, "growth", Growth(where, options.every, options.targets, titles, trials, uptime))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = stage.parser("bench.growth", __doc__)
    parser.add_argument("--only", choices=("targets", "uptime"), help="keep the other as it was measured before")
    parser.add_argument("--targets", type=numbers, default=[10, 50, 100, 200, 400], help="e.g. 10,100,400")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two readings of a target")
    parser.add_argument("--runs", type=int, default=1, help="of which the median is drawn")
    parser.add_argument("--cycles", type=int, default=6000, help="how long memory is watched (ten a second)")
    return parser.parse_args(argv)


def _by_targets(shelf: Shelf, folder: Path, options: argparse.Namespace) -> dict[str, list[Trial]]:
    """By subject, the median trial of each number of targets."""
    names = [name for name in subjects.installed() if name != LOOP]
    trials: dict[str, list[Trial]] = {name: [] for name in names}
    for targets in options.targets:
        plan = Plan(targets, options.every, names, options.runs, max(10.0, options.every))
        for name, done in peers.measured(plan, shelf, folder).items():
            trials[name].append(sorted(done, key=lambda run: run.core_ratio)[len(done) // 2])
        stage.say(f"\n{targets} targets at {options.every:g} s")
        peers.table(peers.titles(names), {name: done[-1:] for name, done in trials.items()})
    return trials


def _uptime(shelf: Shelf, folder: Path, cycles: int) -> list[Point]:
    """The agent's memory as it runs; a hundred points."""
    place = folder / "uptime"
    place.mkdir()
    with shelf.site("uptime-site", {"vllm": 2}, tenths=True) as site:
        task = Task(site.urls["vllm"], _CYCLE_SECONDS, site.sink, place)
        begin = site.access.mark()
        with started(agent(task), place / "log") as child:
            warm_up(child, task, site.access, begin)
            points: list[Point] = []
            while not points or points[-1].cycles < cycles:
                time.sleep(max(1.0, cycles * _CYCLE_SECONDS / 100))
                alive(child, place)
                read = sum(hit.whole for hit in site.access.since(begin)) / len(task.urls)
                points.append(Point(read, usage(child.pid).resident_bytes))
    first, last = points[0], points[-1]
    stage.say(
        f"\n{AGENT}: resident {first.resident_bytes / 1e6:.1f} MB after {first.cycles:,.0f} cycles, "
        f"{last.resident_bytes / 1e6:.1f} MB after {last.cycles:,.0f}"
    )
    return points


if __name__ == "__main__":
    sys.exit(main())
