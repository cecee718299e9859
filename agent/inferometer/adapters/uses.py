"""What one series of a page is good for, as an adapter says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from inferometer.adapters.language import PARTS, Adapter, Selector
from inferometer.adapters.models import Models
from inferometer.adapters.tenants import Tenants
from inferometer.model import Key, Series

INF = float("inf")
PHASES = ("prefill_seconds", "decode_seconds")
_RANGE = re.compile(r"[0-9.]+-([0-9.]+)(?:ms|s|)")
_LABELS_LENGTH = 4_096
_KNOWN = 50_000


class Use(NamedTuple):
    """One series as part of a signal: ``rank`` 0 is the signal's newest name.

    ``part``: of a histogram its bucket, range, sum or count, and of the phases' seconds the group of GPUs; ``edge``:
    where a bucket or range ends, in seconds. ``copies``: the largest of the series with the same key counts.
    """

    table: str
    key: Key
    rank: int
    scale: float
    copies: bool
    part: str
    edge: float
    selector: Selector


class Uses:
    """Says it of every series, by one adapter. ``tenants``: who asked; ``models``: what models are called."""

    def __init__(self, adapter: Adapter, tenants: Tenants | None, models: Models) -> None:
        self.adapter, self._tenants, self._models = adapter, tenants, models
        self._readers = _readers(adapter)
        self._known: dict[Series, tuple[Use, ...]] = {}

    def of(self, series: Series) -> tuple[Use, ...]:
        """All that it is good for; a series may be part of several signals."""
        known = self._known.get(series)
        if known is None:
            if len(self._known) >= _KNOWN:  # labels that never repeat must not eat the memory
                self._known.clear()
            known = self._known[series] = tuple(self._found(series))
        return known

    def _found(self, series: Series) -> Iterator[Use]:
        if series.name not in self._readers:
            return
        labels = dict(series.labels)
        model = self._models.of(next((labels[name] for name in self.adapter.model if name in labels), ""))
        tenant = self._tenants.of(labels) if self._tenants is not None else ""
        for table, signal, rank, selector in self._readers[series.name]:
            if not selector.accepts(labels):
                continue
            base, part, edge, label = _place(table, selector, series.name, labels)
            rest = {k: v for k, v in labels.items() if k not in selector.copies and k != label}
            if signal in PHASES:
                part = repr(sorted((k, v) for k, v in rest.items() if k not in {*selector.where, *selector.unless}))
            key = Key(signal, model, base + _spelled(sorted(rest.items())), tenant)
            scale = 1.0 if part in {"bucket", "count", "range"} else selector.scale
            yield Use(table, key, rank, scale, bool(selector.copies), part, edge * selector.scale, selector)


def _place(table: str, selector: Selector, name: str, labels: dict[str, str]) -> tuple[str, str, float, str]:
    """Base name, part and edge of a series, and the label that tells the edge."""
    if table != "histograms":
        return name, "", INF, ""
    if selector.ranges:
        return name, "range", _range_end(labels.get(selector.ranges, "")), selector.ranges
    base, _, part = name.rpartition("_")
    return base, part, _edge(labels.get("le", "")) if part == "bucket" else INF, "le"


def _range_end(text: str) -> float:
    """The upper end of ``200-500ms``; infinite for ``5000ms+``."""
    end = _RANGE.fullmatch(text)
    return float(end[1]) if end else INF


def _edge(text: str) -> float:
    try:
        edge = float(text)
    except ValueError:
        return INF
    return edge if edge == edge else INF  # noqa: PLR0124 - NaN is no edge


def _spelled(labels: list[tuple[str, str]]) -> str:
    """The label set as text; of a very long one a digest, since it is kept with the engine's state."""
    text = repr(labels)
    if len(text) <= _LABELS_LENGTH:
        return text
    return f"[{hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=16).hexdigest()}]"


def _readers(adapter: Adapter) -> dict[str, list[tuple[str, str, int, Selector]]]:
    readers: dict[str, list[tuple[str, str, int, Selector]]] = {}
    for table in ("counters", "histograms", "gauges"):
        for signal, alternatives in getattr(adapter, table).items():
            for rank, selector in enumerate(alternatives):
                suffixes = PARTS if table == "histograms" and not selector.ranges else ("",)
                for name in (base + suffix for base in selector.names for suffix in suffixes):
                    readers.setdefault(name, []).append((table, signal, rank, selector))
    return readers
