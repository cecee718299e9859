"""Signals that NVML gives as field values: all of a GPU's in one call, each with a return code of its own."""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

from inferometer.sources.nvml.library import FATAL, LOST, UNSUPPORTED

MODULE = 1  # NVML_POWER_SCOPE_MODULE: the GPU and the CPU on the same board
_ALL_LINKS = 0xFFFFFFFF
# nvmlFieldValue_t: id, scope, timestamp, latency, type and code, then the value, whose layout is that of its type. Read
# as bytes: the binding's structures take longer to look at than the driver takes to fill them.
_ANSWER = Struct("=IIqqII8s")
_VALUES = tuple(map(Struct, ("=d", "=I", "=Q", "=Q", "=q", "=i", "=H")))
_UINT32 = 1
_NANO, _MILLI, _KIB = 1e-9, 1e-3, 1024


class Field(NamedTuple):
    """One field: its number in nvml.h, which part of the device, and the factor to our unit."""

    id: int
    scope: int = 0
    unit: float = 1


class Value(NamedTuple):
    """What one field gave, before its unit; ``bits`` is the width of the counter behind it."""

    raw: float
    field: Field
    bits: int

    @property
    def scaled(self) -> float:
        """In our unit."""
        return float(self.raw * self.field.unit)


_AVERAGE, _INSTANT = 185, 186
FIELDS: dict[str, tuple[Field, ...]] = {
    # The mean over 1 s says more about an interval than one instant does; A100 has the instant only. Parts that put
    # CPU and GPU on one board may refuse the GPU's scope.
    "power_watts": tuple(Field(number, scope, _MILLI) for scope in (0, MODULE) for number in (_AVERAGE, _INSTANT)),
    "memory_temperature_celsius": (Field(82),),
    "pcie_tx_bytes": (Field(197),),
    "pcie_rx_bytes": (Field(198),),
    "nvlink_tx_bytes": (Field(138, _ALL_LINKS, _KIB), Field(202, _ALL_LINKS)),  # the second from NVLink 5 on
    "nvlink_rx_bytes": (Field(139, _ALL_LINKS, _KIB), Field(204, _ALL_LINKS)),
}
"""By the name in Gpu, the better field first."""

THROTTLE: dict[str, tuple[Field, ...]] = {
    "power": (Field(74, unit=_NANO),),
    "thermal": (Field(75, unit=_NANO),),
    "sync_boost": (Field(76, unit=_NANO),),
    "board_limit": (Field(77, unit=_NANO),),
    "low_utilization": (Field(78, unit=_NANO),),
    "reliability": (Field(79, unit=_NANO),),
    "software_thermal": (Field(269, unit=_NANO),),
    "hardware_thermal": (Field(270, unit=_NANO),),
    "power_brake": (Field(271, unit=_NANO),),
}
"""By reason: the time for which it held the clocks down, since the driver was loaded."""


class FieldReader:
    """Reads one GPU's fields; one that is refused is not asked for again. ``is_failing``: some failed this time."""

    def __init__(self) -> None:
        self.is_failing = False
        self._left = {name: list(fields) for name, fields in (FIELDS | THROTTLE).items()}

    def offers(self, name: str) -> bool:
        """Whether a field for this signal has not been refused yet."""
        return bool(self._left[name])

    def read(self, nvml: Any, handle: Any) -> dict[str, Value]:
        """The values by signal. NVMLError when the GPU or the driver is gone."""
        values: dict[str, Value] = {}
        self.is_failing = False
        asked = {name: fields[0] for name, fields in self._left.items() if fields}
        while asked:
            refused = {}
            for name, code, value in self._ask(nvml, handle, asked):
                if code in LOST or code in FATAL:
                    raise nvml.NVMLError(code)
                if code in UNSUPPORTED:
                    refused[name] = self._left[name].pop(0)
                elif value is None:
                    self.is_failing = True
                else:
                    values[name] = value
            asked = {name: self._left[name][0] for name in refused if self._left[name]}
        return values

    def _ask(self, nvml: Any, handle: Any, asked: dict[str, Field]) -> list[tuple[str, int, Value | None]]:
        """Return code and value of each. The call as a whole fails when all fields do, or the driver lacks it."""
        try:
            answers = nvml.nvmlDeviceGetFieldValues(handle, [(field.id, field.scope) for field in asked.values()])
        except nvml.NVMLError as error:
            return [(name, error.value, None) for name in asked]
        return [
            (name, code, None if code else _value(value, kind, field))
            for (name, field), (*_, kind, code, value) in zip(asked.items(), _ANSWER.iter_unpack(answers), strict=True)
        ]


def _value(value: bytes, kind: int, field: Field) -> Value:
    (raw,) = _VALUES[kind].unpack_from(value)
    return Value(raw, field, 32 if kind == _UINT32 else 64)
