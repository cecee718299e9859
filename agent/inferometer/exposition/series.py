"""The text of one series that does not change from page to page, kept between pages."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from msgspec import Struct

from inferometer.exposition.catalog import CATALOG, fault, known
from inferometer.exposition.text import braced, edge, number, pairs
from inferometer.model import Account, Exemplar, Histogram

_log = logging.getLogger(__name__)
_SPARE = 1024


class _HistogramText(Struct):
    """What a histogram looks like: the template for its edges, and what was made of it last."""

    edges: tuple[float, ...]
    template: str
    shown: Histogram | None = None
    text: str = ""


class _Counts(dict[float, str]):
    """Bucket counts as text; cumulative counts repeat, so most of a page's are made once."""

    def __missing__(self, count: float) -> str:
        text = self[count] = number(count)
        return text


class SeriesTexts:
    """``labels``: the text between name and value, by account; empty for accounts that are not declared.

    Bounded by the size of a page: accounts that went away are forgotten when the rest has doubled.
    """

    def __init__(self) -> None:
        self.labels: dict[Account, str] = {}
        self._histograms: dict[Account, _HistogramText] = {}
        self._counts = _Counts()
        self._warned: set[str] = set()
        self._currency = ""

    def begin(self, currency: str, accounts: int) -> None:
        """Make room before a page of so many accounts."""
        self._counts.clear()
        if currency != self._currency or len(self.labels) > 2 * accounts + _SPARE:
            self.labels.clear()
            self._histograms.clear()
            self._currency = currency

    def add(self, account: Account) -> str:
        """The text of an account seen for the first time."""
        self.labels[account] = braced(self._inner(account)) if self._declared(account) else ""
        return self.labels[account]

    def histogram(self, account: Account, histogram: Histogram) -> str:
        """All lines of a histogram; those of one that did not change are not made anew."""
        entry = self._histograms.get(account)
        if entry is None or entry.edges != histogram.edges:
            entry = self._histograms[account] = _HistogramText(
                histogram.edges, self._template(account, histogram.edges)
            )
        if entry.shown is not histogram:
            counts = map(self._counts.__getitem__, histogram.counts)
            entry.shown = histogram
            entry.text = entry.template % (*counts, number(histogram.total), number(histogram.sum))
        return entry.text

    def with_exemplars(self, account: Account, histogram: Histogram, exemplars: Mapping[int, Exemplar]) -> str:
        """The lines of a histogram, those of buckets with an exemplar followed by it (OpenMetrics only)."""
        lines = self.histogram(account, histogram).split("\n")
        for bucket, exemplar in exemplars.items():
            if bucket < len(histogram.edges):
                labels = pairs([("trace_id", exemplar.trace)])
                lines[bucket] += f" # {{{labels}}} {number(exemplar.value)} {number(exemplar.at)}"
        return "\n".join(lines)

    def _template(self, account: Account, edges: tuple[float, ...]) -> str:
        name, inner = account[0], self._inner(account).replace("%", "%%")
        lines = [f'{name}_bucket{{{inner},le="{edge(upper)}"}} %s' for upper in edges]
        return "\n".join([*lines, f"{name}_count{{{inner}}} %s", f"{name}_sum{{{inner}}} %s"])

    def _inner(self, account: Account) -> str:
        metric = CATALOG[account[0]]
        named = [*zip(metric.label_names, account[1], strict=True)]
        return pairs([*named, ("currency", self._currency)] if metric.money else named)

    def _declared(self, account: Account) -> bool:
        name = account[0]
        declared = known(account)
        if not declared and name not in self._warned:
            self._warned.add(name)
            _log.warning("a series is left out of the page", extra={"metric": name, "reason": fault(account)})
        return declared
