"""``python -m bench``: ratios first, then what they are made of. Needs Linux, and a machine that does nothing else."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import machine, pages, peers, result, stage, subjects
from bench.nginx import Shelf
from bench.peers import Peers, Plan, Row

_ALL = ("agent", "vmagent", "prometheus", "loop")
_STANDARD = (
    Plan(1, 1.0, _ALL, seconds=5.0),
    Plan(8, 1.0, _ALL, seconds=5.0),
    Plan(50, 1.0, _ALL, seconds=8.0),
    Plan(200, 5.0, _ALL[:-1]),
    Plan(1000, 15.0, _ALL[:-1], seconds=15.0),
)
_QUICK = tuple(Plan(targets, 1.0, _ALL[:-1], seconds=5.0) for targets in (8, 50))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all rows and print their tables."""
    options = _options(argv)
    kinds = {kind: make() for kind, make in pages.KINDS.items()}
    if options.recording:
        kinds["recording"] = pages.recorded(options.recording)
    where = machine.described()
    stage.say(f"{where}\nmedians of interleaved runs, and their range; ledger and databases on disk")
    rows = []
    plans = _plans(options)
    with stage.folder() as folder:
        shelf = Shelf(folder, kinds, life_seconds=max(map(peers.longest_seconds, plans)))
        for plan in plans:
            size = pages.size(kinds[plan.page]).text()
            stage.say(f"\n{plan.runs} runs of {plan.seconds:g} s, the page {plan.page}: {size}")
            trials = peers.measured(plan, shelf, folder)
            rows.append(Row(plan.targets, plan.every, plan.page, size, plan.seconds, where, _titles(plan), trials))
            peers.show(rows[-1])
    _keep(options.out, rows)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = stage.parser("bench", __doc__)
    parser.add_argument("--quick", action="store_true", help="8 and 50 targets only, for 5 s: four minutes")
    parser.add_argument("--targets", type=stage.numbers, help="numbers of targets, e.g. 1,8,50")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two readings of a target")
    parser.add_argument("--runs", type=int, help="interleaved runs of each subject (default: 3)")
    parser.add_argument("--seconds", type=float, help="length of a run after its warm-up")
    parser.add_argument("--subjects", type=lambda text: text.split(","), help=f"some of {','.join(_ALL)}")
    parser.add_argument("--page", choices=sorted({*pages.KINDS} - {"dcgm"}), help="whose page (default: vllm)")
    parser.add_argument("--recording", type=Path, help="serve the pages of this recording in turn")
    options = parser.parse_args(argv)
    if unknown := set(options.subjects or ()) - set(_ALL):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    return options


def _plans(options: argparse.Namespace) -> list[Plan]:
    standard = _QUICK if options.quick else _STANDARD
    plans = [Plan(count, options.every, _ALL) for count in options.targets] if options.targets else standard
    names = [name for name in subjects.installed() if name in (options.subjects or _ALL)]
    page = "recording" if options.recording else options.page or "vllm"
    return [
        Plan(
            plan.targets,
            plan.every,
            [name for name in names if name in plan.names],
            options.runs or plan.runs,
            math.ceil((options.seconds or plan.seconds) / plan.every) * plan.every,
            page,
        )
        for plan in plans
    ]


def _titles(plan: Plan) -> dict[str, str]:
    return peers.titles(plan.names)


def _keep(folder: Path | None, rows: list[Row]) -> None:
    before = result.kept(folder, "peers", Peers) if folder else None
    result.keep(folder, "peers", Peers(kept_rows(before.rows if before else [], rows)))


def kept_rows(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Rows that were measured before stay, where they are not measured anew."""
    new = {row.head for row in rows}
    return sorted([*(row for row in before if row.head not in new), *rows], key=lambda row: (row.every, row.targets))


if __name__ == "__main__":
    sys.exit(main())
