"""Every GPU that was seen, as the most trusted source that answers for it shows it, and the pods that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict, replace

from inferometer.model import Gpu, GpuReading, Holdings

_FORGOTTEN_AFTER_SECONDS = 60.0  # of a source that no longer lists a GPU, or no longer answers
_NOTHING: tuple[Any, ...] = (None, (), {})


class Fleet:
    """``sources``: names of the sources of GPU readings, the most trusted first."""

    def __init__(self, sources: Sequence[str]) -> None:
        self.kubelet: Holdings | None = None
        self._sources = tuple(sources)
        self._seen: dict[str, dict[str, tuple[float, Gpu]]] = {}

    def see(self, reading: GpuReading) -> bool:
        """Take a reading; whether who holds what may have changed by it. One that failed changes nothing."""
        before = self._shape()
        for gpu in reading.gpus if not reading.error else ():
            named = replace(gpu, driver=gpu.driver or reading.driver)
            self._seen.setdefault(gpu.uuid, {})[reading.source] = (reading.at, named)
        return self._shape() != before

    def see_holdings(self, holdings: Holdings) -> bool:
        """Take what the kubelet says; likewise."""
        if holdings.error or (self.kubelet is not None and _allotted(self.kubelet) == _allotted(holdings)):
            return False
        self.kubelet = holdings
        return True

    def gpus(self, at: float | None = None) -> tuple[Gpu, ...]:
        """All of them by index; those that no source has shown for a minute before ``at`` are down."""
        merged = [self._merged(views, at) for views in self._seen.values()]
        return tuple(sorted(merged, key=lambda gpu: (gpu.index, gpu.uuid)))

    def _merged(self, views: dict[str, tuple[float, Gpu]], at: float | None) -> Gpu:
        newest = max(when for when, _ in views.values()) if at is None else at
        fresh = [(s, gpu) for s, (when, gpu) in views.items() if newest - when <= _FORGOTTEN_AFTER_SECONDS and gpu.up]
        if not fresh:
            return replace(next(iter(views.values()))[1], up=False)
        fresh.sort(key=lambda view: self._rank(view[0]))
        best, *others = (gpu for _, gpu in fresh)
        for other in others:
            best = replace(best, **_missing(best, other))
        return best

    def _rank(self, source: str) -> int:
        return self._sources.index(source) if source in self._sources else len(self._sources)

    def _shape(self) -> dict[str, Any]:
        """What ownership depends on: devices, how they are cut, and their pods."""
        return {uuid: [_outline(gpu) for _, gpu in views.values()] for uuid, views in self._seen.items()}


def _outline(gpu: Gpu) -> tuple[Any, ...]:
    cut = [(one.uuid, one.compute_slices, one.memory_slices, one.pods) for one in gpu.instances]
    return (gpu.index, gpu.pods, cut)


def _missing(best: Gpu, other: Gpu) -> dict[str, Any]:
    """What the better source does not give and the other one does. Instances go by the better one that has any."""
    mine = asdict(best)
    return {name: value for name, value in asdict(other).items() if mine[name] in _NOTHING and value not in _NOTHING}


def _allotted(holdings: Holdings) -> tuple[Any, Any]:
    return (holdings.pods, holdings.replicas)
