"""The agent in a process with a probe inside: ``python -m bench.inside PROBE CONFIG WARM_UP SECONDS`` prints JSON.

Imports nothing but the probe before the agent does, so that what the agent imports can be seen.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

_PROBES = {
    "imports": "bench.importer",
    "allocations": "bench.allocator",
    "kept": "bench.allocator",
    "calls": "bench.calls",
}
_PATIENCE_SECONDS = 60.0


class Probe(Protocol):
    """What is switched on after the warm-up, and gives what JSON can hold when it is switched off."""

    def begin(self) -> None:
        """The warm-up is over."""

    def end(self) -> Any:
        """So many seconds later."""


def observed(
    probe: str, command: list[str], warm_up: float, seconds: float, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a probe saw in the agent of this command line: ``found``, and ``began`` and ``ended`` as unix time.

    Raises SystemExit when the agent ended before.
    """
    from bench.process import as_installed  # noqa: PLC0415  the process that is looked into must not import it

    words = [sys.executable, "-m", "bench.inside", probe, command[-1], str(warm_up), str(seconds)]
    done = subprocess.run(  # noqa: S603  our own
        words, env=os.environ | as_installed() | (environ or {}), capture_output=True, text=True, check=False,
        timeout=warm_up + seconds + _PATIENCE_SECONDS,
    )  # fmt: skip
    if done.returncode or not done.stdout:
        raise SystemExit(f"the agent ended:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(name: str, config: str, warm_up: float, seconds: float) -> int:
    """Run the agent until the probe has seen enough."""
    probe: Probe = importlib.import_module(_PROBES[name]).PROBES[name]()
    seen: dict[str, Any] = {}

    def step(*_: object) -> None:
        if seen:
            seen["ended"] = time.time()
            seen["found"] = probe.end()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        seen["began"] = time.time()
        probe.begin()

    signal.signal(signal.SIGALRM, step)  # handled between two instructions of the main thread, where the loop runs
    signal.setitimer(signal.ITIMER_REAL, warm_up)
    from inferometer.cli import main as run  # noqa: PLC0415  what it imports is looked at

    code = run(["run", config])
    sys.stdout.write(f"{json.dumps(seen)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
