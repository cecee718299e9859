"""Probes for allocations: how many there are, and which memory stays. The first needs ``allocator.c``, compiled."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

LIBRARY = "BENCH_ALLOCATOR"
"""The environment variable that says where the compiled library is."""

_SOURCE = Path(__file__).with_name("allocator.c")
_MOST_LINES = 25


def build(folder: Path) -> dict[str, str]:
    """Compile; the environment in which the probe finds the library. Raises SystemExit without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("allocations are counted by a hook in C, and there is no compiler: make tools")
    library = folder / "allocator.so"
    how = ["-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
    subprocess.run([compiler, *how], check=True)  # noqa: S603  our own source
    return {LIBRARY: str(library)}


class Allocations:
    """How often memory was asked for, how much, how many blocks more are held at the end, and collections."""

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(os.environ[LIBRARY])
        self._before: tuple[int, ...] = ()

    def begin(self) -> None:
        """Count from now on."""
        gc.collect()
        self._library.install()
        self._before = self._now()

    def end(self) -> dict[str, int]:
        """Since the beginning."""
        now = self._now()
        gc.collect()
        now = (*now[:-2], sys.getallocatedblocks(), now[-1])
        names = ("allocations", "bytes", "blocks", "collections")
        return dict(zip(names, (b - a for a, b in zip(self._before, now, strict=True)), strict=True))

    def _now(self) -> tuple[int, ...]:
        counted = (ctypes.c_uint64.in_dll(self._library, name).value for name in ("allocations", "allocated_bytes"))
        return (*counted, sys.getallocatedblocks(), sum(stat["collections"] for stat in gc.get_stats()))


class Kept:
    """Which lines allocated what is still held at the end."""

    def begin(self) -> None:
        """Trace from now on."""
        import tracemalloc  # noqa: PLC0415  only here

        tracemalloc.start()

    def end(self) -> list[tuple[str, int, int, int]]:
        """The lines that hold most: file, line, blocks, bytes."""
        import tracemalloc  # noqa: PLC0415  only here

        gc.collect()
        rows: list[Any] = tracemalloc.take_snapshot().statistics("lineno")[:_MOST_LINES]
        return [(row.traceback[0].filename, row.traceback[0].lineno, row.count, row.size) for row in rows]


PROBES = {"allocations": Allocations, "kept": Kept}
