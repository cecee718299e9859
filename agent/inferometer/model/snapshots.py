"""Snapshot: the immutable state that every reader renders."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from inferometer.model.gpus import Gpu
from inferometer.model.histograms import Histogram
from inferometer.model.verdicts import Exemplar
from inferometer.model.words import Account


class EngineView(Struct, frozen=True):
    """The newest page of one engine, for people."""

    workload: str
    engine: str
    up: bool
    state: str = "unknown"
    kind: str = ""
    version: str = ""
    gauges: Mapping[tuple[str, str], float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class SourceView(Struct, frozen=True):
    """How one source is doing. ``source`` carries scheme, host and path only."""

    source: str
    up: bool
    read_seconds: float = 0.0
    last_success: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    detail: str = ""


class PriceView(Struct, frozen=True):
    """What one price is just now. ``source``: the configuration, or where it was read ``at`` (unix)."""

    name: str
    source: str
    gpu_hour: float | None = None
    at: float | None = None


class Snapshot(Struct, frozen=True):
    """All that is exposed, at one instant. ``totals`` and ``histograms`` are committed to the ledger."""

    wall: float
    totals: Mapping[Account, float] = field(default_factory=dict)
    created: Mapping[Account, float] = field(default_factory=dict)
    histograms: Mapping[Account, Histogram] = field(default_factory=dict)
    exemplars: Mapping[Account, Mapping[int, Exemplar]] = field(default_factory=dict)
    values: Mapping[Account, float] = field(default_factory=dict)
    engines: tuple[EngineView, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    sources: tuple[SourceView, ...] = ()
    hints: tuple[str, ...] = ()
    prices: tuple[PriceView, ...] = ()
    currency: str = "USD"
