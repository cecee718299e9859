"""Sample: what a source read."""

from __future__ import annotations

from msgspec import Struct

from inferometer.model.gpus import GpuReading, Holdings, HostReading
from inferometer.model.pods import Pods
from inferometer.model.requests import Export
from inferometer.model.words import Labels


class Series(Struct, frozen=True, gc=False):
    """The name and labels of one line of a metrics page; labels in page order."""

    name: str
    labels: Labels


Layout = tuple[Series, ...]
"""The series of a page in page order: one object for as long as the pages of a target differ in their values only."""


class Page(Struct, frozen=True):
    """One reading of a /metrics page: a value for each series of its layout. ``error`` is empty when it is whole."""

    source: str
    at: float
    error: str = ""
    layout: Layout = ()
    values: tuple[float, ...] = ()
    malformed: int = 0
    seconds: float = 0.0
    detail: str = ""

    @property
    def series(self) -> tuple[tuple[Series, float], ...]:
        """Every series with its value."""
        return tuple(zip(self.layout, self.values, strict=True))


Sample = Page | GpuReading | HostReading | Holdings | Pods | Export


class Batch(Struct, frozen=True):
    """What arrived together. Without samples it is a tick of the clock."""

    at: float
    wall: float
    samples: tuple[Sample, ...] = ()
