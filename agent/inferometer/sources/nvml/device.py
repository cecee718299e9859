"""One GPU: all that it gives, each signal asked for until it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from inferometer.model import Gpu, Instance
from inferometer.sources.nvml.activity import Activity
from inferometer.sources.nvml.counters import Rising
from inferometer.sources.nvml.fields import FIELDS, MODULE, THROTTLE, FieldReader, Value
from inferometer.sources.nvml.instances import Partition
from inferometer.sources.nvml.library import FATAL, LOST, UNSUPPORTED
from inferometer.sources.nvml.signals import ENERGY, POWER, SIGNALS, Call


class Past(Struct):
    """What of a GPU outlives its handle: errors counted, and counters that wrap. ``gpu`` is without readings."""

    gpu: Gpu
    xids: dict[str, float] = field(default_factory=dict)
    counters: dict[str, Rising] = field(default_factory=dict)

    def lost(self) -> Gpu:
        """The GPU as it is while it does not answer; which errors it had is then what is asked."""
        return replace(self.gpu, up=False, xids=dict(self.xids))


class Device:
    """A GPU's handle, and for each of its signals the calls that were not refused yet."""

    def __init__(self, nvml: Any, handle: Any, past: Past) -> None:
        self.past = past
        self._nvml, self._handle = nvml, handle
        self._energy, self._power = list(ENERGY), list(POWER)
        self._signals = [list(calls) for calls in SIGNALS]
        self._fields = FieldReader()
        self._activity = Activity(nvml, handle)
        self._partition = Partition(nvml, handle, past.gpu.uuid)
        for counter in past.counters.values():
            counter.reopened()

    def read(self, now: float) -> Gpu | None:
        """None when the GPU is lost: the driver says so, or it gives nothing though not everything is unsupported."""
        values: dict[str, Any] = {}
        is_failing = False
        for step in self._steps(values, now):
            try:
                values |= step()
            except self._nvml.NVMLError as error:
                if error.value in LOST:
                    return None
                if error.value in FATAL:
                    raise
                is_failing = True
        if not values and (is_failing or self._fields.is_failing):
            return None
        return replace(self.past.gpu, **values, xids=dict(self.past.xids))

    def free(self) -> None:
        """Give back what the driver holds. To be done before it is closed."""
        self._activity.free()

    def _steps(self, values: dict[str, Any], now: float) -> Iterator[Callable[[], dict[str, Any]]]:
        """Energy before anything else: it is what money is made of, and what follows may take long."""
        yield partial(self._first_supported, self._energy)
        yield self._field_values
        if not self._fields.offers("power_watts"):
            yield partial(self._first_supported, self._power)
        for calls in self._signals:
            yield partial(self._first_supported, calls)
        yield partial(self._activity.device, now)
        yield partial(self._instances, values.get("memory_total_bytes"), now)

    def _first_supported(self, calls: list[Call]) -> dict[str, float]:
        """The signal's values; {} when no call gives them. A refused call is made again only by a new Device."""
        while calls:
            try:
                return calls[0](self._nvml, self._handle)
            except AttributeError:  # an older binding does not know the call
                calls.pop(0)
            except self._nvml.NVMLError as error:
                if error.value not in UNSUPPORTED:
                    raise
                calls.pop(0)
        return {}

    def _field_values(self) -> dict[str, Any]:
        found = self._fields.read(self._nvml, self._handle)
        values: dict[str, Any] = {name: self._measured(name, value) for name, value in found.items() if name in FIELDS}
        power = found.get("power_watts")
        if power is not None and power.field.scope == MODULE:
            # A board that has no power of the GPU alone has no energy of it alone either.
            values |= {"power_scope": "module", "energy_scope": "module"}
        throttled = {name: value.scaled for name, value in found.items() if name in THROTTLE}
        return values | ({"throttle_seconds": throttled} if throttled else {})

    def _measured(self, name: str, value: Value) -> float:
        if not name.endswith("_bytes"):
            return value.scaled
        counter = self.past.counters.setdefault(name, Rising())
        return counter.add(value.raw, value.bits) * value.field.unit

    def _instances(self, device_bytes: float | None, now: float) -> dict[str, tuple[Instance, ...]]:
        found = self._partition.read(device_bytes)
        self._activity.keep(found)
        instances = tuple(
            replace(instance, **self._activity.instance(fingerprint, fingerprint.gi, now))
            for fingerprint, instance in found.items()
        )
        return {"instances": instances} if instances else {}
