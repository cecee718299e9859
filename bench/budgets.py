"""The budgets that the project has set itself, and whether what was measured keeps within them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from bench import result
from bench.freshness import Freshness
from bench.growth import Growth, Point
from bench.peers import Peers, Row
from bench.scale import Loads
from bench.sidecar import Sidecars
from bench.start import Starts
from bench.subjects import AGENT

_SETTLED_RATIO = 0.2  # of the cycles: what is cached fills up before


class Budget(Struct, frozen=True):
    """At most ``limit`` of a unit; ``measured``: None where it never was."""

    what: str
    limit: float
    unit: str
    measured: float | None

    def row(self) -> list[str]:
        """As a table has it."""
        limit = f"≤ {self.limit:g} {self.unit}"
        if self.measured is None:
            return [self.what, limit, "never", ""]
        digits = 0 if self.limit >= 50 else 2
        kept = "kept" if self.measured <= self.limit else "**exceeded**"
        return [self.what, limit, f"{self.measured:.{digits}f} {self.unit}", kept]


def budgets(results: Path) -> list[list[str]]:
    """Every budget as a row."""
    found = [*_peers(results), *_sidecar(results), *_scale(results), *_growth(results), *_start(results)]
    return [budget.row() for budget in found]


def _peers(results: Path) -> Iterator[Budget]:
    kept = result.kept(results, "peers", Peers)
    rows = [row for row in kept.rows if (row.targets, row.every, row.page) == (50, 1.0, "vllm")] if kept else []
    for name, limit, title in (("vmagent", 0.5, "vmagent"), ("prometheus", 0.4, "Prometheus")):
        what = f"CPU per page, 50 engines at 1 s, of {title}'s"
        yield Budget(what, limit, "×", _ratio(rows[0], name) if rows else None)


def _ratio(row: Row, other: str) -> float | None:
    if AGENT not in row.trials or other not in row.trials:
        return None
    pairs = zip(row.trials[AGENT], row.trials[other], strict=True)
    return statistics.median(ours.cpu_seconds_per_page / theirs.cpu_seconds_per_page for ours, theirs in pairs)


def _sidecar(results: Path) -> Iterator[Budget]:
    kept = result.kept(results, "sidecar", Sidecars)
    runs = list(kept.trials.values()) if kept else []
    share = statistics.median(run.core_ratio * 100 for run in runs[1]) if runs else None
    yield Budget("1 engine and 8 GPUs at 1 s, of a core", 1, "%", share)
    for place, limit, title in ((1, 55, ""), (2, 64, ", with OTLP over gRPC")):
        memory = statistics.median(run.resident_bytes / 1e6 for run in runs[place]) if runs else None
        yield Budget(f"1 engine and 8 GPUs at 1 s, resident{title}", limit, "MB", memory)


def _scale(results: Path) -> Iterator[Budget]:
    kept = result.kept(results, "scale", Loads)
    load = next((load for load in kept.loads if load.title.startswith("1,000")), None) if kept else None
    yield Budget("1,000 engines at 15 s, of a core", 25, "%", None if load is None else load.core_ratio * 100)
    yield Budget("1,000 engines at 15 s, resident", 250, "MB", None if load is None else load.resident_bytes / 1e6)
    yield Budget("1,000 engines at 15 s, /metrics p99", 50, "ms", None if load is None else load.answer_p99 * 1e3)


def _growth(results: Path) -> Iterator[Budget]:
    kept = result.kept(results, "growth", Growth)
    if kept is None:
        yield Budget("CPU per page with many targets, of that with few", 1.1, "×", None)
        yield Budget("memory gained in 100,000 cycles", 1, "MB", None)
        return
    few, many = kept.trials[AGENT][0].cpu_seconds_per_page, kept.trials[AGENT][-1].cpu_seconds_per_page
    cycles = kept.uptime[-1].cycles
    yield Budget(f"CPU per page with {kept.targets[-1]} targets, of that with {kept.targets[0]}", 1.1, "×", many / few)
    yield Budget(f"memory gained in {cycles:,.0f} cycles", 1, "MB", gained(kept.uptime) / 1e6)


def gained(uptime: Sequence[Point]) -> float:
    """Bytes between the means of the first and the last fifth of the time after caches have filled."""
    settled = [point.resident_bytes for point in uptime if point.cycles >= _SETTLED_RATIO * uptime[-1].cycles]
    part = max(1, len(settled) // 5)
    return statistics.mean(settled[-part:]) - statistics.mean(settled[:part])


def _start(results: Path) -> Iterator[Budget]:
    fresh = result.kept(results, "freshness", Freshness)
    late = statistics.quantiles(fresh.seconds, n=100, method="inclusive")[98] * 1e3 if fresh else None
    yield Budget("a change on /metrics after its page was read, p99", 100, "ms", late)
    starts = result.kept(results, "start", Starts)
    seconds = statistics.median(run.seconds for run in starts.runs) if starts else None
    yield Budget("exec to the first complete /metrics", 1, "s", seconds)
