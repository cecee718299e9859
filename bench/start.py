"""``python -m bench.start``: from exec to the first complete /metrics, with one engine, and what is resident then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from bench import machine, pages, result, stage
from bench.nginx import Shelf
from bench.process import started, usage
from bench.spread import spread
from bench.subjects import Task, agent
from bench.trial import alive, get

_FIRST_NUMBERS = b"\ninferometer_tokens_total{"
_REST_SECONDS = 3.0
_LONGEST_SECONDS = 30.0


class Start(Struct, frozen=True):
    """Seconds from exec to the first complete page, CPU seconds until then, resident memory a little later."""

    seconds: float
    cpu_seconds: float
    resident_bytes: float


class Starts(Struct, frozen=True):
    """All runs. ``machine``: and when."""

    machine: str
    runs: Sequence[Start]


def main(argv: Sequence[str] | None = None) -> int:
    """Start the agent a few times and print how long it took. A first start, which compiles it, does not count."""
    parser = stage.parser("bench.start", __doc__)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args(argv)
    where = machine.described()
    stage.say(where)
    with stage.folder() as folder, Shelf(folder, {"vllm": pages.vllm()}).site("site", {"vllm": 1}) as site:
        one(site.urls["vllm"], folder / "first")
        runs = [one(site.urls["vllm"], folder / str(run)) for run in range(options.runs)]
    stage.say(f"exec to first complete /metrics, s  {spread(runs, lambda run: run.seconds).text(2)}")
    stage.say(f"CPU until then, s                   {spread(runs, lambda run: run.cpu_seconds).text(2)}")
    stage.say(f"resident, MB                        {spread(runs, lambda run: run.resident_bytes).text(0, 1e-6)}")
    result.keep(options.out, "start", Starts(where, runs))
    return 0


def one(urls: list[str], folder: Path) -> Start:
    """Start the agent and wait until its page has the numbers of its engine."""
    folder.mkdir(parents=True)
    task = Task(urls, 1.0, "", folder)
    command = agent(task)
    began = time.monotonic()
    with started(command, folder / "log") as child:
        while _FIRST_NUMBERS not in get(task.port, "/metrics"):
            alive(child, folder)
            if time.monotonic() - began > _LONGEST_SECONDS:
                raise SystemExit("the agent never showed numbers")
            time.sleep(0.005)
        took, used = time.monotonic() - began, usage(child.pid).cpu_seconds
        time.sleep(_REST_SECONDS)
        return Start(took, used, usage(child.pid).resident_bytes)


if __name__ == "__main__":
    sys.exit(main())
