"""Snapshot → the JSON of /api/v1/snapshot, derived from accounts by the label names of the catalog."""

from __future__ import annotations

from typing import Any

import msgspec

from inferometer.exposition.catalog import CATALOG, known, labels
from inferometer.exposition.gauges import Numbers, numbers
from inferometer.exposition.metric import COUNTER, Metric
from inferometer.exposition.text import edge
from inferometer.model import Account, EngineView, Histogram, Snapshot

_PREFIX = "inferometer_"
_Tree = dict[str, Any]


def snapshot_json(snapshot: Snapshot, *, metrics: bool = True) -> bytes:
    """The whole snapshot; without ``metrics`` only what is rolled up per workload.

    ``workloads.NAME.totals.METRIC``: a counter's ``total`` and its sums by each closed label;
    ``workloads.NAME.now.METRIC`` and ``.windows.WINDOW.METRIC``: gauges, nested by their other labels' values.
    METRIC has neither prefix nor ``_total`` there. A number that is not finite is null.
    """
    values = {account: value for account, value in numbers(snapshot).items() if known(account)}
    body: _Tree = {
        "wall": snapshot.wall,
        "currency": snapshot.currency,
        "workloads": _workloads(values),
        "engines": [_engine(view) for view in snapshot.engines],
        "gpus": snapshot.gpus,
        "sources": snapshot.sources,
        "hints": snapshot.hints,
        "prices": snapshot.prices,
    }
    if metrics:
        body["metrics"] = _metrics(values, snapshot)
    return msgspec.json.encode(body)


def _metrics(values: Numbers, snapshot: Snapshot) -> _Tree:
    """Every sample by metric name, as in /metrics."""
    found: _Tree = {}
    for account, value in values.items():
        found.setdefault(account[0], []).append({"labels": labels(account), "value": value})
    for account, histogram in snapshot.histograms.items():
        if known(account):
            found.setdefault(account[0], []).append({"labels": labels(account), **_histogram(histogram)})
    return found


def _histogram(histogram: Histogram) -> _Tree:
    buckets = [[edge(upper), count] for upper, count in zip(histogram.edges, histogram.counts, strict=True)]
    return {"count": histogram.total, "sum": histogram.sum, "buckets": buckets}


def _workloads(values: Numbers) -> _Tree:
    """What is known per workload; metrics of single engines are summed (counters) or left out (gauges)."""
    found: _Tree = {}
    for account, value in values.items():
        metric, named = CATALOG[account[0]], labels(account)
        name = named.pop("workload", None)
        if name is None:
            continue
        workload = found.setdefault(name, {"totals": {}, "now": {}, "windows": {}})
        if metric.type == COUNTER:
            _roll_up(workload["totals"].setdefault(_short(metric), {}), metric, account, value)
        elif "engine" not in named:
            window = named.pop("window", None)
            place = workload["windows"].setdefault(window, {}) if window else workload["now"]
            _nest(place, [_short(metric), *named.values()], value)
    return found


def _roll_up(sums: _Tree, metric: Metric, account: Account, value: float) -> None:
    """Add to the total and to the sums by each closed label; where a label overlaps, to the sums by that one alone."""
    overlapping = [label for label in metric.labels if label.overlapping]
    if not overlapping:
        sums["total"] = sums.get("total", 0.0) + value
    for label, content in zip(metric.labels, account[1], strict=True):
        if label in overlapping or (label.values and not overlapping):
            by = sums.setdefault(label.name, {})
            by[content] = by.get(content, 0.0) + value


def _nest(place: _Tree, path: list[str], value: float) -> None:
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value


def _short(metric: Metric) -> str:
    return metric.family.removeprefix(_PREFIX)


def _engine(view: EngineView) -> _Tree:
    """Edges are written like ``le``, because JSON has no infinity."""
    gauges = [{"signal": signal, "model": model, "value": value} for (signal, model), value in view.gauges.items()]
    edges = {latency: [edge(upper) for upper in uppers] for latency, uppers in view.edges.items()}
    return {**msgspec.structs.asdict(view), "gauges": gauges, "edges": edges}
