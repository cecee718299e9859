"""A metrics page as text: scalar families, histograms, and the way prometheus-client prints their numbers."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from inferometer.sim.families import Family


def number(value: float) -> str:
    """A value as prometheus-client prints it: 98.0, 1.5, 2.578583552e+09, +Inf."""
    if value == float("inf"):
        return "+Inf"
    text = repr(float(value))
    dot = text.find(".")
    if value > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


def _braces(labels: dict[str, str]) -> str:
    inside = ",".join(f'{name}="{labels[name]}"' for name in sorted(labels))
    return f"{{{inside}}}" if inside else ""


def _head(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


class Scalar:
    """A counter or gauge with one value per set of ``owner`` labels and its family's own label."""

    def __init__(self, family: Family, owner: dict[str, str], created: float) -> None:
        counter = family.kind == "counter"
        self._owner = owner
        self._created = created if counter and not family.name.startswith("process_") else None
        name = family.name if self._created is None else f"{family.name}_total"
        self._name, self._created_name = name, f"{family.name}_created"
        self._head = _head(name, family.text, family.kind)
        self._created_text = _head(self._created_name, family.text, "gauge") if self._created is not None else ""
        self.values: dict[str, float] = {}
        self._prefixes: dict[str, str] = {}
        for value in family.values:
            self.open(value, {family.label: value} if family.label else {}, created)

    def open(self, key: str, labels: dict[str, str], created: float) -> None:
        """Begin a series at 0 under ``key``."""
        braces = _braces(self._owner | labels)
        self.values[key] = 0.0
        self._prefixes[key] = f"{self._name}{braces} "
        if self._created is not None:
            self._created_text += f"{self._created_name}{braces} {number(created)}\n"

    def add(self, amount: float, key: str = "") -> None:
        """Count ``amount`` more."""
        self.values[key] += amount

    def set(self, value: float, key: str = "") -> None:
        """Set a gauge."""
        self.values[key] = value

    def render(self) -> str:
        """The family's lines; nothing while it has no series."""
        if not self.values:
            return ""
        lines = "".join([f"{self._prefixes[key]}{number(value)}\n" for key, value in self.values.items()])
        return self._head + lines + self._created_text


class Histogram:
    """A histogram with one label set."""

    def __init__(self, family: Family, owner: dict[str, str], created: float) -> None:
        name, braces = family.name, _braces(owner)
        self.edges = family.edges
        self.counts = [0] * (len(self.edges) + 1)
        self.sum = 0.0
        self._head = _head(name, family.text, "histogram")
        self._prefixes = [f"{name}_bucket{_braces(owner | {'le': number(e)})} " for e in (*self.edges, float("inf"))]
        self._total, self._sum = f"{name}_count{braces} ", f"{name}_sum{braces} "
        self._tail = _head(f"{name}_created", family.text, "gauge") + f"{name}_created{braces} {number(created)}\n"
        self._text = ""

    def observe(self, value: float) -> None:
        """Count one observation; an edge belongs to the bucket below it."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value
        self._text = ""

    @property
    def count(self) -> int:
        """Observations in all buckets."""
        return sum(self.counts)

    def render(self) -> str:
        """The family's lines; kept until the next observation."""
        if not self._text:
            running = list(accumulate(self.counts))
            buckets = "".join([f"{p}{number(c)}\n" for p, c in zip(self._prefixes, running, strict=True)])
            ends = f"{self._total}{number(running[-1])}\n{self._sum}{number(self.sum)}\n"
            self._text = self._head + buckets + ends + self._tail
        return self._text
