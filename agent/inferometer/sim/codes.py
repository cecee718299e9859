"""How a C function of the simulated library answers: by a return code, and by writing to its caller's memory."""

from __future__ import annotations

import ctypes
from typing import Any

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT, GPU_IS_LOST = 0, 1, 2, 3, 10, 15
TEXTS = {
    UNINITIALIZED: b"Uninitialized",
    NOT_SUPPORTED: b"Not Supported",
    TIMEOUT: b"Timeout",
    GPU_IS_LOST: b"GPU is lost",
}


def target(reference: Any) -> Any:
    """The object behind ``ctypes.byref(object)``."""
    return reference._obj  # noqa: SLF001  the only way back from byref


def point(reference: Any, number: int) -> None:
    """Write a pointer that is a number and nobody follows."""
    ctypes.c_void_p.from_buffer(target(reference)).value = number


def number_of(pointer: Any) -> int:
    """The number that ``point`` wrote."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
