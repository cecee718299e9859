"""Pages of an exporter of GPUs as readings, as its adapter says: each device once, however many rows repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from inferometer.adapters.device_language import PARTS, Choice, DeviceAdapter
from inferometer.adapters.freshness import Freshness
from inferometer.adapters.mig import memory_of, slices
from inferometer.adapters.xids import Row, XidCounter
from inferometer.model import Gpu, GpuReading, Instance, Page, Pod, Series

STALE_SECONDS = 300.0  # a GPU that has power has other joules by then, whatever the exporter's interval
_ROWS = 10_000  # remembered; labels that never repeat must not eat the memory
_THROTTLE = "throttle "
_NEWEST_XID, _RECENT_XIDS = "newest xid", "recent xids"
_XIDS = Choice(())
_OF_INSTANCES = frozenset(Instance.__struct_fields__)


class _Use(NamedTuple):
    """What one series of the page is good for, and what its labels say."""

    signal: str
    choice: Choice
    rank: int
    uuid: str
    instance: int | None
    labels: Mapping[str, str]
    pods: Mapping[int, Pod]


class _Value(NamedTuple):
    """A signal of a device or an instance so far."""

    rank: int
    is_whole: bool
    value: float


class _Holder(Struct):
    """What a page says about a device or an instance: its values by signal, and its pods by kind of label."""

    values: dict[str, _Value] = field(default_factory=dict)
    pods: dict[int, dict[tuple[str, str], Pod]] = field(default_factory=dict)
    profile: str = ""

    def take(self, use: _Use, value: float) -> None:
        new = _Value(use.rank, not use.pods, value)
        old = self.values.get(use.signal)
        if old is None or new.rank < old.rank or (new.rank == old.rank and _counts_more(new, old, use.choice.of_many)):
            self.values[use.signal] = new

    def numbers(self) -> dict[str, float]:
        """All values by signal, those included that are made of parts."""
        numbers = {signal: value.value for signal, value in self.values.items()}
        free, reserved, corrected, uncorrected = (numbers.pop(part, None) for part in PARTS)
        used = numbers.get("memory_used_bytes")
        if used is not None and free is not None:
            numbers.setdefault("memory_total_bytes", used + free + (reserved or 0.0))
        if corrected is not None or uncorrected is not None:
            numbers.setdefault("ecc_errors", (corrected or 0.0) + (uncorrected or 0.0))
        return numbers


class _Device(_Holder):
    """One GPU."""

    index: int = 0
    name: str = ""
    instances: dict[int, _Holder] = field(default_factory=dict)
    newest_xids: dict[int | None, str] = field(default_factory=dict)
    recent_xids: dict[Row, float] = field(default_factory=dict)


class Devices:
    """Turns the pages of one exporter into readings. Not for several exporters: it remembers rows and XID errors."""

    def __init__(self, adapter: DeviceAdapter) -> None:
        self.adapter = adapter
        self._choices = _choices(adapter)
        self._uses: dict[Series, _Use | None] = {}
        self._xids = XidCounter()
        self._freshness = Freshness()

    @property
    def refresh_seconds(self) -> float | None:
        """How often the exporter reads the GPUs: what happened in less time it cannot tell. None until it is known."""
        return self._freshness.refresh_seconds

    @property
    def wanted(self) -> frozenset[str]:
        """Every sample name that is read; a page's other series need not be kept."""
        return self.adapter.wanted

    def __call__(self, page: Page) -> GpuReading:
        """The reading of a page, under its source; ``error`` says why there is none: the page's, not_dcgm or stale."""
        if page.error:
            return GpuReading(page.source, page.at, page.error, seconds=page.seconds, detail=page.detail)
        devices, driver, kinds = self._read(page)
        if not devices:
            error, detail = f"not_{self.adapter.source}", self._complaint(page)
            return GpuReading(page.source, page.at, error, seconds=page.seconds, detail=detail)
        kind = min(kinds, default=0)
        gpus = tuple(self._gpu(uuid, device, kind) for uuid, device in devices.items())
        age = self._freshness.age(page.at, tuple((one.power_watts, one.energy_joules) for one in gpus))
        if age > STALE_SECONDS and any(one.energy_joules is not None for one in gpus):
            detail = f"power and energy have stood still for {age:.0f} s; does the DCGM host engine still run?"
            return GpuReading(page.source, page.at, "stale", seconds=page.seconds, detail=detail)
        return GpuReading(page.source, page.at, gpus=gpus, driver=driver, seconds=page.seconds)

    def _read(self, page: Page) -> tuple[dict[str, _Device], str, set[int]]:
        """What the page says by device, the driver's version, and the kinds of pod labels that it has."""
        devices: dict[str, _Device] = {}
        driver = ""
        kinds: set[int] = set()
        for series, value in page.series:
            use = self._use(series)
            if use is None:
                continue
            device = devices.get(use.uuid)
            if device is None:
                device = devices[use.uuid] = _new_device(use, len(devices))
            driver = driver or use.labels.get("driver", "")
            kinds.update(use.pods)
            self._take(device, use, value)
        return devices, driver, kinds

    def _take(self, device: _Device, use: _Use, value: float) -> None:
        holder: _Holder = device
        if use.instance is not None:
            holder = device.instances.setdefault(use.instance, _Holder())
            holder.profile = holder.profile or use.labels.get("profile", "")
        for kind, pod in use.pods.items():
            holder.pods.setdefault(kind, {}).setdefault((pod.namespace, pod.name), pod)
        if self._is_blank(value) or (value == 0 and use.choice.zero_is_blank):
            return
        if use.signal == _NEWEST_XID:
            if use.rank == 0 or use.instance not in device.newest_xids:
                device.newest_xids[use.instance] = str(int(value))
        elif use.signal == _RECENT_XIDS:
            device.recent_xids[use.instance, use.labels.get("xid", "")] = value
        else:
            (holder if use.choice.per_instance else device).take(use, value * use.choice.scale)

    def _is_blank(self, value: float) -> bool:
        blanks = self.adapter.blanks
        return not 0 <= value < blanks.at_least or value in blanks.exactly

    def _use(self, series: Series) -> _Use | None:
        if series in self._uses:
            return self._uses[series]
        if len(self._uses) > _ROWS:
            self._uses.clear()
        use = self._uses[series] = self._plan(series)
        return use

    def _plan(self, series: Series) -> _Use | None:
        signal, choice, rank = self._choices.get(series.name, ("", _XIDS, 0))
        found = dict(series.labels)
        labels = {what: _first(found, names) for what, names in self._spellings().items()}
        if not signal or not labels["uuid"]:
            return None
        instance = int(labels["instance"]) if labels["instance"].isdecimal() else None
        pods = {
            kind: Pod(found.get(names.namespace, ""), found[names.name], found.get(names.container, ""))
            for kind, names in enumerate(self.adapter.pods)
            if found.get(names.name)
        }
        return _Use(signal, choice, rank, labels["uuid"], instance, labels, pods)

    def _spellings(self) -> dict[str, Sequence[str]]:
        labels = self.adapter.labels
        return {what: getattr(labels, what) for what in labels.__struct_fields__}

    def _gpu(self, uuid: str, device: _Device, kind: int) -> Gpu:
        numbers = device.numbers()
        reasons = [signal for signal in numbers if signal.startswith(_THROTTLE)]
        throttle = {signal.removeprefix(_THROTTLE): numbers.pop(signal) for signal in reasons}
        memory = memory_of(device.name, self.adapter.memory_gigabytes)
        instances = tuple(_instance(uuid, gi, one, kind, memory) for gi, one in sorted(device.instances.items()))
        gpu = Gpu(
            uuid=uuid,
            index=device.index,
            name=device.name,
            throttle_seconds=throttle,
            xids=self._xids.count(uuid, device.newest_xids, device.recent_xids),
            instances=instances,
            pods=() if instances else _pods(device, kind),  # whoever holds a partitioned device holds instances of it
        )
        return replace(gpu, **numbers)

    def _complaint(self, page: Page) -> str:
        names = ", ".join(dict.fromkeys(series.name for series in page.layout[:3]))
        if any(series.name in self._choices for series in page.layout):
            spellings = " or ".join(self.adapter.labels.uuid)
            return f"no row of this page says which GPU it is of (no label {spellings})"
        seen = f"it has {names}" if names else "none of the GPUs' series is on it"
        port = self.adapter.endpoint.port
        return f"no page of {self.adapter.source}-exporter ({seen}); its page is /metrics on port {port}"


def _choices(adapter: DeviceAdapter) -> dict[str, tuple[str, Choice, int]]:
    """By sample name: which signal it shows, how, and how many names of that signal go before it."""
    tables: dict[str, Choice] = {
        **adapter.signals,
        **{_THROTTLE + reason: choice for reason, choice in adapter.throttles.items()},
        _NEWEST_XID: Choice(adapter.xids.newest),
        _RECENT_XIDS: Choice(adapter.xids.recent),
    }
    return {name: (signal, choice, rank) for signal, choice in tables.items() for rank, name in enumerate(choice.names)}


def _counts_more(new: _Value, old: _Value, of_many: str) -> bool:
    """Whether ``new`` is what to take of the two rows."""
    if of_many == "whole":
        return (new.is_whole, new.value) > (old.is_whole, old.value)
    return of_many == "largest" and new.value > old.value


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _new_device(use: _Use, position: int) -> _Device:
    index = use.labels["index"]
    return _Device(index=int(index) if index.isdecimal() else position, name=use.labels["name"])


def _instance(uuid: str, gi: int, one: _Holder, kind: int, memory: float | None) -> Instance:
    compute_slices, memory_slices = slices(one.profile, memory)
    instance = Instance(
        uuid=f"{uuid}/{gi}",
        gi=gi,
        profile=one.profile,
        compute_slices=compute_slices,
        memory_slices=memory_slices,
        pods=_pods(one, kind),
    )
    return replace(instance, **{signal: value for signal, value in one.numbers().items() if signal in _OF_INSTANCES})


def _pods(holder: _Holder, kind: int) -> tuple[Pod, ...]:
    return tuple(holder.pods.get(kind, {}).values())
