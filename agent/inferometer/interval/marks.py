"""The last reading of every series of one process, and what changed since (design §7, restart)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import gt
from typing import Any

from msgspec import Struct, field

from inferometer.model import EngineSignal, Histogram, Key

_RESTART_SECONDS = 1.0
_FALLS_MEAN_RESTART = frozenset(
    {"prompt_tokens", "output_tokens", "finished", "finished_ok", "finished_error", "finished_aborted"}
)
SignalOfModel = tuple[str, str]


class Change(Struct):
    """What moved between two readings, summed over the raw series of a signal; ``tenants``: by signal and tenant."""

    counters: dict[SignalOfModel, float] = field(default_factory=dict)
    tenants: dict[SignalOfModel, float] = field(default_factory=dict)
    histograms: dict[SignalOfModel, Histogram] = field(default_factory=dict)


class Marks(Struct):
    """Raw values at the last reading, and per signal and model the level since the process started.

    ``births``: when the process of the last page began, by the name of what says so; ``newest``: of all processes.
    """

    births: dict[str, float] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)
    counters: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    levels: dict[SignalOfModel, float] = field(default_factory=dict)

    def restarted(self, signal: EngineSignal) -> bool:
        """Whether the page is of a newer process than all before.

        The process's start time or a token counter's creation rose; on pages that have neither, a counter
        that only a restart can lower fell.
        """
        births = _births(signal)
        known = births.keys() & self.births.keys()
        if known:
            return any(births[name] > self.newest[name] + _RESTART_SECONDS for name in known)
        return any(
            value < self.counters.get(key, 0.0)
            for key, value in signal.counters.items()
            if key.signal in _FALLS_MEAN_RESTART
        )

    def switched(self, signal: EngineSignal) -> bool:
        """Whether the page is of another process that is not newer than all before: its counts may be known already.

        So it is where one address leads to several processes by turns.
        """
        births = _births(signal)
        known = births.keys() & self.births.keys()
        return any(abs(births[name] - self.births[name]) > _RESTART_SECONDS for name in known)

    def forget(self) -> None:
        """Another process: everything counts from zero."""
        self.counters, self.histograms, self.levels = {}, {}, {}
        self.births = {}

    def baseline(self, signal: EngineSignal) -> None:
        """Start from this page: what it shows happened before the agent's time."""
        self.change(signal)

    def change(self, signal: EngineSignal) -> Change:
        """What the page adds to the last one. A series that fell alone, or is new, counts from zero."""
        for name, born in _births(signal).items():
            self.births[name] = born
            self.newest[name] = max(born, self.newest.get(name, born))
        change = Change()
        for key, value in signal.counters.items():
            old = self.counters.get(key, 0.0)
            delta = value - old if value >= old else value
            self.counters[key] = value
            _add(change.counters, (key.signal, key.model), delta)
            if key.tenant:
                _add(change.tenants, (key.signal, key.tenant), delta)
        for key, histogram in signal.histograms.items():
            since = _since(self.histograms.get(key), histogram)
            self.histograms[key] = histogram
            merge(change.histograms, (key.signal, key.model), since)
        for where, delta in change.counters.items():
            _add(self.levels, where, delta)
        for where, histogram in change.histograms.items():
            _add(self.levels, where, histogram.total)
        return change

    def level(self, model: str, *signals: str) -> float:
        """The sum of these signals of a model since its process started."""
        return sum(self.levels.get((signal, model), 0.0) for signal in signals)

    def has(self, signal: str) -> bool:
        """Whether the page has this signal at all."""
        return any(name == signal for name, _ in self.levels)

    def page_level(self, *signals: str) -> float:
        """The sum of these signals over all models of the page."""
        return sum(value for (signal, _), value in self.levels.items() if signal in signals)


def merge(into: dict[Any, Histogram], key: object, more: Histogram) -> None:
    """Add observations; where the layouts differ, the newer one starts again."""
    have = into.get(key)
    into[key] = have.plus(more) if have is not None and have.edges == more.edges else more


def _births(signal: EngineSignal) -> dict[str, float]:
    births = {"process_start": signal.process_start, "created": signal.created}
    return {name: born for name, born in births.items() if born is not None}


def _add(into: dict[SignalOfModel, float], where: SignalOfModel, amount: float) -> None:
    into[where] = into.get(where, 0.0) + amount


def _since(old: Histogram | None, new: Histogram) -> Histogram:
    if old is None or old.edges != new.edges or any(a < b for a, b in zip(new.counts, old.counts, strict=True)):
        return new
    since = new.minus(old)
    if any(map(gt, since.counts, since.counts[1:])) or since.sum < 0:  # what moves between buckets is no observation
        counts = tuple(accumulate(reversed(since.counts), min))[::-1]
        return Histogram(since.edges, counts, max(0.0, since.sum))
    return since


def total(amounts: Mapping[SignalOfModel, float], signal: str) -> float:
    """A signal's sum over all models."""
    return sum(value for (name, _), value in amounts.items() if name == signal)
