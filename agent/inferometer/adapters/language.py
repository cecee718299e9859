"""The language of adapter files: which series of an engine's page carry which signal. Variation is data, not code."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from inferometer.errors import AdapterError
from inferometer.model import Traits

COUNTERS = (
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "finished_ok",
    "finished_error",
    "finished_aborted",
    "rejected",
    "finished_output_tokens",
    "http_ended",
    "parents_finished",
)
HISTOGRAMS = ("ttft", "tpot", "e2e")
GAUGES = ("running", "waiting", "kv_cache", "open_fds")


class Selector(Struct, frozen=True, forbid_unknown_fields=True):
    """Series that make up a signal.

    ``name``: sample name (histograms: base name); ``plus``: further names, added up.
    ``where`` keeps, ``unless`` drops series by label value. ``copies``: labels over which the
    values are copies of one number, so that the largest counts instead of the sum.
    ``scale`` turns the page's unit into seconds, tokens or a ratio.
    """

    name: str
    plus: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = {}
    unless: dict[str, tuple[str, ...]] = {}
    copies: tuple[str, ...] = ()
    scale: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """All names that this selector reads."""
        return (self.name, *self.plus)

    def accepts(self, labels: dict[str, str]) -> bool:
        """Whether a series with these labels belongs to the signal."""
        return all(labels.get(label) in values for label, values in self.where.items()) and not any(
            labels.get(label) in values for label, values in self.unless.items()
        )


class Detect(Struct, frozen=True, forbid_unknown_fields=True):
    """How a page shows which engine it is: any of these sample names, with this label where one is named."""

    any: tuple[str, ...]
    label: str = ""


class _Traits(Traits, frozen=True, forbid_unknown_fields=True):
    """Traits as a file spells them: a misspelled one must not silently mean the default."""


class Adapter(Struct, frozen=True, forbid_unknown_fields=True):
    """One engine. Each signal lists alternatives, today's name first; the first that the page has is used."""

    engine: str
    versions: str
    detect: Detect
    own: str
    model: tuple[str, ...]
    counters: dict[str, tuple[Selector, ...]]
    histograms: dict[str, tuple[Selector, ...]] = {}
    gauges: dict[str, tuple[Selector, ...]] = {}
    traits: _Traits = _Traits()
    process_start: str = "process_start_time_seconds"
    created: tuple[str, ...] = ()

    @property
    def wanted(self) -> frozenset[str]:
        """Every sample name that this adapter reads; a page's other series need not be kept."""
        plain = [s for table in (self.counters, self.gauges) for alternatives in table.values() for s in alternatives]
        names = {name for selector in plain for name in selector.names}
        for alternatives in self.histograms.values():
            for base in (name for selector in alternatives for name in selector.names):
                names |= {f"{base}_bucket", f"{base}_sum", f"{base}_count"}
        return frozenset(names | {self.process_start, *self.created, *self.detect.any})


def load(path: Path) -> Adapter:
    """Read one adapter file; AdapterError names the file, the key and the fault."""
    try:
        adapter = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Adapter)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise AdapterError(f"{path}: {error}") from error
    for table, known in (("counters", COUNTERS), ("histograms", HISTOGRAMS), ("gauges", GAUGES)):
        for signal in getattr(adapter, table):
            if signal not in known:
                raise AdapterError(f"{path}: {table}.{signal}: no such signal; known are {', '.join(known)}")
    return adapter
