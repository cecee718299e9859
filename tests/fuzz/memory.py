"""A file in memory under a path, for what takes paths."""

from __future__ import annotations

import os


class MemoryFile:
    """``path`` reads what was written last."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("fuzz")
        self.path = f"/proc/self/fd/{self._descriptor}"

    def write(self, body: bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, body, 0)
