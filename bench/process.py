"""A process under measurement: what the kernel says that it used."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 10.0


class Usage(Struct, frozen=True):
    """CPU seconds of all threads since the start, and resident memory now."""

    cpu_seconds: float
    resident_bytes: float


def usage(pid: int) -> Usage:
    """What a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
    return Usage(ticks / _TICKS_PER_SECOND, pages * os.sysconf("SC_PAGE_SIZE"))


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A child that is ended with the block; stdout is a pipe, stderr goes to ``log``; ``environ`` is added to ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFEROMETER_")}
    clean |= environ or {}
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
