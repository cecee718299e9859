"""Energy readings in, joules per engine out: every joule once, to the workload that holds the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from inferometer.interval.device import Counter, Device, Floor, Stretch
from inferometer.interval.watch import Hold, Watch
from inferometer.model import Energy, Gpu, GpuReading, HostReading

_LONGEST_GAP_SECONDS = 30.0
_HEARD_SECONDS = 60.0  # a source that was silent for so long gives way to another
_STATES = ("active", "idle", "unknown")
Where = tuple[str, str]
"""Workload and engine."""


class Pending(Struct):
    """What an engine has not been charged for yet."""

    energy: Energy = field(default_factory=dict)
    metered_gpu_seconds: float = 0.0


class Assumed(Struct, frozen=True):
    """What the owner says of power: ``idle_watts`` of every GPU and ``host_watts``; None = not said.

    ``sources``: of readings of GPUs, the most trusted first.
    """

    idle_watts: float | None = None
    host_watts: float | None = None
    sources: tuple[str, ...] = ("nvml", "dcgm")


class Joules(Struct):
    """Remembers every meter, by GPU and by domain of the host, and what waits for its engine.

    ``is_host_new``: the agent was away: a counter of the host that fell may have begun anew with the machine.
    ``host_at``: until when the configured watts of the host are charged. ``resets``: by source, not posted yet.
    """

    devices: dict[str, Device] = field(default_factory=dict)
    domains: dict[str, Counter] = field(default_factory=dict)
    host_floor: Floor = field(default_factory=Floor)
    host_at: float | None = None
    is_host_new: bool = False
    pending: dict[Where, Pending] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)

    def read(
        self,
        reading: GpuReading,
        watches: Iterable[Watch],
        resting: Callable[[Watch, Gpu], bool],
        assumed: Assumed,
        interval: float,
    ) -> None:
        """Take one reading of GPUs. Those that nobody holds are left alone.

        ``resting``: whether a workload leaves the GPU with nothing to do.
        """
        watches = list(watches)
        self.resets.setdefault(reading.source, 0)
        for gpu in reading.gpus:
            holders = [(watch, hold) for watch in watches for hold in watch.holds if hold.gpu == gpu.uuid]
            device = self._device(reading, gpu, assumed.sources) if holders and gpu.up else None
            if device is None:
                continue
            if gpu.power_watts is not None:
                rests = all(resting(watch, gpu) for watch, _ in holders)
                device.floor.see(reading.at, gpu.power_watts, resting=rests)
            before = device.resets
            longest = max(_LONGEST_GAP_SECONDS, 2 * interval)
            stretch = device.read(reading.at, gpu.energy_joules, gpu.power_watts, longest)
            self.resets[reading.source] += device.resets - before
            if stretch is not None:
                floor = device.floor if assumed.idle_watts is None else Floor(assumed.idle_watts)
                self._share_gpu(gpu, stretch, floor, holders)

    def read_host(self, reading: HostReading, watches: Iterable[Watch], *, resting: bool) -> None:
        """Take one reading of the host's counters; they wrap, and one that cannot be followed starts anew."""
        gained = seconds = 0.0
        moved = 0
        for domain in reading.domains:
            counter = self.domains.setdefault(domain.name, Counter(domain.energy_joules, reading.at))
            wraps_at = 0.0 if self.is_host_new else domain.range_joules
            stretch = counter.read(reading.at, domain.energy_joules, wraps_at)
            if stretch is not None:
                gained, seconds, moved = gained + stretch.joules, max(seconds, stretch.seconds), moved + 1
        self.is_host_new = self.is_host_new and not reading.domains
        if seconds > 0:
            if moved == len(self.domains):  # a part of the host is no floor of the whole
                self.host_floor.see(reading.at, gained / seconds, resting=resting)
            self._share_host(Stretch(seconds, gained, "counter"), watches)

    def tick_host(self, at: float, watts: float, watches: Iterable[Watch], interval: float) -> None:
        """Charge the configured watts of the host up to now; the agent's own absence is not known."""
        if self.host_at is not None and 0 < at - self.host_at <= max(_LONGEST_GAP_SECONDS, 2 * interval):
            self._share_host(Stretch(at - self.host_at, watts * (at - self.host_at), "estimated"), watches)
        self.host_at = at

    def take(self, workload: str, engine: str) -> Pending:
        """What an engine used since the last call."""
        return self.pending.pop((workload, engine), Pending())

    def take_resets(self) -> dict[str, int]:
        """Counters that were reset since the last call, by source; 0 for one that was read and had none."""
        resets, self.resets = self.resets, {}
        return resets

    def consistency(self) -> dict[str, float]:
        """By GPU, its counter over its power samples, where both were read for a minute."""
        ratios = {uuid: device.agreement.ratio for uuid, device in self.devices.items()}
        return {uuid: ratio for uuid, ratio in ratios.items() if ratio is not None}

    def floors(self, configured: float | None = None) -> dict[str, float]:
        """By GPU, the watts that it draws with nothing to do, where they are ``configured`` or known."""
        floors = {uuid: configured or device.floor.watts for uuid, device in self.devices.items()}
        return {uuid: watts for uuid, watts in floors.items() if watts is not None}

    def shift(self, seconds: float) -> None:
        """Move all times to another clock."""
        for device in self.devices.values():
            device.shift(seconds)
        for counter in self.domains.values():
            counter.shift(seconds)
        self.host_floor.resting_since = None
        self.host_at, self.is_host_new = None, True

    def _device(self, reading: GpuReading, gpu: Gpu, sources: tuple[str, ...]) -> Device | None:
        """The GPU's meters if this source is the one that counts: the most trusted of those that are heard."""
        if gpu.energy_joules is None and gpu.power_watts is None:
            return None
        device = self.devices.get(gpu.uuid)
        if device is None:
            device = self.devices[gpu.uuid] = Device(reading.source, reading.at)
        elif device.source != reading.source:
            silent = reading.at - device.heard_at > _HEARD_SECONDS
            if not silent and _rank(reading.source, sources) >= _rank(device.source, sources):
                return None
            device.source, device.taken_over_at = reading.source, reading.at
        device.heard_at = reading.at
        return device

    def _share_gpu(self, gpu: Gpu, stretch: Stretch, floor: Floor, holders: list[tuple[Watch, Hold]]) -> None:
        active = _activities(gpu, [hold for _, hold in holders])
        states = floor.split(stretch)
        for (watch, hold), share in zip(holders, active, strict=True):
            mine = {s: joules * (share if s == "active" else hold.fraction) for s, joules in states.items()}
            metered = stretch.seconds * hold.fraction if stretch.method != "estimated" else 0.0
            self._spread(watch, "gpu", stretch.method, mine, metered)

    def _share_host(self, stretch: Stretch, watches: Iterable[Watch]) -> None:
        """By the GPUs that the workloads hold; where none holds any, evenly."""
        watches = list(watches)
        held = {watch.workload: sum(member.gpus for member in watch.members) for watch in watches}
        whole = sum(held.values())
        states = self.host_floor.split(stretch)
        for watch in watches:
            share = held[watch.workload] / whole if whole > 0 else 1 / len(watches)
            self._spread(watch, "host", stretch.method, {s: j * share for s, j in states.items()}, 0.0)

    def _spread(self, watch: Watch, component: str, method: str, states: Mapping[str, float], metered: float) -> None:
        for engine, part in zip(watch.members, watch.parts(), strict=True):
            pending = self.pending.setdefault((watch.workload, engine.engine), Pending())
            pending.metered_gpu_seconds += metered * part
            for state in _STATES:
                where = (component, state, method)
                pending.energy[where] = pending.energy.get(where, 0.0) + states.get(state, 0.0) * part


def _rank(source: str, sources: tuple[str, ...]) -> int:
    return sources.index(source) if source in sources else len(sources)


def _activities(gpu: Gpu, holds: list[Hold]) -> list[float]:
    """Each hold's share of the active joules: by measured activity of the instances, else by slices or shares.

    What no instance takes up of a device that is cut does no work. The shares of all holds add up to 1 where their
    fractions do.
    """
    slices = next((hold.slices for hold in holds if hold.slices), {})
    if not slices:
        return [hold.fraction for hold in holds]
    measured = {instance.uuid: instance.activity_ratio for instance in gpu.instances}
    loads = {uuid: (measured.get(uuid) or 0.0) * fraction for uuid, fraction in slices.items()}
    if any(measured.get(uuid) is None for uuid in slices) or sum(loads.values()) <= 0:
        loads = dict(slices)
    whole = sum(loads.values())
    return [_of_instance(hold, loads, whole) for hold in holds]


def _of_instance(hold: Hold, loads: Mapping[str, float], whole: float) -> float:
    if hold.instance:
        return hold.part * loads.get(hold.instance, 0.0) / whole
    return hold.fraction if hold.method != "none" else 0.0
