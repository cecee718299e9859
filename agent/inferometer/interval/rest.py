"""Whether GPUs work, where nothing but the GPUs tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferometer.interval.watch import Hold
from inferometer.model import Gpu


def rests(gpu: Gpu) -> bool:
    """Whether the GPU is measured to do nothing."""
    found = _activity(gpu, "")
    return found is not None and found <= 0


def working(holds: Iterable[Hold], gpus: Mapping[str, Gpu]) -> float | None:
    """The share of what is held that works at this moment; None where any of it is not measured."""
    held = works = 0.0
    for hold in holds:
        gpu = gpus.get(hold.gpu)
        activity = _activity(gpu, hold.instance) if gpu is not None and gpu.up else None
        if hold.slices and not hold.instance:
            activity = 0.0  # no instance, so that nothing can run there
        if activity is None:
            return None
        held += hold.fraction
        works += hold.fraction * (activity > 0)
    return works / held if held > 0 else None


def _activity(gpu: Gpu, instance: str) -> float | None:
    """Of a device the larger of what is known, of an instance its own."""
    if instance:
        return next((one.activity_ratio for one in gpu.instances if one.uuid == instance), None)
    if gpu.instances:
        known = [one.activity_ratio for one in gpu.instances]
        return None if None in known else max(ratio for ratio in known if ratio is not None)
    known = [ratio for ratio in (gpu.utilization_ratio, gpu.activity_ratio) if ratio is not None]
    return max((ratio for ratio in known if ratio is not None), default=None)
