"""One engine's pages in engine-neutral words, as its adapter says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from inferometer.adapters.language import Adapter, Selector
from inferometer.model import EngineSignal, Histogram, Key, Page, Series

_INF = float("inf")
_ABSURD = 1e18


class _Use(NamedTuple):
    """What one series of the page is good for."""

    table: str
    key: Key
    rank: int
    scale: float
    copies: bool
    part: str
    edge: float


class Translator:
    """Turns the pages of one engine into signals. Not for several engines: it remembers the layout of the page.

    ``adapters``: the candidates; with more than one the page itself shows which it is.
    """

    def __init__(self, engine: str, adapters: Sequence[Adapter]) -> None:
        self.engine = engine
        self.adapters = adapters
        self._adapter: Adapter | None = None
        self._uses: dict[Series, tuple[_Use, ...]] = {}
        self._readers: dict[str, list[tuple[str, str, int, Selector]]] = {}

    def __call__(self, page: Page) -> EngineSignal:
        """The signal of a page; ``error`` says why there is none."""
        if page.error:
            return EngineSignal(self.engine, page.at, page.error, page.detail)
        found = [a for a in self.adapters if matches(a, page)]
        if len(found) != 1:
            return self._unrecognised(page, found)
        if found[0] is not self._adapter:
            self._adopt(found[0])
        return self._translate(found[0], page)

    def _unrecognised(self, page: Page, found: list[Adapter]) -> EngineSignal:
        if found:
            fits = ", ".join(adapter.engine for adapter in found)
            return EngineSignal(self.engine, page.at, "ambiguous_engine", f"{fits} all fit this page; set engine:")
        known = ", ".join(adapter.engine for adapter in self.adapters)
        detail = f"none of {known} is on this page; see what is with: inferometer explain URL"
        return EngineSignal(self.engine, page.at, "unknown_engine", detail)

    def _adopt(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._uses = {}
        self._readers = _readers(adapter)

    def _translate(self, adapter: Adapter, page: Page) -> EngineSignal:
        tables = _Tables(adapter.own)
        start, created = None, None
        for series, value in page.series:
            if not abs(value) < _ABSURD:  # NaN, infinities and garbage are no reading
                continue
            if series.name == adapter.process_start:
                start = value
            elif series.name in adapter.created:
                created = value if created is None else min(created, value)  # later ones are new label sets
            uses = self._uses.get(series)
            if uses is None:
                uses = self._uses[series] = self._plan(adapter, series)
            tables.take(series, value, uses)
        tables.settle_ranks()
        return EngineSignal(
            engine=self.engine,
            at=page.at,
            kind=adapter.engine,
            process_start=start,
            created=created,
            counters=tables.counters,
            histograms=tables.built(),
            gauges=tables.summed_gauges(),
            vital=tuple(tables.vital),
            missing=tuple(s for s in _signals(adapter) if s not in tables.ranks),
            traits=adapter.traits,
        )

    def _plan(self, adapter: Adapter, series: Series) -> tuple[_Use, ...]:
        if len(self._uses) > 100_000:  # labels that never repeat must not eat the memory
            self._uses.clear()
        labels = dict(series.labels)
        model = next((labels[name] for name in adapter.model if name in labels), "")
        uses = []
        for table, signal, rank, selector in self._readers.get(series.name, ()):
            if selector.accepts(labels):
                part = series.name.rpartition("_")[2] if table == "histograms" else ""
                rest = {k: v for k, v in labels.items() if k not in selector.copies and (k != "le" or not part)}
                base = series.name.removesuffix(f"_{part}") if part else series.name
                key = Key(signal, model, base + repr(sorted(rest.items())))
                edge = _edge(labels.get("le", "")) if part == "bucket" else _INF
                uses.append(_Use(table, key, rank, selector.scale, bool(selector.copies), part, edge))
        return tuple(uses)


class _Tables:
    """What has been read of one page so far."""

    def __init__(self, own: str) -> None:
        self.own = own
        self.counters: dict[Key, float] = {}
        self.gauges: dict[Key, float] = {}
        self.parts: dict[Key, dict[str, dict[float, float]]] = {}
        self.vital: list[float] = []
        self.ranks: dict[str, set[int]] = {}
        self._rank_of: dict[Key, int] = {}

    def take(self, series: Series, value: float, uses: tuple[_Use, ...]) -> None:
        if uses and series.name.startswith(self.own):
            self.vital.append(value)
        for use in uses:
            self.ranks.setdefault(use.key.signal, set()).add(use.rank)
            self._rank_of[use.key] = use.rank
            if use.table == "histograms":
                part = self.parts.setdefault(use.key, {}).setdefault(use.part, {})
                _put(part, use.edge * use.scale, value * use.scale if use.part == "sum" else value, copies=use.copies)
            else:
                table = self.counters if use.table == "counters" else self.gauges
                _put(table, use.key, value * use.scale, copies=use.copies)

    def settle_ranks(self) -> None:
        """Keep only the newest name of a signal where a page has several generations of it."""
        doubled = {signal: min(ranks) for signal, ranks in self.ranks.items() if len(ranks) > 1}
        if doubled:
            for table in (self.counters, self.gauges, self.parts):
                for key in [k for k in table if self._rank_of[k] > doubled.get(k.signal, self._rank_of[k])]:
                    del table[key]

    def summed_gauges(self) -> dict[tuple[str, str], float]:
        sums: dict[tuple[str, str], float] = {}
        for key, value in self.gauges.items():
            sums[key.signal, key.model] = sums.get((key.signal, key.model), 0.0) + value
        return sums

    def built(self) -> dict[Key, Histogram]:
        histograms = {key: _histogram(parts) for key, parts in self.parts.items()}
        return {key: histogram for key, histogram in histograms.items() if histogram is not None}


def matches(adapter: Adapter, page: Page) -> bool:
    """Whether the page is one of this engine."""
    return any(
        series.name in adapter.detect.any
        and (not adapter.detect.label or any(name == adapter.detect.label for name, _ in series.labels))
        for series, _ in page.series
    )


def _put(table: dict[Any, float], where: object, value: float, *, copies: bool) -> None:
    """Of copies the largest counts; a line that a page repeats counts once, as its last."""
    table[where] = max(value, table.get(where, value)) if copies else value


def _histogram(parts: dict[str, dict[float, float]]) -> Histogram | None:
    buckets = sorted(parts.get("bucket", {}).items())
    total = parts.get("count", {}).get(_INF, buckets[-1][1] if buckets else 0.0)
    if not buckets or buckets[-1][0] != _INF:
        buckets.append((_INF, total))
    counts = tuple(count for _, count in buckets)
    if any(later < earlier for earlier, later in pairwise(counts)):
        return None  # not cumulative: no histogram, whatever it calls itself
    return Histogram(tuple(edge for edge, _ in buckets), counts, parts.get("sum", {}).get(_INF, 0.0))


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return _INF


def _signals(adapter: Adapter) -> tuple[str, ...]:
    return (*adapter.counters, *adapter.histograms, *adapter.gauges)


def _readers(adapter: Adapter) -> dict[str, list[tuple[str, str, int, Selector]]]:
    readers: dict[str, list[tuple[str, str, int, Selector]]] = {}
    for table in ("counters", "histograms", "gauges"):
        for signal, alternatives in getattr(adapter, table).items():
            for rank, selector in enumerate(alternatives):
                suffixes = ("_bucket", "_sum", "_count") if table == "histograms" else ("",)
                for name in (base + suffix for base in selector.names for suffix in suffixes):
                    readers.setdefault(name, []).append((table, signal, rank, selector))
    return readers
