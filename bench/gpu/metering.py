"""The agent as it meters the workload: started on the page, read at the ends of every phase."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

_ROOT = Path(__file__).parents[2]
_INTERVAL_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0
_NEEDS = "import aiohttp, msgspec, prometheus_client, pynvml, yaml, inferometer"


class Totals(NamedTuple):
    """What the agent has settled so far, of all workloads; ``counter`` is the reading that it settled up to."""

    joules: float
    tokens: float
    counter: float
    at: float


def interpreter() -> str:
    """A Python that has what the agent needs, the repository's own before this one; '' where there is none."""
    for python in (str(_ROOT / ".venv" / "bin" / "python"), sys.executable):
        with contextlib.suppress(OSError):
            done = subprocess.run([python, "-c", _NEEDS], env=_environment(), capture_output=True, check=False)  # noqa: S603
            if done.returncode == 0:
                return python
    return ""


class Agent:
    """``inferometer run`` on one page and one GPU, for as long as the block lasts."""

    def __init__(self, python: str, page: str, uuid: str, folder: Path) -> None:
        self._log, self._uuid = folder / "agent.log", uuid
        self._first = math.inf  # what the counter showed when it was first read
        flags = ["--engine.url", page, "--gpus", uuid, "--interval", f"{_INTERVAL_SECONDS}s"]
        more = ["--web.listen-address", "127.0.0.1:0", "--storage.path", str(folder / "ledger")]
        self._command = [python, "-m", "inferometer", "run", *flags, *more]

    def __enter__(self) -> Self:
        """Start, and wait until it has read the GPUs."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, env=_environment(), stdout=log, stderr=log)  # noqa: S603
        self._url = self._until(self._listening)
        self._until(self._is_metering)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        _stop(self._process)

    def totals(self) -> Totals:
        """Once it has settled what it was told until now: three intervals later."""
        end = time.monotonic() + 3 * _INTERVAL_SECONDS
        while time.monotonic() < end:
            totals = self._look()
            time.sleep(0.02)
        return totals

    def _look(self) -> Totals:
        """What it settled is the counter's rise since its first reading: what is read and not settled yet comes off."""
        at, page = time.monotonic(), self._page()
        joules = _sum(page, "inferometer_energy_joules_total", 'component="gpu"')
        read = _sum(page, "inferometer_gpu_energy_joules_total", f'gpu="{self._uuid}"')
        self._first = min(self._first, read - joules)
        return Totals(joules, _sum(page, "inferometer_tokens_total"), self._first + joules, at)

    def _listening(self) -> str:
        found = [word for word in self._log.read_text().split() if word.startswith("listen=")]
        return found[0].removeprefix("listen=") if found else ""

    def _is_metering(self) -> bool:
        with contextlib.suppress(OSError):
            return _sum(self._page(), "inferometer_gpu_up") > 0
        return False

    def _until(self, what: object) -> str:
        """What ``what()`` gives, once that is true; RuntimeError with the agent's log where it never is."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            found = what()  # type: ignore[operator]
            if found:
                return str(found)
            time.sleep(0.05)
        _stop(self._process)
        raise RuntimeError(f"the agent does not meter:\n{self._log.read_text()}")

    def _page(self) -> str:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:  # noqa: S310  our own address
            return str(answer.read().decode())


@contextlib.contextmanager
def recording(python: str, page: str, folder: Path) -> Iterator[None]:
    """Record page and GPUs for as long as the block lasts."""
    flags = ["--gpus", "--out", str(folder), "--for", "1h", "--every", "500ms"]
    command = [python, "-m", "inferometer", "record", page, *flags]
    process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
    finally:
        _stop(process, signal.SIGINT)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INFEROMETER_")}
    return kept | {"PYTHONPATH": str(_ROOT / "agent"), "PYTHONUNBUFFERED": "1"}


def _stop(process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
    process.send_signal(how)
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _sum(page: str, name: str, label: str = "") -> float:
    rows = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} ")) and label in line]
    return sum(float(row.rpartition(" ")[2]) for row in rows)
