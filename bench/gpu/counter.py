"""The energy counter: how often it moves, and whether it says what power says."""

from __future__ import annotations

import itertools
import math
import threading
import time
from typing import NamedTuple, Self

from bench.gpu.calls import percentile
from bench.gpu.nvml import Card


class Comparison(NamedTuple):
    """The counter's joules over some seconds, those of the power samples, and the counter's tick."""

    seconds: float
    counter_joules: float
    power_joules: float
    tick_seconds: float

    @property
    def ratio(self) -> float:
        """Counter over power; far from 1 one of the two is wrong. NaN without power."""
        return self.counter_joules / self.power_joules if self.power_joules else float("nan")


class Watch:
    """Samples counter and power as often as it can for as long as the block lasts."""

    def __init__(self, card: Card, every_seconds: float = 0.002) -> None:
        self._card, self._every = card, every_seconds
        self._samples: list[tuple[float, float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def comparison(self, since: float = -math.inf, until: float = math.inf) -> Comparison:
        """Between two times (monotonic): power by trapezoids, and the median time between two moves of the counter."""
        samples = [sample for sample in self._samples if since <= sample[0] <= until]
        first, last = samples[0], samples[-1]
        pairs = list(itertools.pairwise(samples))
        power = sum((b[0] - a[0]) * (a[2] + b[2]) / 2 for a, b in pairs)
        moves = [b[0] for a, b in pairs if b[1] != a[1]]
        ticks = [after - before for before, after in itertools.pairwise(moves)]
        tick = percentile(ticks, 0.5) if ticks else float("nan")
        return Comparison(last[0] - first[0], last[1] - first[1], power, tick)

    def nearest(self, joules: float, until: float) -> tuple[float, float]:
        """When the counter, up to a time, last stood closest to a value, and where it stood then."""
        at, stood, _ = min((sample for sample in self._samples if sample[0] <= until),
                           key=lambda sample: (abs(sample[1] - joules), -sample[0]))  # fmt: skip
        return at, stood

    def _sample(self) -> None:
        while not self._ended.is_set():
            self._samples.append((time.monotonic(), self._card.joules(), self._card.watts()))
            time.sleep(self._every)
        self._samples.append((time.monotonic(), self._card.joules(), self._card.watts()))
