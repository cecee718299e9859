"""What this machine's GPUs, driver and permissions allow, in sentences."""

from __future__ import annotations

from inferometer.model import Gpu, GpuReading


def machine(reading: GpuReading) -> list[str]:
    """The lines for one reading of the driver; a machine without GPUs has one that says why there are none."""
    if reading.error:
        return [f"  no GPU is read: {reading.detail or reading.error}"]
    driver = f"driver {reading.driver}"
    if not reading.gpus:
        return [f"  {driver}, but it shows no GPU to this user or container"]
    count = f"{len(reading.gpus)} GPU{'s' if len(reading.gpus) > 1 else ''}"
    return [f"  {count}, {driver}", *(f"  GPU {gpu.index}  {gpu.name}: {_energy(gpu)}" for gpu in reading.gpus)]


def _energy(gpu: Gpu) -> str:
    if not gpu.up:
        return "lost, or not to be read by this user or container"
    if gpu.energy_joules is not None:
        return "has an energy counter"
    why = "the GPU has none, or this user or container may not read it"
    if gpu.power_watts is None:
        return f"no energy counter ({why}) and no power, so no joules are counted"
    return f"no energy counter ({why}): joules are integrated from power samples"
