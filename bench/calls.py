"""A probe for calls: cProfile on the main thread, which is where the agent's event loop runs."""

from __future__ import annotations

import cProfile
import pstats
from typing import Any


class Calls:
    """Every function that was called: file, line, name, calls, and seconds in itself and with what it called."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def begin(self) -> None:
        """Profile from now on."""
        self._profile.enable()

    def end(self) -> list[tuple[Any, ...]]:
        """All functions."""
        self._profile.disable()
        stats: dict[Any, Any] = pstats.Stats(self._profile).stats  # type: ignore[attr-defined]
        return [(*where, calls, own, whole) for where, (_, calls, own, whole, _) in stats.items()]


PROBES = {"calls": Calls}
