"""Snapshot → /metrics, in the text format 0.0.4 and in OpenMetrics 1.0, families in catalog order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from inferometer.exposition.cache import Cache
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.gauges import numbers
from inferometer.exposition.metric import COUNTER, Metric
from inferometer.exposition.series import SeriesTexts
from inferometer.exposition.text import number
from inferometer.model import Account, Exemplar, Histogram, Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SERIES_AT_ONCE, _HISTOGRAMS_AT_ONCE = 512, 32  # each piece of a page is some 60 kB and made in a millisecond
_Value = TypeVar("_Value")
_Rows = list[tuple[Account, _Value]]


class Renderer:
    """Renders each snapshot at most once per format; keeps the escaped labels of the accounts it saw.

    An account whose name or number of labels the catalog does not know is left out, with one warning.
    ``process``: append ``process_*`` of this process; a replay wants none.
    """

    def __init__(self, *, process: bool = True) -> None:
        self._cache = Cache()
        self._series = SeriesTexts()
        self._registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=self._registry)

    def render(self, snapshot: Snapshot, *, openmetrics: bool = False) -> bytes:
        """The whole page, ``# EOF`` included where the format has it."""
        return self._cache.get(
            snapshot, _key(openmetrics=openmetrics), lambda: self._page(snapshot, openmetrics=openmetrics)
        )

    def compressed(self, snapshot: Snapshot, *, openmetrics: bool = False) -> bytes:
        """The same page in gzip."""
        return self._cache.compressed(
            snapshot, _key(openmetrics=openmetrics), lambda: self._page(snapshot, openmetrics=openmetrics)
        )

    def pieces(self, snapshot: Snapshot, *, openmetrics: bool = False) -> Iterator[bytes]:
        """The same page a piece at a time, each made when it is asked for; nothing of it is kept."""
        values = numbers(snapshot)
        yield b""  # which was a piece of work, too
        self._series.begin(snapshot.currency, len(values) + len(snapshot.histograms))
        single, histograms = _by_name(values), _by_name(snapshot.histograms)
        for name in (single.keys() | histograms.keys()) - CATALOG.keys():
            self._labels((single.get(name) or histograms[name])[0][0])
        yield b""
        created = snapshot.created if openmetrics else {}
        exemplars = snapshot.exemplars if openmetrics else {}
        for name, metric in CATALOG.items():
            header = _header(metric, openmetrics=openmetrics)
            for rows in _parts(single.get(name, ()), _SERIES_AT_ONCE):
                lines = self._samples(metric, rows, created if metric.type == COUNTER else {})
                if lines:
                    yield _text([*header, *lines])
                    header = []
            for more in _parts(histograms.get(name, ()), _HISTOGRAMS_AT_ONCE):
                lines = self._histograms(more, created, exemplars)
                if lines:
                    yield _text([*header, *lines])
                    header = []
        self._series.end()
        generate = generate_openmetrics if openmetrics else generate_latest
        yield generate(self._registry)

    def _page(self, snapshot: Snapshot, *, openmetrics: bool) -> bytes:
        return b"".join(self.pieces(snapshot, openmetrics=openmetrics))

    def _samples(self, metric: Metric, rows: _Rows[float], created: Mapping[Account, float]) -> list[str]:
        """Sample lines; what belongs to one label set stays together."""
        name, birth = metric.name, f"{metric.family}_created"
        lines = []
        for account, value in rows:
            labels = self._labels(account)
            if labels:
                lines.append(f"{name}{labels}{number(value)}")
                if account in created:
                    lines.append(f"{birth}{labels}{number(created[account])}")
        return lines

    def _histograms(
        self,
        rows: _Rows[Histogram],
        created: Mapping[Account, float],
        exemplars: Mapping[Account, Mapping[int, Exemplar]],
    ) -> list[str]:
        lines = []
        for account, histogram in rows:
            labels = self._labels(account)
            if labels and histogram.edges:
                shown = exemplars.get(account)
                lines.append(
                    self._series.with_exemplars(account, histogram, shown)
                    if shown
                    else self._series.histogram(account, histogram)
                )
                if account in created:
                    lines.append(f"{account[0]}_created{labels}{number(created[account])}")
        return lines

    def _labels(self, account: Account) -> str:
        labels = self._series.labels.get(account)
        return self._series.add(account) if labels is None else labels


def _by_name(table: Mapping[Account, _Value]) -> Mapping[str, _Rows[_Value]]:
    """The rows of a table by the name of the metric, in its order."""
    found: defaultdict[str, _Rows[_Value]] = defaultdict(list)
    for row in table.items():
        found[row[0][0]].append(row)
    return found


def _parts(rows: Iterable[tuple[Account, _Value]], most: int) -> Iterator[_Rows[_Value]]:
    """So many rows at a time."""
    rest = iter(rows)
    while part := list(islice(rest, most)):
        yield part


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _key(*, openmetrics: bool) -> str:
    return "openmetrics" if openmetrics else "text"


def _header(metric: Metric, *, openmetrics: bool) -> list[str]:
    """HELP and TYPE; UNIT only in OpenMetrics and only where the name ends in the unit."""
    name = metric.family if openmetrics else metric.name
    lines = [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.exposed_type}"]
    if openmetrics and metric.unit and name.endswith(f"_{metric.unit}"):
        lines.append(f"# UNIT {name} {metric.unit}")
    return lines
