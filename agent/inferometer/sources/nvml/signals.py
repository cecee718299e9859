"""Signals that have a call of their own: each with its calls, the newer first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Call = Callable[[Any, Any], dict[str, float]]


def _energy(nvml: Any, handle: Any) -> dict[str, float]:
    return {"energy_joules": nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000}


def _power(nvml: Any, handle: Any) -> dict[str, float]:
    """The call that every driver has: a mean over 1 s on Ampere (but not A100) and newer, else of the instant."""
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


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


def _sm_clock(nvml: Any, handle: Any) -> dict[str, float]:
    return {"sm_clock_hertz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6}


def _memory_clock(nvml: Any, handle: Any) -> dict[str, float]:
    return {"memory_clock_hertz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6}


def _ecc(nvml: Any, handle: Any) -> dict[str, float]:
    """Since the driver was loaded, as all its counters are; the aggregate is of the card's whole life."""
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    return {"ecc_errors": float(nvml.nvmlDeviceGetTotalEccErrors(handle, kind, since))}


ENERGY: tuple[Call, ...] = (_energy,)
POWER: tuple[Call, ...] = (_power,)
MEMORY: tuple[Call, ...] = (_memory_v2, _memory_v1)  # v1, before 510, counts the driver's own memory as used
SIGNALS: tuple[tuple[Call, ...], ...] = (
    (_utilization,),
    MEMORY,
    (_temperature, _temperature_old),  # the old call is gone in CUDA 14
    (_power_limit,),
    (_sm_clock,),
    (_memory_clock,),
    (_ecc,),
)
