"""A page's layout made into a program: from the numbers of a page to its signal without looking at any name.

The layout of a page stays the same for hours while its numbers change every second. So names, labels and ranks are
looked at once, and what is left is a list of which number goes where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import le

from msgspec import Struct
from msgspec.structs import replace

from inferometer.adapters.language import Adapter
from inferometer.adapters.ranks import Ranks
from inferometer.adapters.uses import INF, PHASES, Use, Uses
from inferometer.model import EngineSignal, Key, Layout, Pick, Series, Shape, Sum, picked, summed

Numbers = tuple[float, ...]
_Doubts = list[tuple[list[int], list[int]]]
"""Places that have to have one value, and those of which nothing is known where they have not."""


class _HistogramAt(Struct, frozen=True):
    """Where the numbers of one histogram are: ``counts`` of its buckets, or of its ranges where it is not cumulative.

    ``is_open``: the page has no last bucket up to infinity, which is then the ``total``, if the page has that.
    """

    key: Key
    edges: tuple[float, ...]
    counts: Pick
    total: int | None
    sum: int
    is_cumulative: bool
    is_open: bool

    def read(self, numbers: Numbers) -> Numbers | None:
        """Its counts and its sum; None where its counts fall, so that it is none, whatever it calls itself."""
        counts = self.counts(numbers) if self.is_cumulative else tuple(accumulate(self.counts(numbers)))
        if self.is_open:
            counts = (*counts, counts[-1] if self.total is None else numbers[self.total])
        return (*counts, numbers[self.sum]) if all(map(le, counts, counts[1:])) else None


class Program:
    """Reads every page of one ``layout``; no value is absurd. ``ranks``: which of the names of a signal count.

    ``part``: the layout is what is left of a doubtful page. ``newest``: by signal the newest rank of its names on
    the page. ``waits``: one that counts is not on it.
    """

    def __init__(self, adapter: Adapter, layout: Layout, uses: Uses, ranks: Ranks, *, part: bool = False) -> None:
        self.adapter, self.layout = adapter, layout
        used = [uses.of(series) for series in layout]
        self.newest = _newest(used)
        self.best = ranks.of(self.newest) if part else ranks.see(self.newest)
        self.waits = self.best != self.newest
        numbers = _Numbers(len(layout))
        tables: dict[str, dict[Key, list[tuple[Use, int]]]] = {"counters": {}, "gauges": {}, "histograms": {}}
        for at, use in ((at, use) for at, found in enumerate(used) for use in found):
            if use.rank == self.best[use.key.signal]:
                tables[use.table].setdefault(use.key, []).append((use, at))
        self._repeated = _repeated(tables) + _stamped_twice(adapter, layout)
        self._counted = picked([numbers.one(series) for series in tables["counters"].values()])
        self._gauges = _gauges(tables["gauges"], numbers)
        histograms = (_histogram(key, parts, numbers) for key, parts in tables["histograms"].items())
        self._histograms = [one for one in histograms if one is not None]
        self._shape = Shape.of(tables["counters"], ((one.key, one.edges) for one in self._histograms))
        self._start, self._created, vital = _life(adapter, layout, used)
        self._vital = picked(vital)
        self._numbers = numbers
        self._signal = EngineSignal(
            "",
            0.0,
            kind=adapter.engine,
            phase_groups=len({use.part for found in used for use in found if use.key.signal in PHASES}),
            missing=tuple(s for s in (*adapter.counters, *adapter.histograms, *adapter.gauges) if s not in self.newest),
            traits=replace(adapter.traits, cached_in_prompt=_includes_cached(adapter, ranks)),
        )

    @property
    def knows_start(self) -> bool:
        """Whether the page says when the process started."""
        return self._start is not None

    @property
    def creations(self) -> int:
        """How many series tell when they were made."""
        return len(self._created)

    def contradicted(self, values: Numbers) -> set[int]:
        """The places of series of which a page shows two values: nothing is known of their signals."""
        return {at for same, doubtful in self._repeated if len({values[at] for at in same}) > 1 for at in doubtful}

    def run(self, engine: str, at: float, values: Numbers) -> EngineSignal:
        """What a page says."""
        numbers, always = self._numbers.of(values), self._signal
        observed = [one.read(numbers) for one in self._histograms]
        sound = [one for one in observed if one is not None]
        return EngineSignal(
            engine=engine,
            at=at,
            kind=always.kind,
            process_start=None if self._start is None else values[self._start],
            created=min(map(values.__getitem__, self._created)) if self._created else None,
            shape=self._shape if len(sound) == len(observed) else self._shape_with(observed),
            numbers=tuple(chain(self._counted(numbers), *sound)),
            gauges={where: added(numbers) for where, added in self._gauges},
            vital=(float(hash(self._vital(values))),),  # kept with the engine's state, so that it must be short
            phase_groups=always.phase_groups,
            missing=always.missing,
            traits=always.traits,
        )

    def _shape_with(self, observed: Iterable[Numbers | None]) -> Shape:
        """The shape of a page of which not all histograms are some."""
        found = zip(self._shape.histograms, observed, strict=True)
        return Shape.of(self._shape.counters, (histogram for histogram, numbers in found if numbers is not None))


class _Numbers:
    """The values of a page, zero, and what is the largest of several values or in another unit."""

    def __init__(self, values: int) -> None:
        self.zero = values
        self._made: list[tuple[tuple[int, ...], float]] = []

    def one(self, series: Sequence[tuple[Use, int]]) -> int:
        """The place of the one number that these are: of copies the largest, of repeated lines the last."""
        use = series[-1][0]
        places = tuple(at for _, at in series) if use.copies else (series[-1][1],)
        if len(places) == 1 and use.scale == 1:
            return places[0]
        self._made.append((places, use.scale))
        return self.zero + len(self._made)

    def of(self, values: Numbers) -> Numbers:
        """All numbers of a page."""
        made = (max(map(values.__getitem__, places)) * scale for places, scale in self._made)
        return (*values, 0.0, *made)


def _newest(used: Iterable[Iterable[Use]]) -> dict[str, int]:
    """By signal, the newest of its names that the page has."""
    newest: dict[str, int] = {}
    for use in (use for found in used for use in found):
        newest[use.key.signal] = min(use.rank, newest.get(use.key.signal, use.rank))
    return newest


def _repeated(tables: Mapping[str, Mapping[Key, list[tuple[Use, int]]]]) -> _Doubts:
    """The places of what is on the page more than once and should not be, and all places of their signals."""
    doubts: _Doubts = []
    for series in (series for table in tables.values() for series in table.values()):
        places: dict[tuple[str, float], list[int]] = {}
        for use, at in series:
            if not use.copies:
                places.setdefault((use.part, use.edge), []).append(at)
        doubts += [(same, [at for _, at in series]) for same in places.values() if len(same) > 1]
    return doubts


def _stamped_twice(adapter: Adapter, layout: Layout) -> _Doubts:
    """Likewise of what says when the process began: one process has one start, a label set was made once."""
    places: dict[str | Series, list[int]] = {}
    for at, series in enumerate(layout):
        if series.name == adapter.process_start:
            places.setdefault(series.name, []).append(at)
        elif series.name in adapter.created:
            places.setdefault(series, []).append(at)
    return [(same, same) for same in places.values() if len(same) > 1]


def _gauges(table: dict[Key, list[tuple[Use, int]]], numbers: _Numbers) -> list[tuple[tuple[str, str], Sum]]:
    """Gauges are added up over the series of a model."""
    sums: dict[tuple[str, str], list[int]] = {}
    for key, series in table.items():
        sums.setdefault((key.signal, key.model), []).append(numbers.one(series))
    return [(where, summed(places)) for where, places in sums.items()]


def _histogram(key: Key, parts: list[tuple[Use, int]], numbers: _Numbers) -> _HistogramAt | None:
    """None where its last bucket and its total are missing: lines are, or were no numbers."""
    by_part: dict[str, dict[float, list[tuple[Use, int]]]] = {}
    for use, at in parts:
        by_part.setdefault(use.part, {}).setdefault(use.edge, []).append((use, at))
    buckets, ranges = by_part.get("bucket", {}), by_part.get("range", {})
    selector = parts[0][0].selector
    places = {edge * selector.scale: numbers.zero for edge in selector.edges}  # the layout must not depend on what
    places |= {edge: numbers.one(series) for edge, series in (buckets or ranges).items()}  # happened
    edges = sorted(places)
    is_open = not edges or edges[-1] != INF
    total = by_part.get("count", {}).get(INF)
    if buckets and INF not in buckets and not total:
        return None
    total_sum = by_part.get("sum", {}).get(INF)
    return _HistogramAt(
        key,
        edges=tuple(edges) + (INF,) * is_open,
        counts=picked([places[edge] for edge in edges]),
        total=numbers.one(total) if total else None if edges else numbers.zero,
        sum=numbers.one(total_sum) if total_sum else numbers.zero,
        is_cumulative=bool(buckets) or not ranges,
        is_open=is_open,
    )


def _life(
    adapter: Adapter, layout: Layout, used: Sequence[tuple[Use, ...]]
) -> tuple[int | None, tuple[int, ...], list[int]]:
    """Where it says when the process started and when its counters were made, and what moves while it works."""
    start, created, vital = None, [], []
    for at, series in enumerate(layout):
        if series.name == adapter.process_start:
            start = at
        elif series.name in adapter.created:
            created.append(at)  # the earliest counts: later ones are new label sets
        elif series.name in adapter.pulse:
            vital.append(at)
        if used[at] and series.name.startswith(adapter.own):
            vital.append(at)
    return start, tuple(created), vital


def _includes_cached(adapter: Adapter, ranks: Ranks) -> bool:
    """Whether the prompt tokens, by the name that the engine has for them, include the cached ones."""
    names = adapter.counters.get("prompt_tokens", ())
    rank = ranks.known("prompt_tokens") or 0
    return bool(names) and names[rank].includes_cached
