"""How busy a GPU's parts were, from Hopper on (GPM): two samples of its counters, and what happened between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Any

from inferometer.sources.nvml.library import FATAL, LOST, UNSUPPORTED

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 600.0
_METRICS = {1: "activity_ratio", 2: "sm_active_ratio", 5: "tensor_active_ratio", 10: "dram_active_ratio"}
"""NVML_GPM_METRIC_GRAPHICS_UTIL, _SM_UTIL, _ANY_TENSOR_UTIL and _DRAM_BW_UTIL, in percent."""


class Activity:
    """Activity of one GPU and its instances. ``free`` gives back what the driver holds for it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._is_supported: bool | None = None
        self._windows: dict[Hashable, _Window] = {}

    def device(self, now: float) -> dict[str, float]:
        """Ratios since the reading before; {} at first, and where the GPU or its driver is too old."""
        return self._read(None, now, lambda sample: self._nvml.nvmlGpmSampleGet(self._handle, sample))

    def instance(self, fingerprint: Hashable, gi: int, now: float) -> dict[str, float]:
        """Likewise for one instance. Its id is given again after a reconfiguration, its fingerprint is not."""
        return self._read(fingerprint, now, lambda sample: self._nvml.nvmlGpmMigSampleGet(self._handle, gi, sample))

    def keep(self, fingerprints: Collection[Hashable]) -> None:
        """Forget instances that are gone."""
        for key in self._windows.keys() - {None, *fingerprints}:
            self._windows.pop(key).free()

    def free(self) -> None:
        """Free every sample. To be done before the driver is closed."""
        for window in self._windows.values():
            window.free()
        self._windows.clear()

    def _read(self, key: Hashable, now: float, take: Callable[[Any], None]) -> dict[str, float]:
        if self._is_supported is None:
            self._is_supported = self._query()
        if not self._is_supported:
            return {}
        if key not in self._windows:
            self._windows[key] = _Window(self._nvml)
        return self._windows[key].read(now, take)

    def _query(self) -> bool:
        try:
            return bool(self._nvml.nvmlGpmQueryDeviceSupport(self._handle).isSupportedDevice)
        except self._nvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                return False
            raise


class _Window:
    """From one sample to the next of a device or an instance."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._samples: list[Any] = []  # at most two; the last is the newest
        self._at: float | None = None  # when it was taken
        self._values: dict[str, float] = {}
        self._is_refused = False
        self._query = nvml.c_nvmlGpmMetricsGet_t()
        self._query.version, self._query.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(_METRICS)
        for place, number in enumerate(_METRICS):
            self._query.metrics[place].metricId = number

    def read(self, now: float, take: Callable[[Any], None]) -> dict[str, float]:
        """The ratios between the newest two samples; within SHORTEST_SECONDS those of before."""
        if self._is_refused or (self._at is not None and 0 <= now - self._at < SHORTEST_SECONDS):
            return self._values
        began, self._at, self._values = self._at, None, {}
        try:
            if len(self._samples) < 2:
                self._samples.insert(0, self._nvml.nvmlGpmSampleAlloc())
            take(self._samples[0])
            self._samples.append(self._samples.pop(0))
            self._at = now
            if began is not None and now - began <= LONGEST_SECONDS:
                self._values = self._between()
        except self._nvml.NVMLError as error:
            if error.value in LOST or error.value in FATAL:
                raise
            if error.value in UNSUPPORTED:
                self._is_refused = True
                self.free()
        return self._values

    def free(self) -> None:
        """Give the samples back."""
        while self._samples:
            try:
                self._nvml.nvmlGpmSampleFree(self._samples.pop())
            except self._nvml.NVMLError:
                continue  # a driver that is gone took them along
        self._at = None

    def _between(self) -> dict[str, float]:
        query, metrics = self._query, self._query.metrics
        query.sample1, query.sample2 = self._samples
        self._nvml.nvmlGpmMetricsGet(query)
        found = zip(_METRICS.values(), metrics, strict=False)  # the array has room for every metric there is
        # Counters that were reset between the samples give nonsense, which is no percentage (nor is NaN).
        valid = ((name, metric.value) for name, metric in found if not metric.nvmlReturn and 0 <= metric.value < 101)
        return {name: min(1.0, percent / 100) for name, percent in valid}
