"""Snapshot → the board: the few numbers that people look at, for the live page and ``inferometer top``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from inferometer.exposition.provenance import provenance
from inferometer.exposition.spending import Spending
from inferometer.model import Account, Gpu, Snapshot

GAUGES: dict[str, tuple[str, ...]] = {
    "cost_per_million_all": ("cost_per_million_tokens", "all", "allocation"),
    "cost_per_million_output": ("cost_per_million_tokens", "output", "allocation"),
    "goodput_ratio_lower": ("goodput_ratio_lower",),
    "goodput_ratio_upper": ("goodput_ratio_upper",),
    "goodput_per_second_lower": ("goodput_requests_per_second_lower",),
    "goodput_per_second_upper": ("goodput_requests_per_second_upper",),
    "joules_per_token": ("energy_per_token_joules", "all", "gpu"),
    "joules_per_output_token": ("energy_per_token_joules", "output", "gpu"),
    "busy_ratio": ("busy_ratio",),
    "power_watts": ("power_watts",),
    "energy_coverage_ratio": ("energy_coverage_ratio",),
}
"""What the board calls a gauge: its name without prefix, and its label values between workload and window."""

_NAMES = {("inferometer_" + name, labels): key for key, (name, *rest) in GAUGES.items() for labels in [tuple(rest)]}
_RATE = "inferometer_tokens_per_second"
_SHARE = "inferometer_gpu_share_ratio"
_ACTIVITY = {
    "activity_ratio": "share of time in which the compute engine worked",
    "sm_active_ratio": "share of time in which a multiprocessor had work, over all of them",
    "utilization_ratio": "share of time in which any kernel ran, however small",
}
"""What tells how active a GPU is, the best first, in words."""

WORKLOAD_COLUMNS = (
    "cost_per_million_all",
    "cost_per_million_output",
    "goodput_ratio_lower",
    "goodput_ratio_upper",
    "joules_per_token",
    "money_per_hour",
    "idle_ratio",
    "tokens_per_second",
)
GPU_COLUMNS = ("power_watts", "activity_ratio")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Board = dict[str, Any]


def windows(snapshot: Snapshot) -> dict[str, float]:
    """The windows of which the snapshot has numbers, the shortest first: seconds by label."""
    labels = {labels[-1] for name, labels in snapshot.values if name == _RATE}
    return dict(sorted(((label, _seconds(label)) for label in labels), key=lambda pair: pair[1]))


def _seconds(label: str) -> float:
    return float(label[:-1]) * _UNITS[label[-1]]


def board(snapshot: Snapshot, spending: Spending, interval_seconds: float) -> Board:
    """All of it, for JSON. A number that is not there is absent; no key of a window is ever a zero for want of one."""
    found = _found(snapshot, spending)
    names = sorted(found.keys() | {view.workload for view in snapshot.engines})
    known = _by_workload(snapshot)
    return {
        "wall": snapshot.wall,
        "currency": snapshot.currency,
        "interval_seconds": interval_seconds,
        "windows": list(windows(snapshot)),
        "workloads": [_workload(snapshot, name, known.get(name, {}), found.get(name, {})) for name in names],
        "gpus": [gpu_row(gpu, holders) for gpu, holders in _held(snapshot)],
        "sources": snapshot.sources,
        "hints": snapshot.hints,
    }


def outline(snapshot: Snapshot, spending: Spending) -> Board:
    """As much of a board as the history takes."""
    found = _found(snapshot, spending)
    names = sorted(found.keys() | {view.workload for view in snapshot.engines})
    return {
        "windows": list(windows(snapshot)),
        "workloads": [{"name": name, "windows": found.get(name, {})} for name in names],
        "gpus": [gpu_row(gpu, []) for gpu in snapshot.gpus],
    }


def encode(made: Board) -> bytes:
    """The board as JSON on one line."""
    return msgspec.json.encode(made)


def _found(snapshot: Snapshot, spending: Spending) -> dict[str, dict[str, dict[str, float]]]:
    """The numbers of every workload and window."""
    seconds = windows(snapshot)
    found = _numbers(snapshot.values)
    for workload, by_window in found.items():
        for window, numbers in by_window.items():
            rate = spending.rate(workload, seconds.get(window, 0.0))
            if rate is not None:
                numbers["money_per_hour"] = rate.money_per_hour
                if rate.idle_ratio is not None:
                    numbers["idle_ratio"] = rate.idle_ratio
    return found


def _numbers(values: Mapping[Account, float]) -> dict[str, dict[str, dict[str, float]]]:
    """By workload, window and key; tokens per second of all types added up."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, labels), value in values.items():
        key = "tokens_per_second" if name == _RATE else _NAMES.get((name, labels[1:-1]))
        if key is not None and len(labels) > 1:
            numbers = found.setdefault(labels[0], {}).setdefault(labels[-1], {})
            numbers[key] = numbers.get(key, 0.0) + value if name == _RATE else value
    return found


def _by_workload(snapshot: Snapshot) -> dict[str, dict[Account, float]]:
    """Values and totals under their first label, which is the workload wherever there is one."""
    found: dict[str, dict[Account, float]] = {}
    for table in (snapshot.values, snapshot.totals):
        for account, value in table.items():
            if account[1]:
                found.setdefault(account[1][0], {})[account] = value
    return found


def _workload(
    snapshot: Snapshot, name: str, of: Mapping[Account, float], by_window: Mapping[str, Mapping[str, float]]
) -> Board:
    views = [view for view in snapshot.engines if view.workload == name]
    shortest = by_window[min(by_window, key=_seconds)] if by_window else {}
    slos = {labels[1]: value for (metric, labels), value in of.items() if metric == "inferometer_slo_threshold_seconds"}
    return {
        "name": name,
        "windows": by_window,
        "made": provenance(of, snapshot.currency, shortest.get("energy_coverage_ratio")),
        "slo_seconds": slos,
        "engines": [{"name": v.engine, "up": v.up, "state": v.state, "kind": v.kind} for v in views],
    }


def _held(snapshot: Snapshot) -> Iterable[tuple[Gpu, list[str]]]:
    """Every GPU with the workloads that hold of it."""
    holders: dict[str, set[str]] = {}
    for name, labels in snapshot.values:
        if name == _SHARE:
            holders.setdefault(labels[1], set()).add(labels[0])
    for gpu in snapshot.gpus:
        yield gpu, sorted(holders.get(gpu.uuid, ()))


def gpu_row(gpu: Gpu, holders: list[str]) -> Board:
    """One GPU: power and activity, and what that activity means; a reading that it does not give is null."""
    of = next((name for name in _ACTIVITY if getattr(gpu, name) is not None), None)
    return {
        "uuid": gpu.uuid,
        "index": gpu.index,
        "name": gpu.name,
        "up": gpu.up,
        "workloads": holders,
        "power_watts": gpu.power_watts if gpu.up else None,
        "power_limit_watts": gpu.power_limit_watts,
        "activity_ratio": getattr(gpu, of) if of and gpu.up else None,
        "activity_of": _ACTIVITY[of] if of else "",
        "memory_used_bytes": gpu.memory_used_bytes,
        "memory_total_bytes": gpu.memory_total_bytes,
        "temperature_celsius": gpu.temperature_celsius,
        "instances": len(gpu.instances),
    }


def columns(made: Board) -> dict[str, dict[str, Mapping[str, float | None]]]:
    """What the history takes of a board: numbers of the shortest window, and the GPUs."""
    shortest = made["windows"][0] if made["windows"] else ""
    workloads = {row["name"]: row["windows"].get(shortest, {}) for row in made["workloads"]}
    return {"workloads": workloads, "gpus": {row["uuid"]: row for row in made["gpus"]}}
