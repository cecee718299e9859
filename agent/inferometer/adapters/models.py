"""What a workload's models are called: each by its own name up to a limit, all later ones together ``other``."""

from __future__ import annotations

from collections.abc import Collection

OTHER = "other"
_LABEL_BYTES = 256


class Models:
    """Names the models of one workload. ``always`` and ``known`` keep their names, whatever the ``limit``.

    Of the rest, so many get their own name that there are ``limit`` names in all; a name once given is never taken
    away. ``known``: those that totals have been counted under, so that none moves when the agent starts again.
    """

    def __init__(self, limit: int = 100, always: Collection[str] = (), known: Collection[str] = ()) -> None:
        self.settings = (limit, frozenset(always))
        self.known = {"", OTHER, *always, *known}
        self.others = 0
        self._left = limit - len(self.known) + 2

    def of(self, name: str) -> str:
        """The value of the label ``model`` for what an engine calls ``name``."""
        name = cut(name)
        if name in self.known:
            return name
        if self._left <= 0:
            self.others += 1
            return OTHER
        self._left -= 1
        self.known.add(name)
        return name


def cut(value: str) -> str:
    """At most 256 bytes of a label's value, of whole characters. Values that become equal count as one."""
    if len(value) * 4 <= _LABEL_BYTES:
        return value
    return value.encode("utf-8", "replace")[:_LABEL_BYTES].decode("utf-8", "ignore")
