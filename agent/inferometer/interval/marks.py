"""The last reading of every series of one process, and what changed since (design §7, restart)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from operator import ge, le, sub
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

from inferometer.interval.places import FALLS_MEAN_RESTART, SignalOfModel, places
from inferometer.model import NO_SERIES, EngineSignal, Histogram, Key, Shape

_RESTART_SECONDS = 1.0
_MISSED_PAGES = 10
_FINISHED = ("finished_ok", "finished_error", "finished_aborted")
_EXPLAINED = frozenset({"parents_finished", "rejected"})
_Value = TypeVar("_Value")


class Change(Struct):
    """What moved between two readings, summed over the raw series of a signal; ``tenants``: by signal and tenant.

    ``whole``: the page has as many series as those before it. Of one that is missing a later page tells.
    ``renamed``: models that go on where others were.
    """

    counters: dict[SignalOfModel, float] = field(default_factory=dict)
    tenants: dict[SignalOfModel, float] = field(default_factory=dict)
    histograms: dict[SignalOfModel, Histogram] = field(default_factory=dict)
    whole: bool = True
    renamed: set[str] = field(default_factory=set)


class Marks(Struct, dict=True, omit_defaults=True):
    """Raw values at the last reading, and per signal and model the level since the process started.

    ``numbers`` are those of the series in ``shape``; ``counters`` and ``histograms`` are the others: those that are
    followed and were not on the page, or all of them before the first page. The shape is not kept with the rest.
    ``births``: when the process of the last page began, by the name of what says so; ``newest``: of all processes.
    ``blind``: series were left out of the page that was its baseline, so that one that comes in later may be old.
    ``width``: how many series a whole page has; ``shorter``: how many pages in a row had fewer.
    """

    births: dict[str, float] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)
    counters: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    levels: dict[SignalOfModel, float] = field(default_factory=dict)
    blind: bool = False
    width: int = 0
    shorter: int = 0
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Of no series yet."""
        self.shape: Shape = NO_SERIES

    @property
    def size(self) -> int:
        """How many series are followed; a histogram is one."""
        return len(self.shape) + len(self.counters) + len(self.histograms)

    def followed(self) -> Iterator[Key]:
        """All series that are followed."""
        yield from self.shape.counters
        yield from (key for key, _ in self.shape.histograms)
        yield from self.counters
        yield from self.histograms

    def spell_out(self, shape: Shape | None = None) -> None:
        """Go over to ``counters`` and ``histograms`` alone: these are whole without a shape, or ``shape``.

        ValueError where the numbers are not of that shape.
        """
        counters, histograms = (self.shape if shape is None else shape).series(self.numbers)
        self.counters, self.histograms = self.counters | counters, self.histograms | histograms
        self.shape, self.numbers = NO_SERIES, ()

    def restarted(self, signal: EngineSignal) -> bool:
        """Whether the page is of a newer process than all before.

        The process's start time or a token counter's creation rose; on pages that have neither, a counter
        that only a restart can lower fell. Where one rose, the other did not and no such counter fell, it is the
        same process still: its host's clock was set, or the page tells less than it did.
        """
        births = _births(signal)
        if births and births == self.births:  # the usual page
            return False
        known = births.keys() & self.births.keys()
        rose = [name for name in known if births[name] > self.newest[name] + _RESTART_SECONDS]
        return len(rose) == len(known) > 0 or (bool(rose or not known) and self._fell(signal))

    def switched(self, signal: EngineSignal) -> bool:
        """Whether the page is of another process that is not newer than all before: its counts may be known already.

        So it is where one address leads to several processes by turns.
        """
        births = _births(signal)
        if births == self.births:
            return False
        known = births.keys() & self.births.keys()
        moved = [name for name in known if abs(births[name] - self.births[name]) > _RESTART_SECONDS]
        return len(moved) == len(known) > 0 or (bool(moved) and self._fell(signal))

    def _fell(self, signal: EngineSignal) -> bool:
        if signal.shape is self.shape:
            return any(signal.numbers[at] < self.numbers[at] for at in places(self.shape).falls)
        known = self.counters | self.shape.series(self.numbers)[0]
        shown = zip(signal.shape.counters, signal.numbers, strict=False)
        return any(value < known.get(key, 0.0) for key, value in shown if key.signal in FALLS_MEAN_RESTART)

    def forget(self) -> None:
        """Another process: everything counts from zero."""
        self.counters, self.histograms, self.levels = {}, {}, {}
        self.shape, self.numbers = NO_SERIES, ()
        self.births, self.blind = {}, False
        self.width = self.shorter = 0

    def baseline(self, signal: EngineSignal) -> None:
        """Start from this page: what it shows happened before the agent's time."""
        self.change(signal)

    def change(self, signal: EngineSignal) -> Change:
        """What the page adds to the last one. A series that fell alone, or is new, counts from zero.

        One whose model or tenant goes by another name now (``other``, or no longer) goes on where it was.
        """
        self._learn_births(_births(signal))
        change = self._risen(signal.numbers) if signal.shape is self.shape else None
        if change is None:
            change = self._compared(signal.shape, signal.numbers)
        levels = self.levels
        for where, delta in change.counters.items():
            levels[where] = levels.get(where, 0.0) + delta
        for where, histogram in change.histograms.items():
            levels[where] = levels.get(where, 0.0) + histogram.counts[-1]
        return change

    def _risen(self, numbers: tuple[float, ...]) -> Change | None:
        """The usual page: the same series as before, and nothing fell. None where something did."""
        deltas = tuple(map(sub, numbers, self.numbers))
        if min(deltas, default=0.0) < 0:
            return None
        known, change = places(self.shape), Change()
        for where, edges, of in known.histograms:
            merge(change.histograms, where, Histogram(edges, _observations(deltas[of]), deltas[of.stop]))
        change.counters = {where: added(deltas) for where, added in known.counters}
        change.tenants = {where: added(deltas) for where, added in known.tenants}
        change.whole = self._is_whole(len(self.shape))
        self.numbers = numbers
        return change

    def _compared(self, shape: Shape, numbers: tuple[float, ...]) -> Change:
        """Any other page, one series after the other."""
        self.spell_out()
        page, page_histograms = shape.series(numbers)
        change, counters, histograms = Change(), _Names(self.counters), _Names(self.histograms)
        for key, value in page.items():
            old = self.counters.get(key)
            if old is None:
                old = counters.rename(key, page, value if self.blind else 0.0)
            delta = value - old if value >= old else value
            self.counters[key] = value
            _add(change.counters, (key.signal, key.model), delta)
            if key.tenant:
                _add(change.tenants, (key.signal, key.tenant), delta)
        width = len(shape)
        for key, histogram in page_histograms.items():
            last = self.histograms.get(key)
            if last is None:
                last = histograms.rename(key, page_histograms, histogram if self.blind else None)
            elif _lacks_buckets(histogram, last):
                width -= 1
                continue
            since, self.histograms[key] = _since(last, histogram)
            merge(change.histograms, (key.signal, key.model), since)
        change.whole = self._is_whole(width)
        for key, model, amount in counters.moved + histograms.moved:
            _add(self.levels, (key.signal, key.model), -amount)
            _add(self.levels, (key.signal, model), amount)
            change.renamed.add(model)
        if width == len(shape):
            self._take_in(shape)
        return change

    def _take_in(self, shape: Shape) -> None:
        """What ``shape`` has goes into ``numbers``; it has nothing that is not followed."""
        self.shape, self.numbers = shape, shape.numbers(self.counters, self.histograms)
        for key in shape.counters:
            del self.counters[key]
        for key, _ in shape.histograms:
            del self.histograms[key]

    def _learn_births(self, births: Mapping[str, float]) -> None:
        """When the process began; where two stamps contradict one another, that one which says it is the same."""
        if births == self.births:
            return
        known = births.keys() & self.births.keys()
        stays = {name for name in known if abs(births[name] - self.births[name]) <= _RESTART_SECONDS}
        for name, born in births.items():
            if stays and name in known and name not in stays:
                continue
            self.births[name] = born
            self.newest[name] = max(born, self.newest.get(name, born))

    def _is_whole(self, width: int) -> bool:
        """Series may come, and go for good; those that are away for a few pages are missed."""
        self.shorter = self.shorter + 1 if width < self.width else 0
        if 0 < self.shorter <= _MISSED_PAGES:
            return False
        self.width, self.shorter = width, 0
        return True

    def level(self, model: str, signal: str) -> float:
        """This signal of a model since its process started."""
        return self.levels.get((signal, model), 0.0)

    def finished(self, model: str) -> float:
        """Requests that ended since the process started: one counter of all, or one of each outcome."""
        finished = self.levels.get(("finished", model))
        if finished is None:
            finished = 0.0
            for signal in _FINISHED:
                finished += self.levels.get((signal, model), 0.0)
        return finished

    def lost_calls(self) -> float:
        """HTTP calls that ended without a request that did, over all models; 0 where the page does not tell."""
        ended = explained = 0.0
        counts_parents = False
        for (signal, _), value in self.levels.items():
            if signal == "http_ended":
                ended += value
            elif signal in _EXPLAINED:
                explained += value
                counts_parents = counts_parents or signal == "parents_finished"
        return ended - explained if counts_parents else 0.0


class _Names(Generic[_Value]):
    """Finds series of a table under another name. Looks at the table only when a new series is asked for.

    ``moved``: those that went to another model, and what they had counted.
    """

    def __init__(self, table: dict[Key, _Value]) -> None:
        self.moved: list[tuple[Key, str, Any]] = []
        self._table = table
        self._names: dict[tuple[str, str], Key] | None = None

    def rename(self, key: Key, page: Mapping[Key, _Value], new: _Value | None) -> Any:
        """The last value of a series that ``page`` has as ``key`` only, taken from the table; else ``new``."""
        if self._names is None:
            self._names = {(known.signal, known.series): known for known in self._table}
        name = self._names.get((key.signal, key.series))
        if name is None or name in page or name not in self._table:
            return new
        last = self._table.pop(name)
        if name.model != key.model:
            self.moved.append((name, key.model, last.total if isinstance(last, Histogram) else last))
        return last


def merge(into: dict[Any, Histogram], key: object, more: Histogram) -> None:
    """Add observations; where the layouts differ, the newer one starts again."""
    have = into.get(key)
    into[key] = have.plus(more) if have is not None and have.edges == more.edges else more


def _births(signal: EngineSignal) -> dict[str, float]:
    births = {"process_start": signal.process_start, "created": signal.created}
    return {name: born for name, born in births.items() if born is not None}


def _add(into: dict[SignalOfModel, float], where: SignalOfModel, amount: float) -> None:
    into[where] = into.get(where, 0.0) + amount


def _lacks_buckets(new: Histogram, old: Histogram) -> bool:
    """Whether it is the old one without some of its buckets: a process does not lose any."""
    return len(new.edges) < len(old.edges) and set(new.edges) < set(old.edges)


def _since(old: Histogram | None, new: Histogram) -> tuple[Histogram, Histogram]:
    """Observations since the old one, and what to remember. A sum that falls alone stands until it is made up for."""
    if old is None or old.edges != new.edges or not all(map(ge, new.counts, old.counts)):
        return new, new
    if new.sum < old.sum:
        new = Histogram(new.edges, new.counts, old.sum)
    since = new.minus(old)
    return Histogram(since.edges, _observations(since.counts), since.sum), new


def _observations(counts: tuple[float, ...]) -> tuple[float, ...]:
    """What was observed while counts rose so: what moves between buckets is no observation."""
    return counts if all(map(le, counts, counts[1:])) else tuple(accumulate(reversed(counts), min))[::-1]


def total(amounts: Mapping[SignalOfModel, float], signal: str) -> float:
    """A signal's sum over all models."""
    return sum(value for (name, _), value in amounts.items() if name == signal)
