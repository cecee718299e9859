"""What meters of hardware show: GPUs and their instances, hosts, and which pods hold which devices.

None is a reading that the device does not give, not a zero. Units: watts, joules, bytes, seconds, hertz, ratios.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field


class Pod(Struct, frozen=True):
    """A pod that holds a device, as labels or the kubelet tell it."""

    namespace: str
    name: str
    container: str = ""


class Instance(Struct, frozen=True):
    """One MIG GPU instance. Power and energy are metered for the whole device only.

    ``uuid``: the instance's own (MIG-…) where the driver tells it, else the device's UUID and the instance's id.
    ``gi``: the instance's id on its device, which is given again after a reconfiguration.
    ``activity_ratio``: the share of the instance's own time in which its engine worked.
    """

    uuid: str
    gi: int
    profile: str = ""
    compute_slices: int = 0
    memory_slices: int = 0
    activity_ratio: float | None = None
    sm_active_ratio: float | None = None
    tensor_active_ratio: float | None = None
    dram_active_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    pods: tuple[Pod, ...] = ()


class Gpu(Struct, frozen=True):
    """One GPU as its driver or dcgm-exporter reports it.

    ``power_scope``, ``energy_scope``: gpu, or module where the meter takes in the CPU on the same board.
    ``throttle_seconds``: by reason, since the driver was loaded; reasons overlap. ``xids``: errors by number, counted.
    """

    uuid: str
    index: int
    name: str = ""
    driver: str = ""
    up: bool = True
    power_watts: float | None = None
    power_scope: str = "gpu"
    energy_joules: float | None = None
    energy_scope: str = "gpu"
    utilization_ratio: float | None = None
    activity_ratio: float | None = None
    sm_active_ratio: float | None = None
    tensor_active_ratio: float | None = None
    dram_active_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    power_limit_watts: float | None = None
    throttle_seconds: Mapping[str, float] = field(default_factory=dict)
    xids: Mapping[str, float] = field(default_factory=dict)
    ecc_errors: float | None = None
    pcie_rx_bytes: float | None = None
    pcie_tx_bytes: float | None = None
    nvlink_rx_bytes: float | None = None
    nvlink_tx_bytes: float | None = None
    instances: tuple[Instance, ...] = ()
    pods: tuple[Pod, ...] = ()


class GpuReading(Struct, frozen=True):
    """One reading of all visible GPUs. ``source``: nvml or dcgm; ``error`` is empty when it answered.

    ``driver``, ``library``: the versions of the NVIDIA driver and of the NVML library that speaks with it.
    """

    source: str
    at: float
    error: str = ""
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    seconds: float = 0.0
    detail: str = ""
    library: str = ""


class Domain(Struct, frozen=True):
    """One energy counter of the host: a package or its memory. It wraps to 0 after ``range_joules``; 0 = not known."""

    name: str
    energy_joules: float
    range_joules: float = 0.0


class HostReading(Struct, frozen=True):
    """One reading of the host's energy counters, none of which is part of another."""

    source: str
    at: float
    error: str = ""
    domains: tuple[Domain, ...] = ()
    seconds: float = 0.0
    detail: str = ""


class Holdings(Struct, frozen=True):
    """Which pods hold which devices, as the kubelet allots them.

    ``pods``: by the UUID of a GPU (GPU-…) or an instance (MIG-…). ``replicas``: into how many a GPU is time-sliced.
    """

    source: str
    at: float
    error: str = ""
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    detail: str = ""
