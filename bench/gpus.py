"""What eight GPUs cost the agent: beside one engine, at a reading a second, against the same agent without them.

The driver is the stand-in of our tests: the real binding calls into a shared library, which takes no time of its own.
What a real driver takes comes on top; ``make test-gpu`` measures it where there is one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench.process import started, usage
from bench.subjects import sidecar

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the stand-in is theirs

from fakenvml import Driver, build

GPUS = 8
_WARM_UP_SECONDS = 5.0


class Sidecar(Struct, frozen=True):
    """Share of a core, and resident memory, of an agent beside one engine."""

    cores: float
    resident_bytes: float


def trials(urls: Sequence[str], folder: Path, seconds: float) -> dict[str, Sidecar]:
    """The agent with and without GPUs, one after the other, by what it had."""
    folder.mkdir(parents=True)
    build(folder)
    driver = Driver(folder, GPUS)
    for card in driver.world.gpus:
        card.since = time.clock_gettime(time.CLOCK_BOOTTIME)
    return {
        "1 engine": _run(sidecar(urls, folder / "without", "none"), folder / "without", {}, seconds),
        f"1 engine, {GPUS} GPUs": _run(sidecar(urls, folder / "with", "all"), folder / "with", driver.environ, seconds),
    }


def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str], seconds: float) -> Sidecar:
    folder.mkdir(parents=True)
    with started(command, folder / "log", environ) as child:
        time.sleep(_WARM_UP_SECONDS)
        before, began = usage(child.pid), time.monotonic()
        time.sleep(seconds)
        after, took = usage(child.pid), time.monotonic() - began
        if child.poll() is not None:
            raise SystemExit(f"the agent ended:\n{(folder / 'log').read_text(encoding='utf-8')}")
    return Sidecar((after.cpu_seconds - before.cpu_seconds) / took, after.resident_bytes)
