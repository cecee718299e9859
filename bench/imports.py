"""``python -m bench.imports``: what the agent imports, and what each package costs in CPU time and resident memory.

Measured in an agent with one engine and eight GPUs that has run for a few seconds, so that what is loaded late is in.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from msgspec import Struct

from bench import cards, inside, machine, pages, result, stage
from bench.nginx import Shelf
from bench.subjects import Task, agent

_RUN_SECONDS = 4.0


class Package(Struct, frozen=True):
    """Modules under one name, and what loading them took."""

    name: str
    modules: int
    seconds: float
    resident_bytes: int


class Imports(Struct, frozen=True):
    """By package, the largest first. ``bare_bytes``: Python alone; ``resident_bytes``: the agent."""

    machine: str
    packages: Sequence[Package]
    bare_bytes: int
    resident_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = stage.parser("bench.imports", __doc__)
    parser.add_argument("--modules", action="store_true", help="single modules, not packages")
    parser.add_argument("--most", type=int, default=25, help="lines to print")
    options = parser.parse_args(argv)
    where = machine.described()
    with stage.folder() as folder, Shelf(folder, {"vllm": pages.vllm()}).site("site", {"vllm": 1}) as site:
        (folder / "agent").mkdir()
        task = Task(site.urls["vllm"], 1.0, site.sink, folder / "agent", gpus="all")
        found = inside.observed("imports", agent(task), _RUN_SECONDS, 0.1, cards.driver(folder))["found"]
    rows = grouped(found["modules"], whole=options.modules)
    stage.say(f"{where}\nPython alone {found['before'] / 1e6:.1f} MB, the agent {found['now'] / 1e6:.1f} MB\n")
    stage.say(f"{'':<44}{'modules':>8}{'CPU ms':>8}{'MB':>8}")
    for row in rows[: options.most]:
        stage.say(f"{row.name:<44}{row.modules:>8}{row.seconds * 1e3:>8.1f}{row.resident_bytes / 1e6:>8.2f}")
    total = sum(row.seconds for row in rows), sum(row.resident_bytes for row in rows)
    stage.say(f"{'all':<44}{sum(row.modules for row in rows):>8}{total[0] * 1e3:>8.1f}{total[1] / 1e6:>8.2f}")
    result.keep(options.out, "imports", Imports(where, grouped(found["modules"]), found["before"], found["now"]))
    return 0


def grouped(modules: Sequence[tuple[str, float, int]], *, whole: bool = False) -> list[Package]:
    """By the package at the top, the standard library as one; ``whole``: every module by itself."""
    groups: dict[str, list[tuple[str, float, int]]] = {}
    for module in modules:
        top = module[0].partition(".")[0]
        groups.setdefault(module[0] if whole else "(standard library)" if _is_standard(top) else top, []).append(module)
    packages = [
        Package(name, len(group), sum(seconds for _, seconds, _ in group), sum(size for *_, size in group))
        for name, group in groups.items()
    ]
    return sorted(packages, key=lambda package: -package.resident_bytes)


def _is_standard(name: str) -> bool:
    return name in sys.stdlib_module_names or name.startswith("_sysconfigdata")


if __name__ == "__main__":
    sys.exit(main())
