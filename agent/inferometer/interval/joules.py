"""GPU energy counters in, joules per engine out: every joule once, to the workload that holds the GPU."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from inferometer.interval.watch import Watch
from inferometer.model import GpuReading


class Joules(Struct):
    """Remembers each GPU's counter and what its engines have not been charged for yet, by workload and engine."""

    counters: dict[str, float] = field(default_factory=dict)
    pending: dict[tuple[str, str], float] = field(default_factory=dict)

    def read(self, reading: GpuReading, watches: Iterable[Watch]) -> None:
        """Take one reading of all GPUs. A counter that fell was reset: what it shows is new (a lower bound)."""
        watches = list({watch.workload: watch for watch in watches}.values())
        for gpu in reading.gpus:
            if gpu.energy_joules is None:
                continue
            old = self.counters.get(gpu.uuid)
            self.counters[gpu.uuid] = gpu.energy_joules
            if old is None:
                continue
            delta = gpu.energy_joules - old if gpu.energy_joules >= old else gpu.energy_joules
            for watch in watches:
                if watch.uuids is None or gpu.uuid in watch.uuids:
                    self._spread(watch, delta * watch.share)

    def take(self, workload: str, engine: str) -> float:
        """The joules of an engine since the last call."""
        return self.pending.pop((workload, engine), 0.0)

    def _spread(self, watch: Watch, joules: float) -> None:
        for engine in watch.members:
            where = (watch.workload, engine.engine)
            self.pending[where] = self.pending.get(where, 0.0) + joules * watch.part(engine)
