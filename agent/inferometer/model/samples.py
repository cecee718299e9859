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


class Page(Struct, frozen=True):
    """One reading of a /metrics page. ``error`` is empty when the page was read whole."""

    source: str
    at: float
    error: str = ""
    series: tuple[tuple[Series, float], ...] = ()
    malformed: int = 0
    seconds: float = 0.0
    detail: str = ""


Sample = Page | GpuReading | HostReading | Holdings | Pods | Export


class Batch(Struct, frozen=True):
    """What arrived together. Without samples it is a tick of the clock."""

    at: float
    wall: float
    samples: tuple[Sample, ...] = ()
