"""The language of adapter files for exporters of devices: which series show what about a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from inferometer.adapters.language import Endpoint, parse
from inferometer.errors import AdapterError

PARTS = ("memory_free_bytes", "memory_reserved_bytes", "ecc_corrected", "ecc_uncorrected")
"""Signals that are no field of a GPU: memory_total_bytes and ecc_errors are made of them."""

SIGNALS = (
    "power_watts", "energy_joules", "utilization_ratio", "activity_ratio", "sm_active_ratio", "tensor_active_ratio",
    "dram_active_ratio", "memory_used_bytes", "memory_total_bytes", "temperature_celsius",
    "memory_temperature_celsius", "sm_clock_hertz", "memory_clock_hertz", "power_limit_watts", "ecc_errors",
    "pcie_rx_bytes", "pcie_tx_bytes", "nvlink_rx_bytes", "nvlink_tx_bytes", *PARTS,
)  # fmt: skip


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """Series that show one signal: ``names``, of which the first that the page has is read.

    ``scale`` turns the page's unit into watts, joules, bytes, seconds, hertz or a ratio.
    ``per_instance``: a row of a MIG instance speaks of the instance; without it, it repeats its whole device's value.
    ``of_many``: which of a device's rows counts: the first, the largest, or the one of the whole device, which no pod
    is named on (the largest where each names one). ``zero_is_blank``: 0 is what stands there for no reading.
    """

    names: tuple[str, ...]
    scale: float = 1.0
    per_instance: bool = False
    of_many: Literal["first", "largest", "whole"] = "first"
    zero_is_blank: bool = False


class RowLabels(Struct, frozen=True, forbid_unknown_fields=True):
    """The labels that say what a row is about, each under the names that it goes by."""

    uuid: tuple[str, ...]
    index: tuple[str, ...]
    name: tuple[str, ...]
    driver: tuple[str, ...]
    instance: tuple[str, ...]
    profile: tuple[str, ...]
    xid: tuple[str, ...]


class PodLabels(Struct, frozen=True, forbid_unknown_fields=True):
    """The labels that together say which pod holds a device."""

    name: str
    namespace: str
    container: str


class Blanks(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers that mean "no reading": all from ``at_least`` on, and those in ``exactly``."""

    at_least: float
    exactly: frozenset[float] = frozenset()


class Xids(Struct, frozen=True, forbid_unknown_fields=True):
    """Series of XID errors: ``newest`` shows the newest one's number, ``recent`` counts a sliding window by number."""

    newest: tuple[str, ...]
    recent: tuple[str, ...]


class DeviceAdapter(Struct, frozen=True, forbid_unknown_fields=True):
    """One exporter of devices. ``pods``: kinds of pod labels, of which a page uses the first that it has anywhere.

    ``throttles``: seconds by reason. ``memory_gigabytes``: of models whose name does not tell.
    """

    source: str
    versions: str
    labels: RowLabels
    pods: tuple[PodLabels, ...]
    blanks: Blanks
    signals: dict[str, Choice]
    throttles: dict[str, Choice]
    xids: Xids
    memory_gigabytes: dict[str, float]
    endpoint: Endpoint = field(default_factory=Endpoint)

    @property
    def wanted(self) -> frozenset[str]:
        """Every sample name that this adapter reads."""
        choices = (*self.signals.values(), *self.throttles.values())
        return frozenset({*self.xids.newest, *self.xids.recent, *(name for c in choices for name in c.names)})


def load_devices(path: Path) -> DeviceAdapter:
    """Read one adapter file; AdapterError names the file, the key and the fault."""
    adapter = parse(path, DeviceAdapter)
    for signal in adapter.signals:
        if signal not in SIGNALS:
            raise AdapterError(f"{path}: signals.{signal}: no such signal; known are {', '.join(SIGNALS)}")
    return adapter
