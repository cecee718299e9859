"""Snapshot → /metrics, in the text format 0.0.4 and in OpenMetrics 1.0, families in catalog order."""

from __future__ import annotations

from collections import defaultdict

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from inferometer.exposition.cache import Cache
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.gauges import numbers
from inferometer.exposition.metric import COUNTER, Metric
from inferometer.exposition.series import SeriesTexts
from inferometer.exposition.text import number
from inferometer.model import Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_Blocks = dict[str, list[str]]


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

    def _page(self, snapshot: Snapshot, *, openmetrics: bool) -> bytes:
        blocks = self._blocks(snapshot, openmetrics=openmetrics)
        lines: list[str] = []
        for name, metric in CATALOG.items():
            if name in blocks:
                lines += _header(metric, openmetrics=openmetrics)
                lines += blocks[name]
        lines.append("")
        generate = generate_openmetrics if openmetrics else generate_latest
        return "\n".join(lines).encode("utf-8", "replace") + generate(self._registry)

    def _blocks(self, snapshot: Snapshot, *, openmetrics: bool) -> _Blocks:
        """Sample lines by metric name; what belongs to one label set stays together."""
        values = numbers(snapshot)
        created = snapshot.created if openmetrics else {}
        self._series.begin(snapshot.currency, len(values) + len(snapshot.histograms))
        blocks: _Blocks = defaultdict(list)
        known, add = self._series.labels, self._series.add
        for account, value in values.items():
            labels = known.get(account)
            if labels is None:
                labels = add(account)
            if labels:
                name = account[0]
                blocks[name].append(f"{name}{labels}{number(value)}")
                if account in created and CATALOG[name].type == COUNTER:
                    blocks[name].append(f"{CATALOG[name].family}_created{labels}{number(created[account])}")
        for account, histogram in snapshot.histograms.items():
            labels = known.get(account) or add(account)
            if labels and histogram.edges:
                exemplars = snapshot.exemplars.get(account) if openmetrics else None
                blocks[account[0]].append(
                    self._series.with_exemplars(account, histogram, exemplars)
                    if exemplars
                    else self._series.histogram(account, histogram)
                )
                if account in created:
                    blocks[account[0]].append(f"{account[0]}_created{labels}{number(created[account])}")
        return blocks


def _key(*, openmetrics: bool) -> str:
    return "openmetrics" if openmetrics else "text"


def _header(metric: Metric, *, openmetrics: bool) -> list[str]:
    """HELP and TYPE; UNIT only in OpenMetrics and only where the name ends in the unit."""
    name = metric.family if openmetrics else metric.name
    lines = [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.exposed_type}"]
    if openmetrics and metric.unit and name.endswith(f"_{metric.unit}"):
        lines.append(f"# UNIT {name} {metric.unit}")
    return lines
