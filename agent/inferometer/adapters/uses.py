"""What one series of a page is good for, as an adapter says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakValueDictionary

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


_Readers = dict[str, list[tuple[str, str, int, Selector]]]


class _Found:
    """What one adapter found for one set of tenants and models. Holds these, so that nothing else gets their ids."""

    def __init__(self, adapter: Adapter, tenants: Tenants | None, models: Models) -> None:
        self.readers, self.uses = _readers(adapter), dict[Series, tuple[Use, ...]]()
        self._by = (adapter, tenants, models)


_shared: WeakValueDictionary[tuple[int, int, int], _Found] = WeakValueDictionary()


class Uses:
    """Says it of every series, by one adapter. ``tenants``: who asked; ``models``: what models are called.

    Engines of one workload and adapter share what is found: a thousand of them show the same hundred series.
    """

    def __init__(self, adapter: Adapter, tenants: Tenants | None, models: Models) -> None:
        self.adapter, self._tenants, self._models = adapter, tenants, models
        self._found = _found(adapter, tenants, models)

    def of(self, series: Series) -> tuple[Use, ...]:
        """All that it is good for; a series may be part of several signals."""
        uses = self._found.uses
        known = uses.get(series)
        if known is None:
            if len(uses) >= _KNOWN:  # labels that never repeat must not eat the memory
                uses.clear()
            known = uses[series] = tuple(self._find(series))
        return known

    def _find(self, series: Series) -> Iterator[Use]:
        readers = self._found.readers.get(series.name)
        if readers is None:
            return
        labels = dict(series.labels)
        model = self._models.of(next((labels[name] for name in self.adapter.model if name in labels), ""))
        tenant = self._tenants.of(labels) if self._tenants is not None else ""
        for table, signal, rank, selector in readers:
            if not selector.accepts(labels):
                continue
            base, part, edge, label = _place(table, selector, series.name, labels)
            rest = {k: v for k, v in labels.items() if k not in selector.copies and k != label}
            if signal in PHASES:
                part = repr(sorted((k, v) for k, v in rest.items() if k not in {*selector.where, *selector.unless}))
            key = Key(signal, model, base + _spelled(sorted(rest.items())), tenant)
            scale = 1.0 if part in {"bucket", "count", "range"} else selector.scale
            yield Use(table, key, rank, scale, bool(selector.copies), part, edge * selector.scale, selector)


def _found(adapter: Adapter, tenants: Tenants | None, models: Models) -> _Found:
    """The one for these, for as long as anybody has it."""
    ids = (id(adapter), id(tenants), id(models))
    found = _shared.get(ids)
    if found is None:
        found = _shared[ids] = _Found(adapter, tenants, models)
    return found


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


def _readers(adapter: Adapter) -> _Readers:
    readers: _Readers = {}
    for table in ("counters", "histograms", "gauges"):
        for signal, alternatives in getattr(adapter, table).items():
            for rank, selector in enumerate(alternatives):
                suffixes = PARTS if table == "histograms" and not selector.ranges else ("",)
                for name in (base + suffix for base in selector.names for suffix in suffixes):
                    readers.setdefault(name, []).append((table, signal, rank, selector))
    return readers
