"""What was written, where: a tree of text, lists and mappings, each with its line, flag or variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value: ``("workloads", 0, "name")``."""


class Origin(Struct, frozen=True):
    """Where a value was written: ``line`` of the file ``name``; line 0 is a flag, a variable or a whole file."""

    name: str
    line: int = 0


class Node(Struct, frozen=True):
    """One written value.

    ``form`` says how a scalar may be read: ``number``, ``switch`` and ``null`` as YAML sees them, ``text`` (quoted) is
    only text, ``open`` (plain words, flags, variables) may be anything, ``unset`` is reported already. ``written`` is
    the value before variables were filled in, '' where there are none: what they hold may be secret.
    """

    value: str | Sequence[Node] | Mapping[str, Node]
    origin: Origin
    form: str = "open"
    written: str = ""

    @property
    def shown(self) -> str:
        """The value in the words of a fault."""
        if isinstance(self.value, Mapping):
            return "a mapping"
        if not isinstance(self.value, str):
            return "a list"
        text = self.written or self.value
        text = text if len(text) <= 60 else text[:57] + "..."
        return text if self.form in {"number", "switch"} else f"'{text}'"
