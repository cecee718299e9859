"""Kinds of single values: what each accepts, how a fault, the documentation and the JSON schema call it."""

from __future__ import annotations

import math
import re
from typing import Any

from msgspec import Struct

from inferometer.config import durations, zones
from inferometer.config.faults import Faults, near
from inferometer.config.node import Node, Path

Json = dict[str, Any]
_MANY = 8  # words of a choice that still fit a sentence


class Kind(Struct, frozen=True):
    """A kind of value; each says how it is decoded, and how faults, documentation, schema and dump show it."""

    @property
    def noun(self) -> str:
        """What it is, as in "must be …"."""
        return self._noun()

    def schema(self) -> Json:
        """The JSON schema of a literal value."""
        return self._schema()

    def show(self, value: Any) -> Any:
        """The value as YAML writes it."""
        return self._show(value)

    def decode(self, node: Node, path: Path, faults: Faults) -> Any:
        """The value, or None after noting a fault."""
        faults.place(path, node.origin)
        if node.form == "null":
            faults.add(path, "has no value; give one, or remove the key")
        return None if node.form in {"null", "unset"} else self._decode(node, path, faults)

    def refusal(self, node: Node) -> str:
        """The plainest fault: what it is, what it must be."""
        return f"is {node.shown}; must be {self.noun}"

    def _noun(self) -> str:
        raise NotImplementedError

    def _schema(self) -> Json:
        raise NotImplementedError

    def _show(self, value: Any) -> Any:
        return value

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        raise NotImplementedError


class Scalar(Kind, frozen=True):
    """A single value."""

    def read(self, node: Node) -> Any:
        """The value, or ValueError with the rest of the fault's sentence."""
        text = node.value
        if isinstance(text, str):
            return self._read(text, node)
        raise ValueError(self.refusal(node))

    def _read(self, text: str, node: Node) -> Any:
        raise NotImplementedError

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        try:
            return self.read(node)
        except ValueError as error:
            faults.add(path, str(error))
            return None


class Text(Scalar, frozen=True):
    """Words; ``pattern`` is what they must match from end to end, ``means`` says that in words."""

    means: str = "text"
    pattern: str = r".*\S.*"

    def _noun(self) -> str:
        return self.means

    def _read(self, text: str, node: Node) -> Any:
        if not text:
            raise ValueError(f"is empty; must be {self.noun}")
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.refusal(node))
        if node.form in {"number", "switch"}:
            raise ValueError(f"{self.refusal(node)}, so put it in quotes")
        return text

    def _schema(self) -> Json:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


class Choice(Scalar, frozen=True):
    """One of a few words."""

    words: tuple[str, ...]

    def _noun(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def _read(self, text: str, node: Node) -> Any:
        if text not in self.words:
            guess = near(text, self.words) if len(self.words) > _MANY else ""
            raise ValueError(f"is {node.shown}; did you mean {guess}?" if guess else self.refusal(node))
        return text

    def _schema(self) -> Json:
        return {"enum": list(self.words)}


class Switch(Scalar, frozen=True):
    """True or false."""

    def _noun(self) -> str:
        return "true or false"

    def _read(self, text: str, node: Node) -> Any:
        word = text.lower()
        if node.form == "text" or word not in {"true", "false"}:
            raise ValueError(self.refusal(node))
        return word == "true"

    def _schema(self) -> Json:
        return {"type": "boolean"}


class Number(Scalar, frozen=True):
    """A finite number; ``low`` and ``high`` belong to the range, ``above`` and ``below`` do not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False

    def _noun(self) -> str:
        bounds = (("of at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below))
        limits = " and ".join(f"{words} {limit:g}" for words, limit in bounds if limit is not None)
        return f"a {'whole ' if self.whole else ''}number {limits}".rstrip()

    def _read(self, text: str, node: Node) -> Any:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(self.refusal(node)) from None
        if node.form not in {"number", "open"}:
            raise ValueError(f"is '{node.value}', which is text; remove the quotes")
        if not math.isfinite(value) or not self._holds(value):
            raise ValueError(self.refusal(node))
        return int(value) if self.whole else value

    def _holds(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (not self.whole or value.is_integer())
        )

    def _schema(self) -> Json:
        keys = ("minimum", self.low), ("maximum", self.high)
        open_keys = ("exclusiveMinimum", self.above), ("exclusiveMaximum", self.below)
        limits = {key: plain(limit) for key, limit in (*keys, *open_keys) if limit is not None}
        return {"type": "integer" if self.whole else "number"} | limits

    def _show(self, value: Any) -> Any:
        return plain(value)


class Duration(Scalar, frozen=True):
    """A stretch of time with its unit, in seconds once read."""

    low: float = 0.0

    def _noun(self) -> str:
        least = f"of at least {durations.text(self.low)}" if self.low else "above 0"
        return f"a duration {least}, e.g. 5s"

    def _read(self, text: str, node: Node) -> Any:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            shown = node.written or text
            raise ValueError(f"is {node.shown}; needs a unit, e.g. {shown}ms or {shown}s")
        value = durations.seconds(text)
        if value is None or value <= 0 or value < self.low or not math.isfinite(value):
            raise ValueError(self.refusal(node))
        return value

    def _schema(self) -> Json:
        return {"type": "string", "pattern": durations.PATTERN}

    def _show(self, value: Any) -> Any:
        return durations.text(value)


class Zone(Scalar, frozen=True):
    """The name of a timezone."""

    def _noun(self) -> str:
        return "a timezone, e.g. UTC or Europe/Berlin"

    def _read(self, text: str, node: Node) -> Any:
        if problem := zones.problem(text):
            raise ValueError(f"is {node.shown}{problem}")
        return text

    def _schema(self) -> Json:
        return {"type": "string"}


def plain(value: float) -> float:
    """Whole numbers without a decimal point."""
    return int(value) if float(value).is_integer() else value
