"""The text of one series that does not change from page to page, kept between pages."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from inferometer.exposition.catalog import CATALOG, fault, known
from inferometer.exposition.text import braced, edge, number, pairs
from inferometer.model import Account, Exemplar, Histogram

_log = logging.getLogger(__name__)
_SPARE = 1024
_LAYOUTS = 256
_LABELS = "\0"  # where they go into the text of a layout, which has no such character


class _Counts(dict[float, str]):
    """Bucket counts as text; cumulative counts repeat, so most of a page's are made once."""

    def __missing__(self, count: float) -> str:
        text = self[count] = number(count)
        return text


class SeriesTexts:
    """``labels``: the text between name and value, by account; empty for accounts that are not declared.

    Bounded by the size of a page: accounts that went away are forgotten when the rest has doubled. Of histograms only
    their labels are kept; what their lines have in common is kept once for all that have the same edges.
    """

    def __init__(self) -> None:
        self.labels: dict[Account, str] = {}
        self._layouts: dict[tuple[str, tuple[float, ...]], str] = {}
        self._counts = _Counts()
        self._warned: set[str] = set()
        self._currency = ""

    def begin(self, currency: str, accounts: int) -> None:
        """Make room before a page of so many accounts."""
        self._counts.clear()
        if currency != self._currency or len(self.labels) > 2 * accounts + _SPARE:
            self.labels.clear()
            self._currency = currency

    def end(self) -> None:
        """The page is made; what only it needed is forgotten."""
        self._counts.clear()

    def add(self, account: Account) -> str:
        """The text of an account seen for the first time."""
        self.labels[account] = braced(self._inner(account)) if self._declared(account) else ""
        return self.labels[account]

    def histogram(self, account: Account, histogram: Histogram) -> str:
        """All lines of a histogram, of which the catalog knows the account."""
        labels = self.labels[account]
        counts = map(self._counts.__getitem__, histogram.counts)
        text = self._layout(account[0], histogram.edges) % (*counts, number(histogram.total), number(histogram.sum))
        return text.replace(_LABELS, labels[1:-2])

    def with_exemplars(self, account: Account, histogram: Histogram, exemplars: Mapping[int, Exemplar]) -> str:
        """The lines of a histogram, those of buckets with an exemplar followed by it (OpenMetrics only)."""
        lines = self.histogram(account, histogram).split("\n")
        for bucket, exemplar in exemplars.items():
            if bucket < len(histogram.edges):
                labels = pairs([("trace_id", exemplar.trace)])
                lines[bucket] += f" # {{{labels}}} {number(exemplar.value)} {number(exemplar.at)}"
        return "\n".join(lines)

    def _layout(self, name: str, edges: tuple[float, ...]) -> str:
        """The lines of such a histogram without labels and numbers."""
        layout = self._layouts.get((name, edges))
        if layout is None:
            if len(self._layouts) >= _LAYOUTS:  # edges that never repeat must not eat the memory
                self._layouts.clear()
            lines = [f'{name}_bucket{{{_LABELS},le="{edge(upper)}"}} %s' for upper in edges]
            layout = "\n".join([*lines, f"{name}_count{{{_LABELS}}} %s", f"{name}_sum{{{_LABELS}}} %s"])
            self._layouts[name, edges] = layout
        return layout

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
