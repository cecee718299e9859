"""Signal by signal: what NVML returns for one GPU, and how long the call takes."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.gpu.nvml import Card, Failed

_ALL_LINKS = 0xFFFFFFFF
_MEMORY_V2 = 0x02000028
_GPM_SECONDS = 0.12  # its two samples must be 100 ms apart
_GPM_METRICS = {1: "graphics", 2: "SM", 5: "tensor", 10: "DRAM"}


class Answer(NamedTuple):
    """What one call gave, in NVML's own unit; ``code`` is NVML's where it failed."""

    signal: str
    value: float | None
    code: int
    p50_microseconds: float
    p99_microseconds: float


class _Memory(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint), *((n, ctypes.c_ulonglong) for n in ("total", "reserved", "free", "used")))


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Metric(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_uint),
        ("code", ctypes.c_uint),
        ("value", ctypes.c_double),
        ("info", ctypes.c_char_p * 3),
    )


class _Query(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint),
        ("count", ctypes.c_uint),
        ("first", ctypes.c_void_p),
        ("second", ctypes.c_void_p),
        ("metrics", _Metric * 512),
    )


def every(card: Card, calls: int = 200) -> Iterator[Answer]:
    """Each signal that the agent reads, called so often."""
    for signal, read in _signals(card).items():
        yield timed(signal, read, calls)
    yield from _activity(card)


def timed(signal: str, read: Callable[[], float], calls: int) -> Answer:
    """The last value; a call that is refused is refused at once and counts as any other."""
    seconds, value, code = [], None, 0
    for _ in range(calls):
        began = time.perf_counter()
        try:
            value, code = read(), 0
        except Failed as failure:
            value, code = None, failure.code
        seconds.append(time.perf_counter() - began)
    return Answer(signal, value, code, 1e6 * percentile(seconds, 0.5), 1e6 * percentile(seconds, 0.99))


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that is not below so great a part of them."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _signals(card: Card) -> dict[str, Callable[[], float]]:
    fields = {
        "power, mean of 1 s, GPU (mW)": (185, 0),
        "power, instant, GPU (mW)": (186, 0),
        "power, mean of 1 s, module (mW)": (185, 1),
        "power, instant, module (mW)": (186, 1),
        "power, mean of 1 s, memory (mW)": (185, 2),
        "energy, field 83 (mJ)": (83, 0),
        "energy, field 191 (mJ)": (191, 0),
        "memory temperature (°C)": (82, 0),
        "throttled by power (ns)": (74, 0),
        "throttled by heat (ns)": (75, 0),
        "throttled by software, heat (ns)": (269, 0),
        "throttled by hardware, heat (ns)": (270, 0),
        "throttled by power brake (ns)": (271, 0),
        "PCIe sent (B)": (197, 0),
        "PCIe received (B)": (198, 0),
        "NVLink sent (KiB)": (138, _ALL_LINKS),
        "NVLink sent, NVLink 5 (B)": (202, _ALL_LINKS),
    }
    return {
        "energy counter (mJ)": lambda: 1000 * card.joules(),
        "power (mW)": lambda: 1000 * card.watts(),
        "utilisation (%)": lambda: _utilisation(card),
        "memory used (B)": lambda: _memory_used(card),
        "temperature (°C)": lambda: card.number("nvmlDeviceGetTemperature", 0),
        "SM clock (MHz)": lambda: card.number("nvmlDeviceGetClockInfo", 1),
        "memory clock (MHz)": lambda: card.number("nvmlDeviceGetClockInfo", 2),
        "power limit (mW)": lambda: card.number("nvmlDeviceGetEnforcedPowerLimit"),
        "ECC errors": lambda: card.number("nvmlDeviceGetTotalEccErrors", 1, 0, kind=ctypes.c_ulonglong),
        "MIG mode": lambda: card.number("nvmlDeviceGetMigMode", ctypes.byref(ctypes.c_uint())),
        **{name: (lambda place=place: card.field(*place)) for name, place in fields.items()},
    }


def _utilisation(card: Card) -> float:
    rates = _Rates()
    card.library.call("nvmlDeviceGetUtilizationRates", card.handle, ctypes.byref(rates))
    return float(rates.gpu)


def _memory_used(card: Card) -> float:
    memory = _Memory(version=_MEMORY_V2)
    card.library.call("nvmlDeviceGetMemoryInfo_v2", card.handle, ctypes.byref(memory))
    return float(memory.used)


def _activity(card: Card) -> Iterator[Answer]:
    """GPM: how long a sample takes, and what is between two."""
    library, samples = card.library, [ctypes.c_void_p(), ctypes.c_void_p()]
    try:
        for sample in samples:
            library.call("nvmlGpmSampleAlloc", ctypes.byref(sample))
    except Failed as failure:
        yield Answer("activity (GPM)", None, failure.code, 0.0, 0.0)
        return

    def take(sample: ctypes.c_void_p) -> float:
        library.call("nvmlGpmSampleGet", card.handle, sample)
        return 0.0

    first = timed("activity, a sample", lambda: take(samples[0]), 1)
    yield first
    if not first.code:
        time.sleep(_GPM_SECONDS)
        yield timed("activity, another", lambda: take(samples[1]), 1)
        query = _Query(version=1, count=len(_GPM_METRICS), first=samples[0].value, second=samples[1].value)
        for place, number in enumerate(_GPM_METRICS):
            query.metrics[place].id = number
        done = timed("activity", lambda: library.call("nvmlGpmMetricsGet", ctypes.byref(query)) or 0.0, 1)
        for metric, name in zip(query.metrics, _GPM_METRICS.values(), strict=False):
            yield done._replace(signal=f"activity, {name} (%)", value=metric.value, code=done.code or metric.code)
    for sample in samples:
        library.call("nvmlGpmSampleFree", sample)
