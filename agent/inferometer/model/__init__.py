"""The nouns of the stream, in the order the data flows: Sample → Signal → Interval → Entry → Snapshot.

Units everywhere: seconds, joules, watts, bytes, tokens, money in the ledger's one currency.
``at`` is steady time (CLOCK_BOOTTIME live, the recorded time in a replay): it never steps.
``wall`` and ``until`` are unix time: only tariffs, calendars and people need it.
"""

from inferometer.model.entries import Entry
from inferometer.model.gpus import Domain, Gpu, GpuReading, Holdings, HostReading, Instance, Pod
from inferometer.model.histograms import Histogram
from inferometer.model.intervals import Energy, Interval, ModelChange, Recent, Stratum
from inferometer.model.pods import Pods, Role, ServingPod
from inferometer.model.requests import Export, Request, Traced
from inferometer.model.samples import Batch, Layout, Page, Sample, Series
from inferometer.model.shapes import NO_SERIES, Edges, Key, Pick, Shape, Sum, picked, shaped, summed
from inferometer.model.signals import EngineSignal, Signal, Traits
from inferometer.model.snapshots import EngineView, PriceView, Snapshot, SourceView
from inferometer.model.spans import SPAN_MEMORY_SECONDS, SPAN_OUTCOMES, Read, Span, Value, is_skewed
from inferometer.model.verdicts import Exemplar, Tally, Verdicts
from inferometer.model.words import (
    INPUT_CACHED,
    INPUT_UNCACHED,
    LATENCIES,
    OUTCOMES,
    OUTPUT,
    PER_ENGINE,
    REFUSALS,
    SLOS,
    STATES,
    TOKEN_TYPES,
    Account,
    Labels,
    by_workload,
    engine_of,
)

__all__ = [
    "INPUT_CACHED",
    "INPUT_UNCACHED",
    "LATENCIES",
    "NO_SERIES",
    "OUTCOMES",
    "OUTPUT",
    "PER_ENGINE",
    "REFUSALS",
    "SLOS",
    "SPAN_MEMORY_SECONDS",
    "SPAN_OUTCOMES",
    "STATES",
    "TOKEN_TYPES",
    "Account",
    "Batch",
    "Domain",
    "Edges",
    "Energy",
    "EngineSignal",
    "EngineView",
    "Entry",
    "Exemplar",
    "Export",
    "Gpu",
    "GpuReading",
    "Histogram",
    "Holdings",
    "HostReading",
    "Instance",
    "Interval",
    "Key",
    "Labels",
    "Layout",
    "ModelChange",
    "Page",
    "Pick",
    "Pod",
    "Pods",
    "PriceView",
    "Read",
    "Recent",
    "Request",
    "Role",
    "Sample",
    "Series",
    "ServingPod",
    "Shape",
    "Signal",
    "Snapshot",
    "SourceView",
    "Span",
    "Stratum",
    "Sum",
    "Tally",
    "Traced",
    "Traits",
    "Value",
    "Verdicts",
    "by_workload",
    "engine_of",
    "is_skewed",
    "picked",
    "shaped",
    "summed",
]
