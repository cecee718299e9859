"""A process under measurement with its children: what the kernel says that they used."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 10.0
_BYTECODE = Path(__file__).parents[1] / ".cache" / "bytecode"


class Usage(Struct, frozen=True):
    """CPU seconds of all threads since the start; memory now: resident, and with shared pages shared out (PSS).

    ``wakeups``: how often a thread that is alive has waited for something since its start.
    """

    cpu_seconds: float
    resident_bytes: float
    proportional_bytes: float
    wakeups: int


def usage(pid: int) -> Usage:
    """What a process and its children have used so far."""
    members = list(family(pid))
    return Usage(
        cpu_seconds=sum(_cpu_seconds(member) for member in members),
        resident_bytes=sum(_memory(member, "Rss") for member in members),
        proportional_bytes=sum(_memory(member, "Pss") for member in members),
        wakeups=sum(_wakeups(member) for member in members),
    )


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A child that is ended with the block; stdout is a pipe, stderr goes to ``log``; ``environ`` is added to ours.

    What is written in Python runs ``as_installed``.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFEROMETER_")}
    clean |= as_installed() | (environ or {})
    _open_many_files()
    with log.open("a", encoding="utf-8") as errors:
        # Every command is spelled out in this package.
        child = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()


def as_installed() -> Mapping[str, str]:
    """The environment in which Python finds modules compiled after the first start, as pip and the image leave them."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(_BYTECODE)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _open_many_files() -> None:
    """A thousand targets are a thousand connections; children have our limits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def family(pid: int) -> Iterator[int]:
    """A process and its descendants that are alive."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in _read(task / "children").split():
            yield from family(int(child))


def _cpu_seconds(pid: int) -> float:
    """By the process's CPU clock, to the nanosecond; children that have ended by the kernel's ticks."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND  # cutime and cstime, see proc(5)
    return time.clock_gettime(~pid << 3 | 2) + ended  # CPUCLOCK_SCHED, see clock_getcpuclockid(3)


def _memory(pid: int, name: str) -> float:
    """From smaps_rollup: kB there, bytes here."""
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def _wakeups(pid: int) -> int:
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in _read(task / "status").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                count += int(line.split()[1])
    return count


def _read(path: Path) -> str:
    """The text of a file of a process; '' when a thread is gone meanwhile."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
