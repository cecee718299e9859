"""All GPUs of one driver: opened, read, let go of, and opened anew when something was lost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

from inferometer.model import Gpu, GpuReading
from inferometer.sources.nvml.device import Device, Past
from inferometer.sources.nvml.events import XidEvents
from inferometer.sources.nvml.library import binding, fault

SOURCE = "nvml"
RETRY_SECONDS = 60.0


class Nvml:
    """Reads all visible GPUs. ``clock`` gives steady seconds; ``library`` stands in for libnvidia-ml.so.1.

    Not for the event loop: driver calls block and may hang (NvmlSource keeps them apart).
    """

    def __init__(self, clock: Callable[[], float], library: object | None = None) -> None:
        self.clock = clock
        self._stand_in = library
        self._nvml: Any = None
        self._devices: list[Device] | None = None  # None = the driver is not open
        self._events: XidEvents | None = None
        self._known: dict[str, Past] = {}  # by UUID
        self._is_one_lost = False
        self._driver = self._library = ""
        self._failure = ("", "")
        self._opened_at = -math.inf  # the newest attempt

    def read(self) -> GpuReading:
        """All GPUs seen so far, lost ones with up=False. Never raises; what fails is tried anew once a minute."""
        began = self.clock()
        gpus: tuple[Gpu, ...] = ()
        try:
            if self._is_due(began):
                self._opened_at = began
                self._open()
            gpus = self._read_gpus(began)
        except Exception as error:  # noqa: BLE001 - the driver may fail, the agent may not
            self._failure = fault(error)
            self._drop()
        reason, detail = self._failure
        at = self.clock()
        return GpuReading(SOURCE, at, reason, gpus, self._driver, at - began, detail, self._library)

    def close(self) -> None:
        """Let go of the driver until the next read: a GPU that is held can be neither reset nor partitioned."""
        self._drop()
        self._opened_at = -math.inf

    def _is_due(self, now: float) -> bool:
        return (self._devices is None or self._is_one_lost) and now - self._opened_at >= RETRY_SECONDS

    def _open(self) -> None:
        self._drop()
        self._nvml = nvml = binding(self._stand_in)
        nvml.nvmlInit()
        self._devices, self._events = [], XidEvents(nvml)
        self._driver = str(nvml.nvmlSystemGetDriverVersion())
        with contextlib.suppress(nvml.NVMLError):
            self._library = str(nvml.nvmlSystemGetNVMLVersion())
        self._failure = ("", "")
        for index in range(nvml.nvmlDeviceGetCount()):
            self._add(self._devices, self._events, index)

    def _add(self, devices: list[Device], events: XidEvents, index: int) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = Gpu(uuid=str(nvml.nvmlDeviceGetUUID(handle)), index=index, name=str(nvml.nvmlDeviceGetName(handle)))
        except nvml.NVMLError:
            return  # lost, or not ours to see; if it was seen before it is reported as lost
        past = self._known.setdefault(gpu.uuid, Past(gpu))
        past.gpu = gpu
        devices.append(Device(nvml, handle, past))
        events.register(handle, gpu.uuid)

    def _read_gpus(self, now: float) -> tuple[Gpu, ...]:
        if self._devices is None or self._events is None:
            return ()
        for uuid, xid in self._events.drain():
            counts = self._known[uuid].xids
            counts[str(xid)] = counts.get(str(xid), 0.0) + 1
        gpus: dict[str, Gpu | None] = dict.fromkeys(self._known)
        for device in self._devices:
            gpus[device.past.gpu.uuid] = device.read(now)
        read = tuple(gpu or self._known[uuid].lost() for uuid, gpu in gpus.items())
        self._is_one_lost = any(not gpu.up for gpu in read)
        return read

    def _drop(self) -> None:
        devices, events, self._devices, self._events = self._devices, self._events, None, None
        self._is_one_lost = False
        if devices is None:
            return
        with contextlib.suppress(Exception):  # a driver that fails here is gone, and took along what it held
            for device in devices:
                device.free()
            if events is not None:
                events.free()
            self._nvml.nvmlShutdown()
