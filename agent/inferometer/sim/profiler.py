"""The part of the simulated library that tells how busy a card was between two samples of its counters (GPM)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from inferometer.sim.codes import INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, number_of, point, target
from inferometer.sim.gpu import Card

_SHARES = {1: 1.0, 2: 0.86, 5: 0.42, 10: 0.61}  # of the load: graphics, SM, tensor and DRAM, by the metric's number


class Profiler:
    """Samples by number; ``samples`` is how many are allocated."""

    def __init__(self) -> None:
        self._numbers = itertools.count(0x100)
        self._samples: dict[int, tuple[float, float]] = {}  # seconds, and busy seconds until then

    @property
    def samples(self) -> int:
        """How many are allocated: what is not freed is lost."""
        return len(self._samples)

    def functions(self) -> dict[str, Callable[..., int]]:
        """Of the library as a whole."""
        return {
            "nvmlGpmSampleAlloc": self._alloc,
            "nvmlGpmSampleFree": self._free,
            "nvmlGpmMetricsGet": self._metrics,
        }

    def device_functions(self) -> dict[str, Callable[..., int]]:
        """Of one card."""
        return {"nvmlGpmQueryDeviceSupport": _support, "nvmlGpmSampleGet": self._take}

    def _alloc(self, out: Any) -> int:
        number = next(self._numbers)
        self._samples[number] = (0.0, 0.0)
        point(out, number)
        return SUCCESS

    def _free(self, sample: Any) -> int:
        return INVALID_ARGUMENT if self._samples.pop(number_of(sample), None) is None else SUCCESS

    def _take(self, card: Card, sample: Any) -> int:
        reading = card.read()
        self._samples[number_of(sample)] = (reading.at, reading.busy_seconds)
        return SUCCESS

    def _metrics(self, out: Any) -> int:
        query = target(out)
        began, before = self._samples[number_of(query.sample1)]
        ended, after = self._samples[number_of(query.sample2)]
        if ended <= began:
            return INVALID_ARGUMENT
        for metric in query.metrics[: query.numMetrics]:
            share = _SHARES.get(metric.metricId)
            metric.nvmlReturn = NOT_SUPPORTED if share is None else SUCCESS
            metric.value = 100 * (share or 0.0) * (after - before) / (ended - began)
        return SUCCESS


def _support(_card: Card, out: Any) -> int:
    target(out).isSupportedDevice = 1
    return SUCCESS
