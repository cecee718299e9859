"""``python -m bench.profile``: where the agent's CPU goes with 50 targets, by part and by function.

By cProfile, whose own cost weighs on small functions, so that shares are a hint; or, with ``--callgrind``, in
instructions by valgrind: exact, the same on a busy machine, in the names of the interpreter's C functions.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import callgrind, inside, machine, pages, result, stage
from bench.allocations import read_between
from bench.nginx import Shelf, Site
from bench.subjects import Task, agent

_MOST_PARTS = 22


class Part(Struct, frozen=True):
    """A part of the agent, a package or a function in C, and its share of the CPU."""

    name: str
    ratio: float


class Profile(Struct, frozen=True):
    """All parts, the largest first. ``seconds_per_page``: under the profiler."""

    machine: str
    targets: int
    every: float
    seconds_per_page: float
    parts: Sequence[Part]


def main(argv: Sequence[str] | None = None) -> int:
    """Profile and print."""
    parser = stage.parser("bench.profile", __doc__)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--every", type=float, help="seconds (default: 1, with callgrind 20)")
    parser.add_argument("--warm-up", type=float, default=8.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long (with callgrind: two intervals)")
    parser.add_argument("--callgrind", action="store_true", help="instructions by valgrind; takes minutes")
    parser.add_argument("--most", type=int, default=40, help="functions to print")
    options = parser.parse_args(argv)
    where = machine.described()
    stage.say(where)
    every = options.every or (20.0 if options.callgrind else 1.0)
    with (
        stage.folder() as folder,
        Shelf(folder, {"vllm": pages.vllm()}).site("site", {"vllm": options.targets}) as site,
    ):
        (folder / "agent").mkdir()
        task = Task(site.urls["vllm"], every, site.sink, folder / "agent")
        if options.callgrind:
            stage.say(callgrind.counted(task, site, options.most))
        else:
            seconds, parts = _profile(task, site, options)
            result.keep(options.out, "profile", Profile(where, options.targets, every, seconds, parts))
    return 0


def _profile(task: Task, site: Site, options: argparse.Namespace) -> tuple[float, list[Part]]:
    """Print, and give seconds per page and the parts."""
    seen = inside.observed("calls", agent(task), options.warm_up, options.seconds)
    count, rows = read_between(site, seen["began"], seen["ended"]), seen["found"]
    busy = [row for row in rows if not _waits(row)]
    whole = sum(row[4] for row in busy)
    stage.say(f"{count} pages, {whole / count * 1e3:.2f} ms a page under the profiler\n\nshare  ms/page  part")
    parts = Counter[str]()
    for row in busy:
        parts[_part(row[0], row[2])] += row[4]
    for part, seconds in parts.most_common(_MOST_PARTS):
        stage.say(f"{seconds / whole:>5.1%}{seconds / count * 1e3:>9.3f}  {part}")
    stage.say("\n  own ms   with inner ms   calls   (all per page)  function")
    for path, line, name, calls, own, inner in sorted(busy, key=lambda row: -row[4])[: options.most]:
        where = f"{'/'.join(Path(path).parts[-3:])}:{line} " if line else ""
        stage.say(f"{own / count * 1e3:>8.3f}{inner / count * 1e3:>16.3f}{calls / count:>8.1f}   {where}{name}")
    return whole / count, [Part(part, seconds / whole) for part, seconds in parts.most_common(_MOST_PARTS)]


def _waits(row: Sequence[Any]) -> bool:
    return "poll" in row[2] and row[0] == "~"


def _part(path: str, name: str) -> str:
    """A part of the agent, a package, the standard library, or a function in C."""
    parts = Path(path).parts
    if "inferometer" in parts:
        inner = parts[parts.index("inferometer") + 1 :]
        return f"inferometer/{'/'.join(inner[:2]) if inner[0] in {'sources', 'exposition'} else inner[0]}"
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if path == "~":
        return name
    return f"(standard library) {'asyncio' if 'asyncio' in parts else parts[-1]}"


if __name__ == "__main__":
    sys.exit(main())
