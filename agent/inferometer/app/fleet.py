"""Every GPU that was seen, as the most trusted source that answers for it shows it, and the pods that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec.structs import asdict, replace

from inferometer.model import Gpu, GpuReading, Holdings, Instance

_FORGOTTEN_AFTER_SECONDS = 60.0  # of a source that no longer lists a GPU, or no longer answers
_NOTHING: tuple[Any, ...] = (None, (), {})
_T = TypeVar("_T", Gpu, Instance)
_LABELS = ("instances", "pods")
_COUNTED = (
    "energy_joules", "throttle_seconds", "xids", "ecc_errors",
    "pcie_rx_bytes", "pcie_tx_bytes", "nvlink_rx_bytes", "nvlink_tx_bytes",
)  # fmt: skip


class Fleet:
    """``sources``: names of the sources of GPU readings, the most trusted first. ``limit``: most GPUs to know.

    ``dropped``: GPUs of readings that were left out for it.

    What is measured at a moment is forgotten with its moment. What a source counts, and how it says that a GPU is cut
    and held, lasts until the same source says otherwise; a GPU that is lost says nothing.
    """

    def __init__(self, sources: Sequence[str], limit: int = 1_024) -> None:
        self.kubelet: Holdings | None = None
        self.limit, self.dropped = limit, 0
        self._sources = tuple(sources)
        self._seen: dict[str, dict[str, tuple[float, Gpu]]] = {}
        self._cut_by: dict[str, set[str]] = {}  # the sources that have ever shown instances of a GPU

    def see(self, reading: GpuReading) -> bool:
        """Take a reading; whether who holds what may have changed by it. One that failed changes nothing."""
        changed = False
        for gpu in reading.gpus if not reading.error else ():
            if gpu.uuid not in self._seen and len(self._seen) >= self.limit:
                self.dropped += 1
                continue
            views = self._seen.setdefault(gpu.uuid, {})
            _, last = views.get(reading.source, (0.0, None))
            named = gpu if gpu.driver or not reading.driver else replace(gpu, driver=reading.driver)
            kept = _kept(last, named) if last is not None else {}
            new = replace(named, **kept) if kept else named
            views[reading.source] = (reading.at, new)
            changed = changed or last is None or _outline(last) != _outline(new)
            if gpu.instances:
                self._cut_by.setdefault(gpu.uuid, set()).add(reading.source)
        return changed

    def see_holdings(self, holdings: Holdings) -> bool:
        """Take what the kubelet says; likewise."""
        if holdings.error or (self.kubelet is not None and _allotted(self.kubelet) == _allotted(holdings)):
            return False
        self.kubelet = holdings
        return True

    def gpus(self, at: float | None = None) -> tuple[Gpu, ...]:
        """All of them by index; those that no source has shown for a minute before ``at`` are down."""
        merged = [self._merged(uuid, views, at) for uuid, views in self._seen.items()]
        return tuple(sorted(merged, key=lambda gpu: (gpu.index, gpu.uuid)))

    def _merged(self, uuid: str, views: dict[str, tuple[float, Gpu]], at: float | None) -> Gpu:
        newest = max(when for when, _ in views.values()) if at is None else at
        if len(views) == 1:  # nobody else to ask
            ((when, only),) = views.values()
            if only.up and newest - when <= _FORGOTTEN_AFTER_SECONDS:
                return only
        ranked = sorted(views, key=self._rank)
        fresh = [s for s in ranked if newest - views[s][0] <= _FORGOTTEN_AFTER_SECONDS and views[s][1].up]
        shown = [views[s][1] for s in fresh] or [replace(views[ranked[0]][1], up=False)]
        best = _filled(shown[0], shown[1:])
        cut_by = next((s for s in ranked if s in self._cut_by.get(uuid, ())), ranked[0])
        by_trust = [cut_by, *(s for s in ranked if s != cut_by)]
        cuts = [[one if s in fresh else _label(one) for one in views[s][1].instances] for s in by_trust]
        return replace(best, **_lasting([views[s][1] for s in ranked]), instances=_joined(*cuts))

    def _rank(self, source: str) -> int:
        return self._sources.index(source) if source in self._sources else len(self._sources)


def _outline(gpu: Gpu) -> tuple[Any, ...]:
    """What ownership depends on: its place, how it is cut, and its pods."""
    cut = [(one.uuid, one.compute_slices, one.memory_slices, one.pods) for one in gpu.instances]
    return (gpu.index, gpu.pods, cut)


def _kept(last: Gpu, gpu: Gpu) -> dict[str, Any]:
    """What a source's newest view leaves out of what lasts. A lost GPU is cut and held as it was."""
    lasting = _COUNTED if gpu.up else (*_COUNTED, *_LABELS)
    kept = {name: getattr(last, name) for name in lasting if getattr(gpu, name) in _NOTHING}
    return kept | ({"energy_scope": last.energy_scope} if "energy_joules" in kept else {})


def _lasting(ranked: list[Gpu]) -> dict[str, Any]:
    """Counts and labels, each by the most trusted source that has ever given it, be it silent now."""
    found: dict[str, Any] = {"index": ranked[0].index}
    for name in (*_COUNTED, "pods"):
        giver = next((gpu for gpu in ranked if getattr(gpu, name) not in _NOTHING), ranked[0])
        found[name] = getattr(giver, name)
        if name == "energy_joules":
            found["energy_scope"] = giver.energy_scope
    return found


def _joined(cut: list[Instance], *others: list[Instance]) -> tuple[Instance, ...]:
    """The instances, with what only the others know of them: their pods, activity, memory."""
    return tuple(_filled(one, [twin for other in others for twin in other if twin.gi == one.gi]) for one in cut)


def _label(instance: Instance) -> Instance:
    """An instance without what was measured."""
    one = instance
    return Instance(one.uuid, one.gi, one.profile, one.compute_slices, one.memory_slices, pods=one.pods)


def _filled(best: _T, others: Sequence[_T]) -> _T:
    """What the better source does not give is by the next one that does."""
    for other in others:
        mine, its = asdict(best), asdict(other)
        best = replace(best, **{k: v for k, v in its.items() if mine[k] in _NOTHING and v not in _NOTHING})
    return best


def _allotted(holdings: Holdings) -> tuple[Any, Any]:
    return (holdings.pods, holdings.replicas)
