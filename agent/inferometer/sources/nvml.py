"""NVIDIA's driver through NVML. The only file that imports pynvml, and only when the first reading is made."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from inferometer.model import Gpu, GpuReading
from inferometer.sources.detached import detached

SOURCE = "nvml"
RETRY_SECONDS = 60.0
WATCHDOG_SECONDS = 5.0
REASONS = ("no_library", "no_driver", "no_permission", "mismatch", "driver", "timeout")
"""Every ``GpuReading.error``, beside ''. The first two are the normal state of a machine without a GPU."""

Call = Callable[[Any, Any], dict[str, float]]


def _power(nvml: Any, handle: Any) -> dict[str, float]:
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _energy(nvml: Any, handle: Any) -> dict[str, float]:
    return {"energy_joules": nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000}


def _utilization(nvml: Any, handle: Any) -> dict[str, float]:
    return {"utilization_ratio": nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100}


def _memory_v2(nvml: Any, handle: Any) -> dict[str, float]:
    return _memory(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))


def _memory_v1(nvml: Any, handle: Any) -> dict[str, float]:
    return _memory(nvml.nvmlDeviceGetMemoryInfo(handle))


def _memory(info: Any) -> dict[str, float]:
    return {"memory_used_bytes": float(info.used), "memory_total_bytes": float(info.total)}


def _temperature(nvml: Any, handle: Any) -> dict[str, float]:
    return {"temperature_celsius": float(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))}


def _temperature_old(nvml: Any, handle: Any) -> dict[str, float]:
    return {"temperature_celsius": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))}


def _power_limit(nvml: Any, handle: Any) -> dict[str, float]:
    return {"power_limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000}


# Each signal with its calls, the newer first. The energy counter stands first: it is what money is made of.
_SIGNALS: tuple[tuple[Call, ...], ...] = (
    (_energy,),
    (_power,),
    (_utilization,),
    (_memory_v2, _memory_v1),  # v1, for drivers before 510, counts the driver's own memory as used
    (_temperature, _temperature_old),  # the old call is gone in CUDA 14
    (_power_limit,),
)

# NVML's return codes, which no release changed.
_UNSUPPORTED = frozenset({2, 3, 4, 13, 25})  # InvalidArgument, NotSupported, NoPermission, FunctionNotFound, version
_LOST = frozenset({15, 16})  # GpuIsLost, ResetRequired
_FATAL = frozenset({1, 9, 18})  # Uninitialized, DriverNotLoaded, LibRmVersionMismatch
_FAULTS: dict[object, tuple[str, str]] = {
    12: ("no_library", "libnvidia-ml.so.1 is not on this machine or not in this container; GPU telemetry is off"),
    9: ("no_driver", "the NVIDIA driver is not loaded; GPU telemetry is off"),
    4: ("no_permission", "the GPU driver refuses this user or container"),
    18: ("mismatch", "the NVIDIA driver was upgraded under this process; restart the agent"),
}


class _Device:
    """One GPU's handle, and for each of its signals the calls that were not refused yet."""

    def __init__(self, handle: Any, gpu: Gpu) -> None:
        self.handle = handle
        self.gpu = gpu
        self.signals = [list(calls) for calls in _SIGNALS]


class Nvml:
    """Reads all visible GPUs. ``clock`` gives steady seconds; ``library`` stands in for libnvidia-ml.so.1.

    Not for the event loop: driver calls block and may hang (NvmlSource keeps them apart).
    """

    def __init__(self, clock: Callable[[], float], library: object | None = None) -> None:
        self.clock = clock
        self._library = library
        self._nvml: Any = None
        self._devices: list[_Device] | None = None  # None = the driver is not open
        self._known: dict[str, Gpu] = {}  # by UUID, without readings
        self._is_one_lost = False
        self._driver = ""
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
            gpus = self._read_gpus()
        except Exception as error:  # noqa: BLE001 - the driver may fail, the agent may not
            self._failure = _fault(error)
            self._drop()
        reason, detail = self._failure
        at = self.clock()
        return GpuReading(SOURCE, at, reason, gpus, self._driver, at - began, detail)

    def close(self) -> None:
        """Let go of the driver until the next read: a GPU that is held can be neither reset nor partitioned."""
        self._drop()
        self._opened_at = -math.inf

    def _is_due(self, now: float) -> bool:
        return (self._devices is None or self._is_one_lost) and now - self._opened_at >= RETRY_SECONDS

    def _open(self) -> None:
        self._drop()
        import pynvml  # noqa: PLC0415 - 70 ms that a machine without GPUs need not spend at start

        if self._library is not None and pynvml.nvmlLib is not self._library:
            pynvml.nvmlLib = self._library
            pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - it would go on calling the library before
        self._nvml = pynvml
        pynvml.nvmlInit()
        self._devices = []
        self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        self._failure = ("", "")
        for index in range(pynvml.nvmlDeviceGetCount()):
            self._add(index)

    def _add(self, index: int) -> None:
        nvml, devices = self._nvml, self._devices
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = Gpu(uuid=str(nvml.nvmlDeviceGetUUID(handle)), index=index, name=str(nvml.nvmlDeviceGetName(handle)))
        except nvml.NVMLError:
            return  # lost, or not ours to see; if it was seen before it is reported as lost
        if devices is not None:
            devices.append(_Device(handle, gpu))
            self._known[gpu.uuid] = gpu

    def _read_gpus(self) -> tuple[Gpu, ...]:
        if self._devices is None:
            return ()
        gpus = dict.fromkeys(self._known)
        for device in self._devices:
            gpus[device.gpu.uuid] = self._read_gpu(device)
        read = tuple(gpu or replace(self._known[uuid], up=False) for uuid, gpu in gpus.items())
        self._is_one_lost = any(not gpu.up for gpu in read)
        return read

    def _read_gpu(self, device: _Device) -> Gpu | None:
        """None when the GPU is lost: the driver says so, or it gives nothing though not everything is unsupported."""
        values: dict[str, float] = {}
        is_failing = False
        for calls in device.signals:
            try:
                values |= self._first_supported(calls, device.handle)
            except self._nvml.NVMLError as error:
                if error.value in _LOST:
                    return None
                if error.value in _FATAL:
                    raise
                is_failing = True
        return None if is_failing and not values else replace(device.gpu, **values)

    def _first_supported(self, calls: list[Call], handle: Any) -> dict[str, float]:
        """The signal's values; {} when no call gives them. A refused call is made again only after _open()."""
        while calls:
            try:
                return calls[0](self._nvml, handle)
            except AttributeError:  # an older binding does not know the call
                calls.pop(0)
            except self._nvml.NVMLError as error:
                if error.value not in _UNSUPPORTED:
                    raise
                calls.pop(0)
        return {}

    def _drop(self) -> None:
        was_open, self._devices, self._is_one_lost = self._devices is not None, None, False
        if was_open:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()


def _fault(error: Exception) -> tuple[str, str]:
    """Reason and sentence. Only the error's type is named: to spell an error out may call the driver again."""
    if isinstance(error, ImportError):
        return "no_library", "the Python package nvidia-ml-py is not installed; GPU telemetry is off"
    return _FAULTS.get(getattr(error, "value", None), ("driver", f"the GPU driver failed ({type(error).__name__})"))


class NvmlSource:
    """Readings off the event loop. A call that hangs is left behind, and no other is made until it comes back."""

    def __init__(self, nvml: Nvml, watchdog_seconds: float = WATCHDOG_SECONDS) -> None:
        self._nvml = nvml
        self._watchdog_seconds = watchdog_seconds
        self._call: asyncio.Future[GpuReading] | None = None

    async def read(self) -> GpuReading:
        """One reading, or error ``timeout`` after the watchdog's time, or at once while an earlier call still hangs."""
        began = self._nvml.clock()
        if self._call is None or self._call.done():
            self._call = detached(self._nvml.read, SOURCE)
            try:
                async with asyncio.timeout(self._watchdog_seconds):
                    return await asyncio.shield(self._call)
            except TimeoutError:
                pass
        at = self._nvml.clock()
        detail = f"a call to the GPU driver hangs (over {self._watchdog_seconds:g} s)"
        return GpuReading(SOURCE, at, "timeout", seconds=at - began, detail=detail)
