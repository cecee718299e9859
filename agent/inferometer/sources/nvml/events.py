"""XID errors, which the driver tells once and does not keep."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

_MOST_AT_A_TIME = 1000  # a GPU that throws errors without end must not keep the reading from its end


class XidEvents:
    """Listens for errors of every GPU that was registered. ``free`` gives back what the driver holds for it."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._uuids: dict[int | None, str] = {}  # by the address behind the handle
        self._set: Any = None
        with contextlib.suppress(nvml.NVMLError):  # a driver without events has no errors to tell
            self._set = nvml.nvmlEventSetCreate()

    def register(self, handle: Any, uuid: str) -> None:
        """Hear of this GPU too, if it can be heard."""
        if self._set is None:
            return
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlDeviceRegisterEvents(handle, self._nvml.nvmlEventTypeXidCriticalError, self._set)
            self._uuids[_address(handle)] = uuid

    def drain(self) -> Iterator[tuple[str, int]]:
        """UUID and number of each error since the last time; it waits for none."""
        if not self._uuids:
            return
        for _ in range(_MOST_AT_A_TIME):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, 0)
            except self._nvml.NVMLError:  # Timeout: nothing more; any other failure shows on the GPU itself
                return
            uuid = self._uuids.get(_address(event.device))
            if uuid is not None and event.eventType == self._nvml.nvmlEventTypeXidCriticalError:
                yield uuid, event.eventData

    def free(self) -> None:
        """Give the event set back. To be done before the driver is closed."""
        if self._set is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(self._set)
        self._set, self._uuids = None, {}


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
