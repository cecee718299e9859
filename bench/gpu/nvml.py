"""NVIDIA's library by ctypes alone: a reading that shares no code with the agent's, nor with pynvml."""

from __future__ import annotations

import ctypes
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


class NoGpuError(Exception):
    """There is nothing to measure here; the message says why, and is to be shown to a person."""


class Failed(Exception):  # noqa: N818  a code to be shown, not a fault of ours
    """A call did not succeed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"NVML's return code {code}")
        self.code = code


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t."""

    _fields_ = (
        ("id", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("timestamp", ctypes.c_int64),
        ("latency", ctypes.c_int64),
        ("type", ctypes.c_uint32),
        ("code", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
    )

    @property
    def number(self) -> float:
        """The value, whatever its type; types 1, 5 and 6 are narrower than the field."""
        if self.type == 0:
            return float(ctypes.c_double.from_buffer_copy(ctypes.c_uint64(self.value)).value)
        return int(self.value) & (0xFFFFFFFF if self.type in {1, 5, 6} else 0xFFFFFFFFFFFFFFFF)


class Library:
    """The driver, opened. NoGpuError where there is none, or no GPU."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise NoGpuError(f"{LIBRARY} is not on this machine") from None
        code = self._library.nvmlInitWithFlags(0)
        if code:
            raise NoGpuError(f"the NVIDIA driver does not answer (NVML's return code {code})")
        count = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if not count.value:
            raise NoGpuError("the NVIDIA driver shows no GPU to this user or container")
        self.cards = [Card(self, index) for index in range(count.value)]

    def call(self, name: str, *args: Any) -> None:
        """A function by its name; Failed with its return code, 13 where the driver lacks it."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise Failed(13) from None
        code = function(*args)
        if code:
            raise Failed(code)

    def text(self, name: str, *args: Any) -> str:
        """A function that fills a buffer."""
        buffer = ctypes.create_string_buffer(96)
        self.call(name, *args, buffer, 96)
        return buffer.value.decode()


class Card:
    """One GPU."""

    def __init__(self, library: Library, index: int) -> None:
        self.library = library
        self.handle = ctypes.c_void_p()
        library.call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(self.handle))
        self.uuid = library.text("nvmlDeviceGetUUID", self.handle)
        self.name = library.text("nvmlDeviceGetName", self.handle)

    def number(self, name: str, *args: Any, kind: Any = ctypes.c_uint) -> float:
        """What a function writes to its last argument."""
        out = kind()
        self.library.call(name, self.handle, *args, ctypes.byref(out))
        return out.value

    def joules(self) -> float:
        """By the energy counter, since the driver was loaded."""
        return self.number("nvmlDeviceGetTotalEnergyConsumption", kind=ctypes.c_ulonglong) / 1000

    def watts(self) -> float:
        """By the power call that every driver has."""
        return self.number("nvmlDeviceGetPowerUsage") / 1000

    def field(self, number: int, scope: int = 0) -> float:
        """A field value."""
        value = FieldValue(id=number, scope=scope)
        self.library.call("nvmlDeviceGetFieldValues", self.handle, 1, ctypes.byref(value))
        if value.code:
            raise Failed(value.code)
        return value.number
