"""The bits of text that Prometheus' text formats are made of."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import inf

_NOT_FINITE = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def number(value: float) -> str:
    """A sample's value: the shortest text that reads back as the same float."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    return _NOT_FINITE.get(text, text)


def pairs(labels: Iterable[tuple[str, str]]) -> str:
    """``a="x",b="y"`` with the values escaped."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)


def braced(inner: str) -> str:
    """What stands between a sample's name and its value."""
    return f"{{{inner}}} " if inner else " "


def edge(value: float) -> str:
    """An ``le`` as OpenMetrics and Prometheus 3 write it: 1.0, 0.005, 1e+06, +Inf.

    Both formats use it, so that a bucket is the same series whichever is scraped.
    """
    if value == inf:
        return "+Inf"
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if exact and not -4 <= exponent < 6:
        return f"{exact.scaleb(-exponent):f}e{exponent:+03d}"
    text = f"{exact:f}"
    return text if "." in text else f"{text}.0"
