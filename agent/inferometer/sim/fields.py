"""The field values of the simulated library: what of a card has a number and no call of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferometer.sim.codes import NOT_SUPPORTED, SUCCESS, target
from inferometer.sim.gpu import Card, Reading

_ALL_LINKS = 0xFFFFFFFF
_UINT32, _UINT64 = 1, 3
_PCIE_SENT_BYTES_PER_SECOND, _PCIE_RECEIVED_BYTES_PER_SECOND = 90e6, 310e6  # under full load
_NVLINK_KIB_PER_SECOND = 12_000.0

_Gauge = Callable[[Reading], float]
_GAUGES: dict[tuple[int, int], _Gauge] = {
    (185, 0): lambda reading: 1000 * reading.power_watts,
    (186, 0): lambda reading: 1000 * reading.power_watts,
    (82, 0): lambda reading: reading.celsius + 7,
}
_COUNTERS: dict[tuple[int, int], _Gauge] = {
    (74, 0): lambda reading: 1e9 * reading.capped_seconds,
    (75, 0): lambda _: 0,
    (197, 0): lambda reading: _PCIE_SENT_BYTES_PER_SECOND * reading.busy_seconds,
    (198, 0): lambda reading: _PCIE_RECEIVED_BYTES_PER_SECOND * reading.busy_seconds,
    (138, _ALL_LINKS): lambda reading: _NVLINK_KIB_PER_SECOND * reading.busy_seconds,
    (139, _ALL_LINKS): lambda reading: _NVLINK_KIB_PER_SECOND * reading.busy_seconds,
}


def field_values(card: Card, _count: Any, out: Any) -> int:
    """Fill in each field that was asked for; the call fails when none is known."""
    reading = card.read()
    codes = [_fill(field, reading) for field in target(out)]
    return SUCCESS if SUCCESS in codes or not codes else NOT_SUPPORTED


def _fill(field: Any, reading: Reading) -> int:
    number = (field.fieldId, field.scopeId)
    field.nvmlReturn = SUCCESS
    if number in _GAUGES:
        field.valueType, field.value.uiVal = _UINT32, round(_GAUGES[number](reading))
    elif number in _COUNTERS:
        field.valueType, field.value.ullVal = _UINT64, int(_COUNTERS[number](reading))
    else:
        field.nvmlReturn = NOT_SUPPORTED
    return int(field.nvmlReturn)
