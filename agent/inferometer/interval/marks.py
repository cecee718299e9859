"""The last reading of every series of one process, and what changed since (design §7, restart)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from inferometer.model import EngineSignal, Histogram, Key

_RESTART_SECONDS = 1.0
_FALLS_MEAN_RESTART = frozenset({"prompt_tokens", "output_tokens", "finished_ok", "finished_error", "finished_aborted"})
SignalOfModel = tuple[str, str]


class Change(Struct):
    """What moved between two readings, summed over the raw series of a signal."""

    counters: dict[SignalOfModel, float] = field(default_factory=dict)
    histograms: dict[SignalOfModel, Histogram] = field(default_factory=dict)


class Marks(Struct):
    """Raw values at the last reading, and per signal and model the level since the process started."""

    process_start: float | None = None
    created: float | None = None
    counters: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    levels: dict[SignalOfModel, float] = field(default_factory=dict)

    def restarted(self, signal: EngineSignal) -> bool:
        """Whether the page is of a newer process than the last one.

        The process's start time or a token counter's creation rose; on pages that have neither, a counter
        that only a restart can lower fell.
        """
        known = False
        for old, new in ((self.process_start, signal.process_start), (self.created, signal.created)):
            if old is not None and new is not None:
                known = True
                if new > old + _RESTART_SECONDS:
                    return True
        return not known and any(
            value < self.counters.get(key, 0.0)
            for key, value in signal.counters.items()
            if key.signal in _FALLS_MEAN_RESTART
        )

    def forget(self) -> None:
        """A new process: everything counts from zero."""
        self.counters, self.histograms, self.levels = {}, {}, {}
        self.process_start = self.created = None

    def baseline(self, signal: EngineSignal) -> None:
        """Start from this page: what it shows happened before the agent's time."""
        self.change(signal)

    def change(self, signal: EngineSignal) -> Change:
        """What the page adds to the last one. A series that fell alone, or is new, counts from zero."""
        self.process_start = signal.process_start if signal.process_start is not None else self.process_start
        self.created = signal.created if signal.created is not None else self.created
        change = Change()
        for key, value in signal.counters.items():
            old = self.counters.get(key, 0.0)
            delta = value - old if value >= old else value
            self.counters[key] = value
            _add(change.counters, (key.signal, key.model), delta)
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

    def page_level(self, *signals: str) -> float:
        """The sum of these signals over all models of the page."""
        return sum(value for (signal, _), value in self.levels.items() if signal in signals)


def merge(into: dict[Any, Histogram], key: object, more: Histogram) -> None:
    """Add observations; where the layouts differ, the newer one starts again."""
    have = into.get(key)
    into[key] = have.plus(more) if have is not None and have.edges == more.edges else more


def _add(into: dict[SignalOfModel, float], where: SignalOfModel, amount: float) -> None:
    into[where] = into.get(where, 0.0) + amount


def _since(old: Histogram | None, new: Histogram) -> Histogram:
    if old is None or old.edges != new.edges or any(a < b for a, b in zip(new.counts, old.counts, strict=True)):
        return new
    return new.minus(old)


def total(amounts: Mapping[SignalOfModel, float], signal: str) -> float:
    """A signal's sum over all models."""
    return sum(value for (name, _), value in amounts.items() if name == signal)
