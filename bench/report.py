"""``python -m bench.report``: docs/performance.md's tables and docs/images' curves, from ``bench/results``.

Tables stand between ``<!-- bench NAME -->`` and ``<!-- end -->``; what was never measured says so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench import peers, result, stage
from bench.allocations import Allocations
from bench.budgets import budgets
from bench.growth import Growth
from bench.imports import Imports
from bench.peers import Peers
from bench.picture import Chart, Points
from bench.profile import Profile
from bench.scale import Load, Loads
from bench.sidecar import Sidecars
from bench.spread import spread
from bench.start import Starts
from bench.tables import table
from bench.trial import Trial

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "performance.md"
_IMAGES = _ROOT / "docs" / "images"
_SECTION = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NEVER = "Not measured yet.\n"
_MOST_PACKAGES, _MOST_PARTS = 12, 16


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page anew, and the curves."""
    parser = stage.parser("bench.report", __doc__)
    parser.add_argument("--results", type=Path, default=result.RESULTS)
    options = parser.parse_args(argv)
    folder = options.out or _IMAGES
    _PAGE.write_text(page(_PAGE.read_text(encoding="utf-8"), options.results), encoding="utf-8")
    for name, chart in charts(options.results).items():
        (folder / name).write_text(chart.svg(), encoding="utf-8")
    return 0


def page(text: str, results: Path) -> str:
    """The page with every section as the results have it."""
    return _SECTION.sub(lambda match: f"{match[1]}{SECTIONS[match[2]](results)}{match[3]}", text)


def charts(results: Path) -> dict[str, Chart]:
    """The curves by the names of their files; none where growth was never measured."""
    found = result.kept(results, "growth", Growth)
    if found is None:
        return {}
    targets = found.targets

    def lines(value: Callable[[Trial], float]) -> dict[str, Points]:
        return {
            found.titles[name]: list(zip(targets, map(value, runs), strict=True)) for name, runs in found.trials.items()
        }

    below = f"targets, each read every {found.every:g} s"
    uptime = [(point.cycles, point.resident_bytes / 1e6) for point in found.uptime]
    return {
        "growth-cpu.svg": Chart("CPU, % of one core", below, lines(lambda run: run.core_ratio * 100)),
        "growth-memory.svg": Chart("Resident memory, MB", below, lines(lambda run: run.resident_bytes / 1e6)),
        "growth-uptime.svg": Chart("Resident memory, MB", "cycles since the start", {"inferometer": uptime}),
    }


def _budgets(results: Path) -> str:
    return table(("", "budget", "measured", ""), budgets(results))


def _peers(results: Path) -> str:
    found = result.kept(results, "peers", Peers)
    if found is None:
        return _NEVER
    parts = []
    for row in found.rows:
        compared = "; ".join(f"{ratio} × {row.titles[other]}" for other, ratio in peers.ratios(row))
        rows = [[row.titles[name], *peers.cells(runs)] for name, runs in row.trials.items()]
        runs = max(map(len, row.trials.values()))
        parts.append(
            f"**{row.head}**" + (f": CPU per page {compared}" if compared else "") + "\n\n"
            + table(("", *peers.COLUMNS), rows)
            + f"\n{row.page_size}; {runs} runs of {row.seconds:g} s each. {row.machine}\n"
        )  # fmt: skip
    return "\n".join(parts)


def _sidecar(results: Path) -> str:
    found = result.kept(results, "sidecar", Sidecars)
    if found is None:
        return _NEVER
    heads = ("", "of a core, %", "resident, MB", "wake-ups/s", "loop lag, ms")
    rows = []
    for title, runs in found.trials.items():
        cells = dict(zip(peers.COLUMNS, peers.cells(runs), strict=True))
        rows.append([title, *(cells[head] for head in heads[1:])])
    return f"{table(heads, rows)}\n{found.machine}\n"


def _start(results: Path) -> str:
    found = result.kept(results, "start", Starts)
    if found is None:
        return _NEVER
    rows = [
        ["exec to the first complete /metrics, s", spread(found.runs, lambda run: run.seconds).text(2)],
        ["CPU until then, s", spread(found.runs, lambda run: run.cpu_seconds).text(2)],
        ["resident a little later, MB", spread(found.runs, lambda run: run.resident_bytes).text(0, 1e-6)],
    ]
    return f"{table(('', f'{len(found.runs)} starts'), rows)}\n{found.machine}\n"


def _scale(results: Path) -> str:
    found = result.kept(results, "scale", Loads)
    if found is None:
        return _NEVER
    heads = ("", "of a core, %", "resident, MB", "loop lag, ms", "series", "page, MB (packed)", "answer p50 / p99, ms")
    rows = [_load(load) for load in found.loads]
    machines = "\n\n".join(dict.fromkeys(load.machine for load in found.loads))
    return f"{table((*heads, 'scrape p50 / worst, ms'), rows)}\n{machines}\n"


def _load(load: Load) -> list[str]:
    scraped = load.scrape_p50 is not None and load.scrape_max is not None
    return [
        load.title,
        f"{load.core_ratio:.1%}".rstrip("%"),
        f"{load.resident_bytes / 1e6:.0f}",
        f"{load.lag_seconds * 1e3:,.0f}",
        f"{load.series:,}",
        f"{load.page_bytes / 1e6:.2f} ({load.packed_bytes / 1e6:.2f})",
        f"{load.answer_p50 * 1e3:.1f} / {load.answer_p99 * 1e3:,.0f}",
        f"{(load.scrape_p50 or 0) * 1e3:,.0f} / {(load.scrape_max or 0) * 1e3:,.0f}" if scraped else "",
    ]


def _growth(results: Path) -> str:
    found = result.kept(results, "growth", Growth)
    if found is None:
        return _NEVER
    first, last = found.uptime[0], found.uptime[-1]
    pictures = "".join(f"![{chart.title}: {chart.below}](images/{name})\n\n" for name, chart in charts(results).items())
    return (
        f"{pictures}Resident memory was {first.resident_bytes / 1e6:.1f} MB after {first.cycles:,.0f} cycles and "
        f"{last.resident_bytes / 1e6:.1f} MB after {last.cycles:,.0f}.\n\n{found.machine}\n"
    )


def _imports(results: Path) -> str:
    found = result.kept(results, "imports", Imports)
    if found is None:
        return _NEVER
    rows: Iterable[Sequence[str]] = [
        [item.name, f"{item.modules}", f"{item.seconds * 1e3:.1f}", f"{item.resident_bytes / 1e6:.2f}"]
        for item in found.packages[:_MOST_PACKAGES]
    ]
    said = f"Python alone: {found.bare_bytes / 1e6:.1f} MB. The agent: {found.resident_bytes / 1e6:.1f} MB."
    return f"{table(('', 'modules', 'CPU, ms', 'MB'), rows)}\n{said} {found.machine}\n"


def _allocations(results: Path) -> str:
    found = result.kept(results, "allocations", Allocations)
    if found is None:
        return _NEVER
    return (
        f"{found.per_page:,.0f} allocations a page ({found.bytes_per_page / 1e3:,.0f} kB) with {found.targets} targets "
        f"at {found.every:g} s; {found.kept_blocks:+.2f} blocks a page are kept; "
        f"{found.collections_per_second:.1f} collections a second.\n\n{found.machine}\n"
    )


def _profile(results: Path) -> str:
    found = result.kept(results, "profile", Profile)
    if found is None:
        return _NEVER
    rows = [[f"`{part.name}`", f"{part.ratio:.1%}"] for part in found.parts[:_MOST_PARTS]]
    return f"{table(('', 'of the CPU'), rows)}\n{found.targets} targets at {found.every:g} s. {found.machine}\n"


SECTIONS: dict[str, Callable[[Path], str]] = {
    "budgets": _budgets,
    "peers": _peers,
    "sidecar": _sidecar,
    "start": _start,
    "scale": _scale,
    "growth": _growth,
    "imports": _imports,
    "allocations": _allocations,
    "profile": _profile,
}


if __name__ == "__main__":
    sys.exit(main())
