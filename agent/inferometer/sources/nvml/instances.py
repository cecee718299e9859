"""The instances of a GPU that is partitioned (MIG)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from inferometer.model import Instance
from inferometer.sources.nvml.library import EMPTY_SLOT, FATAL, LOST, UNSUPPORTED
from inferometer.sources.nvml.signals import MEMORY

_PROFILE = re.compile(r"MIG (\S+)$")  # of a name such as "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
_MEMORY_SLICES = 8


class Fingerprint(NamedTuple):
    """What tells an instance from another that was given the same id later."""

    gi: int
    uuid: str
    compute_slices: int
    multiprocessors: int
    memory_mib: int


class Partition:
    """Enumerates one GPU's instances; a GPU or driver that has none is not asked again."""

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        self._nvml, self._handle, self._uuid = nvml, handle, uuid
        self._is_supported = True

    def read(self, device_bytes: float | None) -> dict[Fingerprint, Instance]:
        """Every instance, without activity. ``device_bytes``: the whole GPU's memory, which slices are parts of."""
        found: dict[Fingerprint, Instance] = {}
        seen: set[int] = set()
        for handle in self._handles():
            gi = self._try(self._nvml.nvmlDeviceGetGpuInstanceId, handle)
            if gi is None or gi in seen:
                continue  # a second compute instance of the same GPU instance, which has no memory of its own
            seen.add(gi)
            fingerprint = self._fingerprint(handle, gi)
            found[fingerprint] = Instance(
                uuid=fingerprint.uuid,
                gi=gi,
                profile=self._profile(handle, fingerprint),
                compute_slices=fingerprint.compute_slices,
                memory_slices=_slices(fingerprint.memory_mib, device_bytes),
                **self._memory(handle),
            )
        return found

    def _handles(self) -> Iterator[Any]:
        """The instances' handles. Slots are sparse: between two that are there some may be empty."""
        for slot in range(self._slots()):
            try:
                yield self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, slot)
            except self._nvml.NVMLError as error:
                if error.value not in EMPTY_SLOT:
                    raise

    def _slots(self) -> int:
        """0 where the GPU is whole."""
        if not self._is_supported:
            return 0
        try:
            current, _pending = self._nvml.nvmlDeviceGetMigMode(self._handle)
            return int(self._nvml.nvmlDeviceGetMaxMigDeviceCount(self._handle)) if current else 0
        except self._nvml.NVMLError as error:
            if error.value not in UNSUPPORTED:
                raise
            self._is_supported = False
            return 0

    def _fingerprint(self, handle: Any, gi: int) -> Fingerprint:
        uuid = str(self._try(self._nvml.nvmlDeviceGetUUID, handle) or f"{self._uuid}/{gi}")
        shape = self._try(self._nvml.nvmlDeviceGetAttributes_v2, handle)
        if shape is None:
            return Fingerprint(gi, uuid, 0, 0, 0)
        return Fingerprint(gi, uuid, shape.gpuInstanceSliceCount, shape.multiprocessorCount, shape.memorySizeMB)

    def _profile(self, handle: Any, shape: Fingerprint) -> str:
        """As the driver names it; drivers that do not name it give what the name is made of."""
        named = _PROFILE.search(str(self._try(self._nvml.nvmlDeviceGetName, handle) or ""))
        if named:
            return named[1]
        return f"{shape.compute_slices}g.{math.floor(shape.memory_mib / 1024 + 0.5)}gb" if shape.compute_slices else ""

    def _memory(self, handle: Any) -> dict[str, Any]:
        return next((values for call in MEMORY if (values := self._try(call, self._nvml, handle))), {})

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        """None where the driver does not say; an instance may be taken apart while it is looked at."""
        try:
            return call(*args)
        except self._nvml.NVMLError as error:
            if error.value in LOST or error.value in FATAL:
                raise
            return None


def _slices(memory_mib: int, device_bytes: float | None) -> int:
    """Of the eight parts of a GPU's memory; 0 = not known."""
    return round(_MEMORY_SLICES * memory_mib * 2**20 / device_bytes) if device_bytes else 0
