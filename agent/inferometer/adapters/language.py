"""The language of adapter files: which series of an engine's page carry which signal. Variation is data, not code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from inferometer.adapters.traces import NUMBERS, Traces
from inferometer.composed import construct
from inferometer.errors import AdapterError
from inferometer.model import Series, Traits

COUNTERS = (
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "finished",
    "finished_ok",
    "finished_error",
    "finished_aborted",
    "rejected",
    "finished_output_tokens",
    "http_ended",
    "parents_finished",
    "prefill_seconds",
    "decode_seconds",
)
HISTOGRAMS = ("ttft", "tpot", "e2e")
PARTS = ("_bucket", "_sum", "_count")
ANY = "*"
GAUGES = ("running", "waiting", "kv_cache", "open_fds")
SIGNALS = (*COUNTERS, *HISTOGRAMS, *GAUGES)
COUNTED = {
    "first_output": "when the first token leaves",
    "per_step": "at every step",
    "per_chunk": "at every chunk",
    "finish": "when a request ends",
    "validation": "before a request is queued",
}
"""The words for ``Selector.counted``."""


T = TypeVar("T")


class Selector(Struct, frozen=True, forbid_unknown_fields=True):
    """Series that make up a signal.

    ``name``: sample name (histograms: base name); ``plus``: further names, added up.
    ``where`` keeps, ``unless`` drops series by label value; the value ``*`` is any that is not empty.
    ``copies``: labels over which the values are copies of one number, so that the largest counts instead of the sum.
    ``scale`` turns the page's unit into seconds, tokens or a ratio.
    ``ranges``: the label whose values are ranges such as ``200-500ms``: counters that make up a histogram.
    ``edges``: where all ranges end, in the page's unit: it leaves out those that nothing fell into.
    ``includes_cached``: these prompt tokens include the cached ones.
    ``counted``: when the engine counts, for the documentation.
    """

    name: str
    plus: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = {}
    unless: dict[str, tuple[str, ...]] = {}
    copies: tuple[str, ...] = ()
    scale: float = 1.0
    ranges: str = ""
    edges: tuple[float, ...] = ()
    includes_cached: bool = False
    counted: Literal["", "first_output", "per_step", "per_chunk", "finish", "validation"] = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that this selector reads."""
        return (self.name, *self.plus)

    def accepts(self, labels: dict[str, str]) -> bool:
        """Whether a series with these labels belongs to the signal."""
        return all(_has(labels, label, values) for label, values in self.where.items()) and not any(
            _has(labels, label, values) for label, values in self.unless.items()
        )


def _has(labels: dict[str, str], label: str, values: tuple[str, ...]) -> bool:
    value = labels.get(label, "")
    return value in values or (ANY in values and value != "")


class Detect(Struct, frozen=True, forbid_unknown_fields=True):
    """How a page shows which engine it is: any of these sample names on it.

    ``label``: a label that such a series has, ``without``: one that it does not have. ``yields_to``: engines whose
    own families this page may carry too, and which then are what the page is of.
    """

    any: tuple[str, ...]
    label: str = ""
    without: str = ""
    yields_to: tuple[str, ...] = ()

    def shown_by(self, series: Series) -> bool:
        """Whether this series shows the engine."""
        if series.name not in self.any:
            return False
        labels = {name for name, _ in series.labels}
        return (not self.label or self.label in labels) and (not self.without or self.without not in labels)


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an engine has its page, how it is switched on, and what not to touch. For people."""

    path: str = "/metrics"
    port: str = ""
    enabled_by: str = ""
    warning: str = ""


class _Traits(Traits, frozen=True, forbid_unknown_fields=True):
    """Traits as a file spells them: a misspelled one must not silently mean the default."""


class Adapter(Struct, frozen=True, forbid_unknown_fields=True):
    """One engine. Each signal lists alternatives, today's name first; the first that the page has is used.

    ``own``: the prefixes of the families that move only while the engine works. ``model``: the labels that may name
    the model. ``pulse``: series that are no signal and move while the engine works. ``tenants``: labels that may say
    who asked. ``notes``: by signal, why it is missing, what it costs, how to switch it on. ``bucket_flags``: by
    histogram, the engine's own flag that sets its edges. ``traces``: its spans, where it has any of requests.
    """

    engine: str
    versions: str
    detect: Detect
    own: tuple[str, ...]
    model: tuple[str, ...]
    counters: dict[str, tuple[Selector, ...]]
    histograms: dict[str, tuple[Selector, ...]] = {}
    gauges: dict[str, tuple[Selector, ...]] = {}
    traits: _Traits = _Traits()
    endpoint: Endpoint = Endpoint()
    notes: dict[str, str] = {}
    bucket_flags: dict[str, str] = {}
    pulse: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    process_start: str = "process_start_time_seconds"
    created: tuple[str, ...] = ()
    traces: Traces | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """Every sample name that this adapter reads; a page's other series need not be kept."""
        names = {self.process_start, *self.created, *self.detect.any, *self.pulse}
        for table in (self.counters, self.histograms, self.gauges):
            for selector in (s for alternatives in table.values() for s in alternatives):
                is_histogram = table is self.histograms and not selector.ranges
                names |= {name + part for name in selector.names for part in (PARTS if is_histogram else ("",))}
        return frozenset(names)


def parse(path: Path, kind: type[T]) -> T:
    """A YAML file as what it is meant to be; AdapterError names the file and the fault."""
    try:
        return msgspec.convert(construct(path.read_text(encoding="utf-8")), kind)
    except RecursionError:
        raise AdapterError(f"{path}: it contains itself; write it out without the alias") from None
    except (OSError, ValueError) as error:  # of which a fault of encoding, of YAML and of msgspec are kinds
        raise AdapterError(f"{path}: {error}") from error


def load(path: Path) -> Adapter:
    """Read one adapter file; AdapterError names the file, the key and the fault."""
    adapter = parse(path, Adapter)
    tables = (("counters", COUNTERS), ("histograms", HISTOGRAMS), ("bucket_flags", HISTOGRAMS), ("gauges", GAUGES))
    for table, known in tables:
        for signal in getattr(adapter, table):
            if signal not in known:
                raise AdapterError(f"{path}: {table}.{signal}: no such signal; known are {', '.join(known)}")
    for meaning in adapter.traces.numbers if adapter.traces is not None else ():
        if meaning not in NUMBERS:
            raise AdapterError(f"{path}: traces.numbers.{meaning}: no such number; known are {', '.join(NUMBERS)}")
    for signal in adapter.notes:
        if signal not in SIGNALS:
            raise AdapterError(f"{path}: notes.{signal}: no such signal; known are {', '.join(SIGNALS)}")
    return adapter
