"""Whether GPUs work, where nothing but the GPUs tells."""

from __future__ import annotations

from collections.abc import Iterable

from inferometer.interval.watch import Hold, Watch
from inferometer.model import Gpu, GpuReading

_NEWS_SECONDS = 10.0


class Activity:
    """What the newest readings of GPUs say: what one did long ago says nothing of now."""

    def __init__(self) -> None:
        self._gpus: dict[str, tuple[float, Gpu]] = {}
        self._at = self._news_seconds = 0.0

    def see(self, at: float, interval: float) -> None:
        """It is ``at`` now, and what is older than some intervals is no news."""
        self._at, self._news_seconds = at, max(_NEWS_SECONDS, 2 * interval)

    def take(self, reading: GpuReading) -> None:
        """A reading of GPUs."""
        self._gpus |= {gpu.uuid: (reading.at, gpu) for gpu in reading.gpus}

    def rests(self, watch: Watch, gpu: Gpu | None) -> bool | None:
        """Whether a GPU, or all that a workload holds, is measured to do nothing; None where there is none."""
        held = [gpu] if gpu is not None else [self._newest(hold.gpu) for hold in watch.holds]
        found = [_activity(one, "") for one in held if one is not None]
        return all(activity is not None and activity <= 0 for activity in found) if found else None

    def working(self, holds: Iterable[Hold]) -> float | None:
        """The share of what is held that works at this moment; None where any of it is not measured."""
        held = works = 0.0
        for hold in holds:
            gpu = self._newest(hold.gpu)
            activity = _activity(gpu, hold.instance) if gpu is not None and gpu.up else None
            if hold.slices and not hold.instance:
                activity = 0.0  # no instance, so that nothing can run there
            if activity is None:
                return None
            held += hold.fraction
            works += hold.fraction * (activity > 0)
        return works / held if held > 0 else None

    def _newest(self, uuid: str) -> Gpu | None:
        at, gpu = self._gpus.get(uuid, (0.0, None))
        return gpu if at >= self._at - self._news_seconds else None


def _activity(gpu: Gpu, instance: str) -> float | None:
    """Of a device the larger of what is known, of an instance its own."""
    if instance:
        return next((one.activity_ratio for one in gpu.instances if one.uuid == instance), None)
    if gpu.instances:
        known = [one.activity_ratio for one in gpu.instances]
        return None if None in known else max(ratio for ratio in known if ratio is not None)
    known = [ratio for ratio in (gpu.utilization_ratio, gpu.activity_ratio) if ratio is not None]
    return max((ratio for ratio in known if ratio is not None), default=None)
