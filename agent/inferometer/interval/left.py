"""Engines that are followed no longer: what is kept of them for the day on which they return."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

_KEPT_SECONDS = 86_400.0
_LOOK_SECONDS = 60.0


class Left:
    """Marks by name; one that did not return within a day is forgotten, so that pods that come and go are bounded.

    ``forgotten``: unix time until which there were engines of which nothing is known any more. What was born before
    may be one of them, whose counts are counted already: its first page is a baseline.
    """

    def __init__(self) -> None:
        self.marks: dict[str, bytes] = {}
        self.forgotten = 0.0
        self._since: dict[str, float] = {}
        self._sources: dict[str, str] = {}
        self._looked = 0.0
        self._unwatched: dict[str, float] = {}

    def keep(self, name: str, mark: bytes, since: float, source: str) -> None:
        """It has been followed until ``since``, on the steady clock, and was read from ``source``."""
        self.marks[name], self._since[name], self._sources[name] = mark, since, source

    def take(self, name: str) -> bytes:
        """It is followed again."""
        del self._since[name], self._sources[name]
        return self.marks.pop(name)

    def forget(self, at: float, ahead: float) -> set[str]:
        """Drop the marks that are too old at this time; their names, and their sources. Looks once a minute."""
        if at - self._looked < _LOOK_SECONDS:
            return set()
        self._looked = at
        old = {name for name, since in self._since.items() if at - since > _KEPT_SECONDS}
        sources = {self._sources[name] for name in old}
        for name in old:
            self.forgotten = max(self.forgotten, self._since[name] + ahead)
            self.take(name)
        return old | sources - {"", *self._sources.values()}

    def watched(self, since: dict[str, float], followed: AbstractSet[str], at: float) -> dict[str, float]:
        """Since when each workload has been watched, without those that nobody has followed for as long."""
        gone = since.keys() - followed
        self._unwatched = {name: self._unwatched.get(name, at) for name in gone}
        old = {name for name in gone if at - self._unwatched[name] > _KEPT_SECONDS}
        return {name: began for name, began in since.items() if name not in old} if old else since
