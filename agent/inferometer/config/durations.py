"""Durations with units: ``500ms``, ``1m``, ``1h30m``, ``30d``."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)"
PATTERN = f"^({_PART})+$".replace("(\\d", "(?:\\d").replace("(ms", "(?:ms")


def seconds(text: str) -> float | None:
    """The seconds that ``text`` means, or None where it is no duration."""
    if not re.fullmatch(PATTERN, text, re.ASCII):
        return None
    try:
        return float(sum((Decimal(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, text)), Decimal(0)))
    except ArithmeticError:  # a million digits
        return None


def text(duration_seconds: float) -> str:
    """The shortest way to write a duration with one unit; reads back as the same number."""
    exact = Decimal(repr(duration_seconds))
    for unit in ("d", "h", "m", "s"):
        if exact >= _UNITS[unit] and exact % _UNITS[unit] == 0:
            return f"{int(exact / _UNITS[unit])}{unit}"
    milliseconds = exact * 1000
    return f"{int(milliseconds)}ms" if milliseconds % 1 == 0 else f"{exact:f}s"
