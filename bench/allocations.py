"""``python -m bench.allocations``: what Python allocates for a page in the steady state, and what it keeps of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from bench import allocator, inside, machine, pages, result, stage
from bench.nginx import Shelf, Site
from bench.subjects import Task, agent


class Allocations(Struct, frozen=True):
    """Per page of ``targets`` at ``every`` seconds. ``kept_blocks``: more blocks after it than before."""

    machine: str
    targets: int
    every: float
    per_page: float
    bytes_per_page: float
    kept_blocks: float
    collections_per_second: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = stage.parser("bench.allocations", __doc__)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--warm-up", type=float, default=10.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kept", action="store_true", help="print the lines whose memory stays, by tracemalloc")
    options = parser.parse_args(argv)
    where = machine.described()
    stage.say(where)
    with (
        stage.folder() as folder,
        Shelf(folder, {"vllm": pages.vllm()}).site("site", {"vllm": options.targets}) as site,
    ):
        (folder / "agent").mkdir()
        command = agent(Task(site.urls["vllm"], options.every, site.sink, folder / "agent"))
        times = (options.warm_up, options.seconds)
        if options.kept:
            _show(inside.observed("kept", command, *times)["found"])
            return 0
        seen = inside.observed("allocations", command, *times, allocator.build(folder))
        found, count = seen["found"], read_between(site, seen["began"], seen["ended"])
    done = Allocations(
        where,
        options.targets,
        options.every,
        found["allocations"] / count,
        found["bytes"] / count,
        found["blocks"] / count,
        found["collections"] / options.seconds,
    )
    stage.say(
        f"{count} pages: {done.per_page:,.0f} allocations a page, {done.bytes_per_page / 1e3:,.0f} kB; "
        f"{done.kept_blocks:+.1f} blocks a page stay; {done.collections_per_second:.1f} collections a second"
    )
    result.keep(options.out, "allocations", done)
    return 0


def read_between(site: Site, began: float, ended: float) -> int:
    """How many pages were served in a time."""
    return sum(hit.whole for hit in site.access.since(0) if began <= hit.at <= ended)


def _show(rows: Sequence[tuple[str, int, int, int]]) -> None:
    for path, line, blocks, size in rows:
        stage.say(f"{size / 1e3:>10.1f} kB{blocks:>8} blocks  {'/'.join(Path(path).parts[-3:])}:{line}")


if __name__ == "__main__":
    sys.exit(main())
