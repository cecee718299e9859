"""``python -m bench.sidecar``: one engine at 1 s, with and without the node's eight GPUs, beside who reads the same.

The GPUs' driver is the tests' own, which answers at once, so that the share is the agent's own; what a real driver's
calls take comes on top (``make test-gpu``). vmagent and Prometheus read dcgm-exporter's page instead.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from bench import cards, machine, pages, peers, result, stage, subjects, trial
from bench.nginx import Shelf, Site
from bench.process import free_port
from bench.subjects import AGENT, LOOP, Task
from bench.trial import Trial


class Sidecars(Struct, frozen=True):
    """Trials by what was read and by whom. ``machine``: and when."""

    machine: str
    trials: Mapping[str, Sequence[Trial]]


class Case(Struct, frozen=True):
    """One subject beside one engine. ``task``: what is special about it."""

    title: str
    subject: str
    task: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases in turn and print their table."""
    parser = stage.parser("bench.sidecar", __doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(argv)
    where = machine.described()
    stage.say(where)
    trials: dict[str, list[Trial]] = {}
    with stage.folder() as folder:
        shelf = Shelf(folder, {kind: pages.KINDS[kind]() for kind in ("vllm", "dcgm")})
        with shelf.site("site", {"vllm": 1, "dcgm": 1}) as site:
            cases = _cases(site, folder)
            for run in range(options.runs):
                for number, case in enumerate(cases):
                    task = Task(site.urls["vllm"], 1.0, site.sink, folder / f"{run}-{number}", **case.task)
                    done = trial.run(case.subject, task, site, options.seconds, case.environ)
                    trials.setdefault(case.title, []).append(done)
    peers.table({title: title for title in trials}, trials)
    result.keep(options.out, "sidecar", Sidecars(where, trials))
    return 0


def _cases(site: Site, folder: Path) -> list[Case]:
    driver, page = cards.driver(folder / "driver"), {"dcgm": site.urls["dcgm"][0]}
    otlp = {"otlp": {name: f"127.0.0.1:{free_port()}" for name in ("http", "grpc")}}
    ours = [
        Case("inferometer, no GPU", AGENT, {"gpus": "none"}),
        Case("inferometer, 8 GPUs by NVML", AGENT, {"gpus": "all"}, driver),
        Case("the same with OTLP over gRPC", AGENT, {"gpus": "all", "settings": otlp}, driver),
        Case("inferometer, 8 GPUs by DCGM", AGENT, {"gpus": "all", **page}),
    ]
    others = [name for name in subjects.installed() if name not in {AGENT, LOOP}]
    return [*ours, *(Case(f"{subjects.title(name)}, 8 GPUs by DCGM", name, page) for name in others)]


if __name__ == "__main__":
    sys.exit(main())
