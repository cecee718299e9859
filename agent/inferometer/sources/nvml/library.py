"""The binding of libnvidia-ml.so.1 and the meaning of its return codes. The only file that imports pynvml."""

from __future__ import annotations

from typing import Any

REASONS = ("no_library", "no_driver", "no_permission", "mismatch", "driver", "timeout", "released")
"""Every ``GpuReading.error``, beside ''. The first two are the normal state of a machine without a GPU."""

# NVML's return codes, which no release changed.
UNSUPPORTED = frozenset({2, 3, 4, 13, 25})  # InvalidArgument, NotSupported, NoPermission, FunctionNotFound, version
EMPTY_SLOT = frozenset({2, 6})  # of MIG devices: InvalidArgument and NotFound, both seen for slots between others
NO_EVENT = frozenset({10})  # Timeout
LOST = frozenset({15, 16})  # GpuIsLost, ResetRequired
FATAL = frozenset({1, 9, 18})  # Uninitialized, DriverNotLoaded, LibRmVersionMismatch
_FAULTS: dict[object, tuple[str, str]] = {
    12: ("no_library", "libnvidia-ml.so.1 is not on this machine or not in this container; GPU telemetry is off"),
    9: ("no_driver", "the NVIDIA driver is not loaded; GPU telemetry is off"),
    4: ("no_permission", "the GPU driver refuses this user or container"),
    18: ("mismatch", "the NVIDIA driver was upgraded under this process; restart the agent"),
}


def binding(stand_in: object | None = None) -> Any:
    """The module pynvml, which calls ``stand_in`` where one is given and else the machine's library.

    ImportError where it is not installed. The library itself is loaded by ``nvmlInit``, and looked for every time.
    """
    import pynvml  # noqa: PLC0415 - 70 ms that a machine without GPUs need not spend at start

    if stand_in is not None and pynvml.nvmlLib is not stand_in:
        pynvml.nvmlLib = stand_in
        pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - it would go on calling the library before
    return pynvml


def fault(error: Exception) -> tuple[str, str]:
    """Reason and sentence. Only the error's type is named: to spell an error out may call the driver again."""
    if isinstance(error, ImportError):
        return "no_library", "the Python package nvidia-ml-py is not installed; GPU telemetry is off"
    return _FAULTS.get(getattr(error, "value", None), ("driver", f"the GPU driver failed ({type(error).__name__})"))
