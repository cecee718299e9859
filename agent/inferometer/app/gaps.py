"""How wide the buckets are that thresholds fall into: worked out once for an engine, and when its page changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inferometer.economics.goodput import bucket_gap
from inferometer.model import Account, EngineView


class _Known(NamedTuple):
    edges: Mapping[str, tuple[float, ...]]
    thresholds: Mapping[str, float]
    gaps: Mapping[str, tuple[Account, float]]


class Gaps:
    """Remembers those of the engines that were there the last time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    def values(
        self, views: Iterable[EngineView], thresholds: Mapping[str, Mapping[str, float]]
    ) -> dict[Account, float]:
        """The gauge of every engine and SLO; ``thresholds``: by workload. Beyond the last edge nothing is known."""
        before, self._known = self._known, {}
        by_workload: dict[str, list[_Known]] = {}
        for view in views:
            limits = thresholds.get(view.workload)
            if limits is None:
                continue
            known = before.get((view.workload, view.engine))
            if known is None or known.edges is not view.edges or known.thresholds != limits:
                known = _Known(view.edges, limits, _gaps(view, limits))
            self._known[view.workload, view.engine] = known
            by_workload.setdefault(view.workload, []).append(known)
        values: dict[Account, float] = {}
        for workload, limits in thresholds.items():
            for slo in limits:
                values.update(known.gaps[slo] for known in by_workload.get(workload, ()) if slo in known.gaps)
        return values


def _gaps(view: EngineView, thresholds: Mapping[str, float]) -> dict[str, tuple[Account, float]]:
    found: dict[str, tuple[Account, float]] = {}
    for slo in thresholds.keys() & view.edges.keys():
        gap = bucket_gap(view.edges[slo], thresholds[slo])
        if gap < float("inf"):
            found[slo] = (("inferometer_slo_bucket_gap_seconds", (view.workload, view.engine, slo)), gap)
    return found
