"""``python -m bench.scale``: large installations in one agent, while Prometheus scrapes it.

A thousand engines at 15 s in twenty workloads; eight GPUs cut into seven MIG instances each; 500 models on one page.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from bench import cards, client, machine, pages, result, stage
from bench.nginx import Shelf, Site
from bench.process import started, usage
from bench.subjects import Task, agent
from bench.trial import alive, lag, warm_up

_MODELS, _INSTANCES = 500, 7
_ROOM = {"limits": {"models": 1_000, "series": 200_000}, "scrape": {"max_page_series": 200_000}}
_SCRAPED_EVERY = 15.0


class Load(Struct, frozen=True):
    """What an agent took with all that. ``machine``: and when.

    ``answer_*``: GET /metrics, packed, request to last byte, seconds; ``scrape_*``: by Prometheus's own account, None
    where it is not installed; ``series``: on the agent's page.
    """

    title: str
    machine: str
    core_ratio: float
    resident_bytes: float
    lag_seconds: float
    series: int
    page_bytes: int
    packed_bytes: int
    answer_p50: float
    answer_p99: float
    scrape_p50: float | None
    scrape_max: float | None


class Loads(Struct, frozen=True):
    """All of them."""

    loads: Sequence[Load]


class Case(Struct, frozen=True):
    """One installation: what is served, and how the agent is set up for it."""

    title: str
    targets: Mapping[str, int]
    every: float
    task: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each installation and print what it takes."""
    parser = stage.parser("bench.scale", __doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long CPU is measured, at least four scrapes")
    parser.add_argument("--answers", type=int, default=120, help="readings of /metrics that are timed, two a second")
    parser.add_argument("--only", help="part of the title of the installations to measure")
    options = parser.parse_args(argv)
    stage.say(machine.described())
    loads: list[Load] = []
    with stage.folder() as folder:
        shelf = Shelf(folder, {"vllm": pages.vllm(), "models": pages.models(_MODELS)}, large={"models"})
        cases = _cases(folder)
        for number, case in enumerate(cases):
            if options.only is not None and options.only not in case.title:
                continue
            with shelf.site(f"site-{number}", case.targets) as site:
                loads.append(_load(case, site, folder / str(number), options.seconds, options.answers))
            _show(loads[-1])
    before = result.kept(options.out, "scale", Loads) if options.out else None
    known = {load.title: load for load in [*(before.loads if before else ()), *loads]}
    result.keep(options.out, "scale", Loads([known[case.title] for case in cases if case.title in known]))
    return 0


def _cases(folder: Path) -> list[Case]:
    driver = cards.driver(folder / "driver", _INSTANCES)
    return [
        Case("1,000 engines at 15 s", {"vllm": 1000}, 15.0, {"workloads": 20}),
        Case("1 engine and 8 × 7 MIG instances at 1 s", {"vllm": 1}, 1.0, {"gpus": "all"}, driver),
        Case(f"1 engine with {_MODELS} models at 15 s", {"models": 1}, 15.0, {"settings": _ROOM}),
    ]


def _load(case: Case, site: Site, folder: Path, seconds: float, count: int) -> Load:
    folder.mkdir()
    (kind,) = case.targets
    task = Task(site.urls[kind], case.every, site.sink, folder, **case.task)
    begin = site.access.mark()
    with started(agent(task), folder / "log", case.environ) as child:
        warm_up(child, task, site.access, begin)
        with client.prometheus(task.port, _SCRAPED_EVERY, folder / "prometheus") as prometheus:
            time.sleep(_SCRAPED_EVERY)
            before, began = usage(child.pid), time.monotonic()
            time.sleep(seconds)
            after, took = usage(child.pid), time.monotonic() - began
            answers = client.answers(task.port, count, 0.5)
            scrapes = client.scrape_seconds(prometheus, time.monotonic() - began)
        alive(child, folder)
        page, late = client.plain(task.port), lag(task.port)
    cuts = statistics.quantiles([answer.seconds for answer in answers], n=100, method="inclusive")
    return Load(
        title=case.title,
        machine=machine.described(),
        core_ratio=(after.cpu_seconds - before.cpu_seconds) / took,
        resident_bytes=after.resident_bytes,
        lag_seconds=late or 0.0,
        series=sum(not line.startswith(b"#") for line in page.splitlines()),
        page_bytes=len(page),
        packed_bytes=answers[-1].bytes,
        answer_p50=cuts[49],
        answer_p99=cuts[98],
        scrape_p50=statistics.median(scrapes) if scrapes else None,
        scrape_max=max(scrapes, default=None),
    )


def _show(load: Load) -> None:
    scrapes = "" if load.scrape_max is None else f", scrapes p50 {load.scrape_p50:.3f} s, worst {load.scrape_max:.3f} s"
    stage.say(
        f"{load.title}\n"
        f"  {load.core_ratio:.1%} of a core, {load.resident_bytes / 1e6:.0f} MB, loop lag {load.lag_seconds:.2f} s\n"
        f"  /metrics {load.series:,} series, {load.page_bytes / 1e6:.2f} MB ({load.packed_bytes / 1e6:.2f} MB packed), "
        f"p50 {load.answer_p50 * 1e3:.1f} ms, p99 {load.answer_p99 * 1e3:.0f} ms{scrapes}"
    )


if __name__ == "__main__":
    sys.exit(main())
