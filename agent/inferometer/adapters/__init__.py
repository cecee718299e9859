"""Adapters: a YAML file per engine says what its metrics and spans mean; Translator and SpanReader apply it.

``Devices`` does the same for pages that tell of GPUs, as ``dcgm`` says.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from inferometer.adapters.device_language import DeviceAdapter, load_devices
from inferometer.adapters.devices import Devices
from inferometer.adapters.language import Adapter, load
from inferometer.adapters.models import Models
from inferometer.adapters.spans import SpanReader
from inferometer.adapters.tenants import Tenants
from inferometer.adapters.translate import Translator, matches, recognised

__all__ = [
    "Adapter",
    "DeviceAdapter",
    "Devices",
    "Models",
    "SpanReader",
    "Tenants",
    "Translator",
    "builtin",
    "dcgm",
    "load",
    "load_devices",
    "matches",
    "recognised",
    "wanted",
]

_HERE = Path(__file__).parent
_OF_DEVICES = {"dcgm"}  # files in the other language


def builtin() -> dict[str, Adapter]:
    """The adapters of engines that ship with the package, by engine."""
    return {adapter.engine: adapter for adapter in _shipped()}


@functools.cache
def _shipped() -> tuple[Adapter, ...]:
    return tuple(load(path) for path in sorted(_HERE.glob("*.yaml")) if path.stem not in _OF_DEVICES)


@functools.cache
def dcgm() -> DeviceAdapter:
    """The adapter of NVIDIA's dcgm-exporter."""
    return load_devices(_HERE / "dcgm.yaml")


def wanted(adapters: Iterable[Adapter]) -> frozenset[str]:
    """The sample names that any of these adapters reads."""
    return frozenset().union(*(adapter.wanted for adapter in adapters))
