"""A simulated NVML library: what ``pynvml.nvmlLib`` may be instead of libnvidia-ml.so, for the real pynvml code.

pynvml looks functions up by name and keeps them in ``pynvml._nvmlGetFunctionPointer_cache``: clear that when one
library takes another's place. A name that is not here raises AttributeError, which pynvml reports as
NVMLError_FunctionNotFound.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from inferometer.sim.codes import (
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    NOT_SUPPORTED,
    SUCCESS,
    TEXTS,
    TIMEOUT,
    UNINITIALIZED,
    number_of,
    point,
    target,
)
from inferometer.sim.fields import field_values
from inferometer.sim.gpu import FULL_WATTS, MEMORY_BYTES, MEMORY_MEGAHERTZ, Card
from inferometer.sim.profiler import Profiler

DRIVER_VERSION, NVML_VERSION = b"570.86.15", b"12.570.86.15"
_FIRST_HANDLE, _EVENT_SET = 0x1000, 0x2000  # handles are numbers that nobody follows as pointers
_SM_CLOCK = 1


class Nvml:
    """``count`` GPUs on one driver; ``load(index)`` in 0..1 is asked at every reading. Safe to call from any thread.

    Its public methods are the controls; the ``nvml…`` functions of the C library are found by ``getattr`` only.
    """

    def __init__(self, count: int, load: Callable[[int], float], clock: Callable[[], float] = time.monotonic) -> None:
        self.cards = [Card(index, clock, partial(load, index)) for index in range(count)]
        self.profiler = Profiler()
        self._lock = threading.Lock()
        self._users = 0
        self._answers = threading.Event()
        self._answers.set()
        self._functions = self._table()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The C function of that name."""
        functions: dict[str, Callable[..., Any]] = self.__dict__.get("_functions", {})
        if name not in functions:
            raise AttributeError(name)
        return functions[name]

    def tick(self) -> None:
        """Look at the loads, so that energy follows them between readings."""
        with self._lock:
            for card in self.cards:
                card.read()

    def hang(self) -> None:
        """Every call blocks until ``resume``."""
        self._answers.clear()

    def resume(self) -> None:
        """Calls return again."""
        self._answers.set()

    # -- the library -------------------------------------------------------------------------------

    def _table(self) -> dict[str, Callable[..., Any]]:
        # A partial takes attributes, as a ctypes function does: pynvml sets restype on one.
        library: dict[str, Callable[..., Any]] = {
            "nvmlInitWithFlags": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlErrorString": lambda code: TEXTS.get(int(code), b"Unknown Error"),
            "nvmlSystemGetDriverVersion": partial(self._system_text, DRIVER_VERSION),
            "nvmlSystemGetNVMLVersion": partial(self._system_text, NVML_VERSION),
            "nvmlDeviceGetCount_v2": self._count,
            "nvmlDeviceGetHandleByIndex_v2": self._handle,
            "nvmlEventSetCreate": _event_set,
            "nvmlEventSetWait_v2": lambda *_: TIMEOUT,  # nothing ever breaks
            "nvmlEventSetFree": lambda _: SUCCESS,
            **self.profiler.functions(),
        }
        devices: dict[str, Callable[..., int]] = {
            "nvmlDeviceGetUUID": _uuid,
            "nvmlDeviceGetName": _name,
            "nvmlDeviceGetPowerUsage": _power_milliwatts,
            "nvmlDeviceGetTotalEnergyConsumption": _energy_millijoules,
            "nvmlDeviceGetUtilizationRates": _utilization,
            "nvmlDeviceGetMemoryInfo": _memory,
            "nvmlDeviceGetMemoryInfo_v2": _memory,
            "nvmlDeviceGetTemperature": _temperature,
            "nvmlDeviceGetTemperatureV": _temperature_struct,
            "nvmlDeviceGetEnforcedPowerLimit": _power_limit_milliwatts,
            "nvmlDeviceGetClockInfo": _clock_megahertz,
            "nvmlDeviceGetTotalEccErrors": _ecc_errors,
            "nvmlDeviceGetFieldValues": field_values,
            "nvmlDeviceRegisterEvents": lambda *_: SUCCESS,
            "nvmlDeviceGetMigMode": _mig_mode,
            **self.profiler.device_functions(),
        }
        calls: dict[str, Callable[..., Any]] = {name: partial(self._on_device, read) for name, read in devices.items()}
        return {name: partial(self._call, function) for name, function in (library | calls).items()}

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        self._answers.wait()
        with self._lock:
            return function(*args)

    def _init(self, _flags: Any) -> int:
        self._users += 1
        return SUCCESS

    def _shutdown(self) -> int:
        if not self._users:
            return UNINITIALIZED
        self._users -= 1
        return SUCCESS

    def _system_text(self, text: bytes, buffer: Any, _size: Any) -> int:
        if not self._users:
            return UNINITIALIZED
        buffer.value = text
        return SUCCESS

    def _count(self, out: Any) -> int:
        if not self._users:
            return UNINITIALIZED
        target(out).value = len(self.cards)
        return SUCCESS

    def _handle(self, index: Any, out: Any) -> int:
        if not self._users:
            return UNINITIALIZED
        if index.value >= len(self.cards):
            return INVALID_ARGUMENT
        point(out, _FIRST_HANDLE + index.value)
        return GPU_IS_LOST if self.cards[index.value].lost else SUCCESS

    def _on_device(self, read: Callable[..., int], handle: Any, *args: Any) -> int:
        if not self._users:
            return UNINITIALIZED
        index = number_of(handle) - _FIRST_HANDLE
        if not 0 <= index < len(self.cards):
            return INVALID_ARGUMENT
        card = self.cards[index]
        return GPU_IS_LOST if card.lost else read(card, *args)


def _uuid(card: Card, buffer: Any, _size: Any) -> int:
    buffer.value = card.uuid.encode()
    return SUCCESS


def _name(card: Card, buffer: Any, _size: Any) -> int:
    buffer.value = card.name.encode()
    return SUCCESS


def _power_milliwatts(card: Card, out: Any) -> int:
    target(out).value = round(1000 * card.read().power_watts)
    return SUCCESS


def _energy_millijoules(card: Card, out: Any) -> int:
    if not card.meters_energy:
        return NOT_SUPPORTED
    target(out).value = int(1000 * card.read().energy_joules)
    return SUCCESS


def _utilization(card: Card, out: Any) -> int:
    rates = target(out)
    load = card.read().load
    rates.gpu, rates.memory = round(100 * load), round(60 * load)
    return SUCCESS


def _memory(card: Card, out: Any) -> int:
    memory = target(out)
    memory.total, memory.used = MEMORY_BYTES, card.used_bytes
    memory.free = MEMORY_BYTES - card.used_bytes
    return SUCCESS


def _temperature(card: Card, _sensor: Any, out: Any) -> int:
    target(out).value = round(card.read().celsius)
    return SUCCESS


def _temperature_struct(card: Card, out: Any) -> int:
    target(out).temperature = round(card.read().celsius)
    return SUCCESS


def _power_limit_milliwatts(_card: Card, out: Any) -> int:
    target(out).value = round(1000 * FULL_WATTS)
    return SUCCESS


def _clock_megahertz(card: Card, clock: Any, out: Any) -> int:
    target(out).value = card.read().clock_megahertz if clock.value == _SM_CLOCK else MEMORY_MEGAHERTZ
    return SUCCESS


def _ecc_errors(_card: Card, _kind: Any, _since: Any, out: Any) -> int:
    target(out).value = 0
    return SUCCESS


def _mig_mode(_card: Card, current: Any, pending: Any) -> int:
    target(current).value = target(pending).value = 0
    return SUCCESS


def _event_set(out: Any) -> int:
    point(out, _EVENT_SET)
    return SUCCESS
