"""Kinds of values that no fault, log or dump may repeat."""

from __future__ import annotations

import re
from typing import Any

from inferometer.config.kinds import Text
from inferometer.config.node import Node

_MOST_COST = 14  # about a second for each check; the time doubles with each step


class Secret(Text, frozen=True):
    """Text that is secret: what is wrong with it is said without it."""

    means: str = "text"

    def refusal(self, node: Node) -> str:  # noqa: ARG002  what it is stays untold
        """What it must be, and not what it is."""
        return f"must be {self.noun}"

    def _read(self, text: str, node: Node) -> Any:
        if node.form in {"number", "switch"} or not re.fullmatch(self.pattern, text, re.DOTALL):
            raise ValueError(self.refusal(node))
        return text


class Hashed(Secret, frozen=True):
    """A password as bcrypt keeps it."""

    means: str = "a password hashed with bcrypt, e.g. by: htpasswd -nBC 10 NAME"
    pattern: str = r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}"

    def _read(self, text: str, node: Node) -> Any:
        password = super()._read(text, node)
        if cost(password) > _MOST_COST:
            took = f"has the cost {cost(password)}, so that each login would take seconds"
            raise ValueError(f"{took}; make it with 10 to {_MOST_COST}")
        return password


def cost(hashed: str) -> int:
    """The cost that a hash was made with."""
    return int(hashed[4:6])
