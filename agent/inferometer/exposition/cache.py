"""Bytes made once per snapshot, however often they are asked for."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from inferometer.model import Snapshot

_GZIP_LEVEL = 1


class Cache:
    """Remembers what was made for the newest snapshot, by key; a new snapshot forgets it all."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._made: dict[str, bytes] = {}

    def get(self, snapshot: Snapshot, key: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` returned for this very snapshot and key."""
        if snapshot is not self._snapshot:
            self._snapshot, self._made = snapshot, {}
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def compressed(self, snapshot: Snapshot, key: str, make: Callable[[], bytes]) -> bytes:
        """The same, in gzip."""
        packed = f"{key}.gz"
        return self.get(snapshot, packed, lambda: gzip.compress(self.get(snapshot, key, make), _GZIP_LEVEL, mtime=0))
