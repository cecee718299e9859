"""One engine's pages in engine-neutral words, as its adapter says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from msgspec.structs import replace

from inferometer.adapters.language import PARTS, Adapter, Selector
from inferometer.adapters.tenants import Tenants
from inferometer.model import EngineSignal, Histogram, Key, Page, Series

_INF = float("inf")
_RANGE = re.compile(r"[0-9.]+-([0-9.]+)(?:ms|s|)")
_ABSURD = 2.0**53  # from here on a counter cannot count by one
_MISSED_PAGES = 10
_PHASES = ("prefill_seconds", "decode_seconds")


class _Use(NamedTuple):
    """What one series of the page is good for."""

    table: str
    key: Key
    rank: int
    scale: float
    copies: bool
    part: str
    edge: float
    edges: tuple[float, ...]


class Translator:
    """Turns the pages of one engine into signals. Not for several engines: it remembers the layout of the page.

    ``adapters``: the candidates; with more than one the page itself shows which it is. ``tenants``: who asked.
    """

    def __init__(self, engine: str, adapters: Sequence[Adapter], tenants: Tenants | None = None) -> None:
        self.engine = engine
        self.adapters = adapters
        self.tenants = tenants
        self._adapter: Adapter | None = None
        self._uses: dict[Series, tuple[_Use, ...]] = {}
        self._readers: dict[str, list[tuple[str, str, int, Selector]]] = {}
        self._names: dict[str, tuple[int, int]] = {}
        self._cached_in_prompt = False

    def made_as(self, other: Translator) -> bool:
        """Whether both do the same with the pages of the same engine."""
        ours, theirs = (one.tenants.settings if one.tenants is not None else None for one in (self, other))
        return self.adapters == other.adapters and ours == theirs

    def __call__(self, page: Page) -> EngineSignal:
        """The signal of a page; ``error`` says why there is none."""
        if page.error:
            return EngineSignal(self.engine, page.at, page.error, page.detail)
        adapter = self._adapter
        if adapter is None or adapter.detect.yields_to or not matches(adapter, page):
            found = recognised(self.adapters, page)
            if len(found) != 1:
                return self._unrecognised(page, found)
            adapter = found[0]
            if adapter is not self._adapter:
                self._adopt(adapter)
        return self._translate(adapter, page)

    def _unrecognised(self, page: Page, found: list[Adapter]) -> EngineSignal:
        if found:
            fits = ", ".join(adapter.engine for adapter in found)
            return EngineSignal(self.engine, page.at, "ambiguous_engine", f"{fits} all fit this page; set engine:")
        names = ", ".join(dict.fromkeys(series.name for series, _ in page.series[:3])) or "nothing of any known engine"
        detail = f"no known engine has this page ({names}); see: inferometer explain URL"
        return EngineSignal(self.engine, page.at, "unknown_engine", detail)

    def _adopt(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._uses, self._names = {}, {}
        self._cached_in_prompt = any(one.includes_cached for one in adapter.counters.get("prompt_tokens", ())[:1])
        self._readers = _readers(adapter)

    def _translate(self, adapter: Adapter, page: Page) -> EngineSignal:
        tables, pulse = _Tables(adapter.own), adapter.pulse
        start: float | None = None
        births: dict[Series, float] = {}
        for series, value in page.series:
            if not 0 <= value < _ABSURD:  # NaN, infinities and garbage are no reading
                continue
            if series.name == adapter.process_start:
                start = value if start in (None, value) else -1.0
            elif series.name in adapter.created:
                if births.setdefault(series, value) != value:
                    births[series] = -1.0
            elif series.name in pulse:
                tables.vital.append(value)
            uses = self._uses.get(series)
            if uses is None:
                uses = self._uses[series] = self._plan(adapter, series)
            tables.take(series, value, uses)
        # Later creations are of new label sets; of what a page says in two ways nothing is known.
        created = min((born for born in births.values() if born >= 0), default=None)
        start = None if start == -1.0 else start
        tables.settle_ranks(self._names)
        if "prompt_tokens" in self._names:
            rank, _ = self._names["prompt_tokens"]
            self._cached_in_prompt = adapter.counters["prompt_tokens"][rank].includes_cached
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
            phase_groups=len(tables.phase_groups),
            missing=tuple(s for s in _signals(adapter) if s not in tables.ranks),
            traits=replace(adapter.traits, cached_in_prompt=self._cached_in_prompt),
        )

    def _plan(self, adapter: Adapter, series: Series) -> tuple[_Use, ...]:
        if len(self._uses) > 100_000:  # labels that never repeat must not eat the memory
            self._uses.clear()
        labels = dict(series.labels)
        model = next((labels[name] for name in adapter.model if name in labels), "")
        tenant = self.tenants.of(labels) if self.tenants is not None else ""
        uses = []
        for table, signal, rank, selector in self._readers.get(series.name, ()):
            if not selector.accepts(labels):
                continue
            base, part, edge, label = series.name, "", _INF, ""
            if table == "histograms" and selector.ranges:
                part, label, edge = "range", selector.ranges, _range_end(labels.get(selector.ranges, ""))
            elif table == "histograms":
                base, _, part = series.name.rpartition("_")
                label, edge = "le", _edge(labels.get("le", "")) if part == "bucket" else _INF
            rest = {k: v for k, v in labels.items() if k not in selector.copies and k != label}
            if signal in _PHASES:
                part = repr(sorted((k, v) for k, v in rest.items() if k not in {*selector.where, *selector.unless}))
            key = Key(signal, model, base + repr(sorted(rest.items())), tenant)
            uses.append(_Use(table, key, rank, selector.scale, bool(selector.copies), part, edge, selector.edges))
        return tuple(uses)


class _Tables:
    """What has been read of one page so far."""

    def __init__(self, own: tuple[str, ...]) -> None:
        self.own = own
        self.counters: dict[Key, float] = {}
        self.gauges: dict[Key, float] = {}
        self.parts: dict[Key, dict[str, dict[float, float]]] = {}
        self.vital: list[float] = []
        self.ranks: dict[str, set[int]] = {}
        self.phase_groups: set[str] = set()
        self._rank_of: dict[Key, int] = {}
        self._contradicted: set[Key] = set()

    def take(self, series: Series, value: float, uses: tuple[_Use, ...]) -> None:
        if uses and series.name.startswith(self.own):
            self.vital.append(value)
        for use in uses:
            self.ranks.setdefault(use.key.signal, set()).add(use.rank)
            self._rank_of[use.key] = use.rank
            if use.key.signal in _PHASES:
                self.phase_groups.add(use.part)
            if use.table == "histograms":
                empty = {edge * use.scale: 0.0 for edge in use.edges}  # the layout must not depend on what happened
                part = self.parts.setdefault(use.key, {}).setdefault(use.part, empty)
                amount = value * use.scale if use.part == "sum" else value
                self._put(part, use.edge * use.scale, amount, use, is_new=use.edge * use.scale not in part or use.edges)
            else:
                table = self.counters if use.table == "counters" else self.gauges
                self._put(table, use.key, value * use.scale, use, is_new=use.key not in table)

    def _put(self, table: dict[Any, float], where: object, value: float, use: _Use, *, is_new: object) -> None:
        """Of copies the largest counts; of a series that a page shows twice with two values nothing is known."""
        if use.copies:
            table[where] = max(value, table.get(where, value))
            return
        if not is_new and table[where] != value:
            self._contradicted.add(use.key)
        table[where] = value

    def settle_ranks(self, names: dict[str, tuple[int, int]]) -> None:
        """Keep only the newest name of a signal where a page has several generations of it; and what is no doubt.

        ``names``: by signal the rank of the name that the engine has, and on how many pages in a row only older ones
        were: that a page leaves out a name is no reason to read another.
        """
        older = {}
        for signal, ranks in self.ranks.items():
            rank, missed = names.get(signal, (min(ranks), 0))
            missed = missed + 1 if min(ranks) > rank else 0
            if min(ranks) < rank or missed > _MISSED_PAGES:
                rank, missed = min(ranks), 0
            names[signal] = rank, missed
            if max(ranks) > rank:
                older[signal] = rank
        if older:
            for table in (self.counters, self.gauges, self.parts):
                for key in [k for k in table if self._rank_of[k] > older.get(k.signal, self._rank_of[k])]:
                    del table[key]
        for key in self._contradicted:
            for table in (self.counters, self.gauges, self.parts):
                table.pop(key, None)

    def summed_gauges(self) -> dict[tuple[str, str], float]:
        sums: dict[tuple[str, str], float] = {}
        for key, value in self.gauges.items():
            sums[key.signal, key.model] = sums.get((key.signal, key.model), 0.0) + value
        return sums

    def built(self) -> dict[Key, Histogram]:
        histograms = {key: _histogram(parts) for key, parts in self.parts.items()}
        return {key: histogram for key, histogram in histograms.items() if histogram is not None}


def matches(adapter: Adapter, page: Page) -> bool:
    """Whether the page shows this engine, among others perhaps."""
    return any(adapter.detect.shown_by(series) for series, _ in page.series)


def recognised(adapters: Iterable[Adapter], page: Page) -> list[Adapter]:
    """The engines that the page is of: one, or none, or several that it cannot tell apart."""
    shown = [adapter for adapter in adapters if matches(adapter, page)]
    names = {adapter.engine for adapter in shown}
    return [adapter for adapter in shown if names.isdisjoint(adapter.detect.yields_to)]


def _histogram(parts: dict[str, dict[float, float]]) -> Histogram | None:
    buckets = sorted(parts.get("bucket", {}).items()) or _cumulated(parts.get("range", {}))
    if "bucket" in parts and _INF not in parts["bucket"] and "count" not in parts:
        return None  # lines are missing or no numbers: its total is not known
    total = parts.get("count", {}).get(_INF, buckets[-1][1] if buckets else 0.0)
    if not buckets or buckets[-1][0] != _INF:
        buckets.append((_INF, total))
    counts = tuple(count for _, count in buckets)
    if any(later < earlier for earlier, later in pairwise(counts)):
        return None  # not cumulative: no histogram, whatever it calls itself
    return Histogram(tuple(edge for edge, _ in buckets), counts, parts.get("sum", {}).get(_INF, 0.0))


def _cumulated(ranges: dict[float, float]) -> list[tuple[float, float]]:
    """Counts per range as counts up to each range's end."""
    edges = sorted(ranges)
    return list(zip(edges, accumulate(ranges[edge] for edge in edges), strict=True))


def _range_end(text: str) -> float:
    """The upper end of ``200-500ms``; infinite for ``5000ms+``."""
    end = _RANGE.fullmatch(text)
    return float(end[1]) if end else _INF


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
                suffixes = PARTS if table == "histograms" and not selector.ranges else ("",)
                for name in (base + suffix for base in selector.names for suffix in suffixes):
                    readers.setdefault(name, []).append((table, signal, rank, selector))
    return readers
