"""A probe for imports: what each module takes in CPU time and resident memory, without those that it imports itself."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes, now."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  pathlib is among what is measured
        return int(file.read().split()[1]) * _PAGE_BYTES


class Imports:
    """Stands before the finders and measures what they load. ``found``: name, seconds, bytes."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float, int]] = []
        self._before = resident()
        self._inner: list[list[float]] = []
        sys.meta_path.insert(0, self)

    def begin(self) -> None:
        """Imports were seen from the beginning."""

    def end(self) -> dict[str, Any]:
        """All that was imported, and memory before and now."""
        return {"modules": self.found, "before": self._before, "now": resident()}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of the other finders, with a loader that is measured."""
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    self._measure(name, spec.loader)
                return spec
        return None

    def _measure(self, name: str, loader: Any) -> None:
        load = loader.exec_module

        def measured(module: ModuleType) -> None:
            self._inner.append([0.0, 0.0])
            before, began = resident(), time.process_time()
            try:
                load(module)
            finally:
                seconds, size = time.process_time() - began, resident() - before
                inner = self._inner.pop()
                self.found.append((name, seconds - inner[0], int(size - inner[1])))
                if self._inner:
                    self._inner[-1][0] += seconds
                    self._inner[-1][1] += size

        loader.exec_module = measured


PROBES = {"imports": Imports}
