"""One metric, as data: what it is called, how it is labelled, what it means and how it is computed."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
INFO: Final = "info"
Type = Literal["counter", "gauge", "histogram", "info"]


class Label(Struct, frozen=True):
    """A label: closed when it lists its ``values``; ``overlapping`` when sum() over it has no meaning."""

    name: str
    values: tuple[str, ...] = ()
    overlapping: bool = False


class Metric(Struct, frozen=True):
    """A metric of the catalog; ``labels`` stand in the order of the account's label values.

    ``type``: info is a gauge of constant 1 whose labels carry the content.
    ``unit``: base unit for people; empty for counts of nothing in particular, states and infos.
    ``help``: one sentence; ``formula``: how the value comes about.
    ``money``: amounts of the ledger's currency; rendered with the constant label ``currency``, which no account has.
    ``phase``: posted, or declared ahead of the code that posts it (such a metric has no samples yet).
    """

    name: str
    type: Type
    labels: tuple[Label, ...]
    unit: str
    help: str
    formula: str
    money: bool = False
    phase: Literal["posted", "declared"] = "posted"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names in account order, without ``currency``."""
        return tuple(label.name for label in self.labels)

    @property
    def family(self) -> str:
        """The name of the family in OpenMetrics, where counters lose their suffix."""
        return self.name.removesuffix("_total") if self.type == COUNTER else self.name

    @property
    def exposed_type(self) -> str:
        """The type in both text formats."""
        return GAUGE if self.type == INFO else self.type

    @property
    def additive(self) -> bool:
        """Whether samples that differ in labels other than the overlapping ones may be added."""
        return self.type in {COUNTER, HISTOGRAM}


class Subject(Struct, frozen=True):
    """Metrics about one thing, in the order in which they are shown."""

    title: str
    about: str
    metrics: tuple[Metric, ...]
