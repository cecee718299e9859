"""What a MIG profile such as ``3g.40gb`` takes of its device, in the slices that the device is cut into."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PROFILE = re.compile(r"(\d+)g\.(\d+)gb")  # a compute instance within it goes before (1c.3g.40gb), extras after (+me)
_GIGABYTES = re.compile(r"(\d+) ?GB\b")
_MEMORY_SLICES = 8
_USUAL = {3: 4, 7: 8}  # memory slices of a profile with so many compute slices; 1, 2 and 4 have as many


def slices(profile: str, memory_gigabytes: float | None) -> tuple[int, int]:
    """Compute and memory slices of a profile on a device with so much memory; (0, 0) of a profile that is none."""
    match = _PROFILE.search(profile)
    if match is None:
        return 0, 0
    compute, gigabytes = int(match[1]), int(match[2])
    if memory_gigabytes is None:
        return compute, min(_USUAL.get(compute, compute), _MEMORY_SLICES)
    return compute, min(max(1, round(_MEMORY_SLICES * gigabytes / memory_gigabytes)), _MEMORY_SLICES)


def memory_of(model: str, known: Mapping[str, float]) -> float | None:
    """Gigabytes of a device by the name of its model: as ``known`` says, else by the number in it, else None."""
    for part, gigabytes in known.items():
        if part in model:
            return gigabytes
    match = _GIGABYTES.search(model)
    return float(match[1]) if match else None
