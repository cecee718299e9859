"""How the numbers of a workload were made, in one word and one sentence, from what the snapshot itself shows."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from inferometer.model import Account, Snapshot

MEASURED, BOUNDED, ASSUMED, ESTIMATED, MISSING = "measured", "bounded", "assumed", "estimated", "missing"

_FULL = 0.9  # in a short window the newest joules come one reading after their time


class Made(Struct, frozen=True):
    """``how``: measured, bounded, assumed, estimated or missing; ``why``: what it was made from, or how to have it."""

    how: str
    why: str


def provenance(snapshot: Snapshot, workload: str, coverage: float | None) -> dict[str, Made]:
    """For cost, goodput, joules, idle and tokens. ``coverage``: the share of GPU time with metered energy."""
    held = _held(snapshot, workload)
    return {
        "cost": _cost(snapshot, workload, held),
        "idle": _idle(held),
        "goodput": _goodput(snapshot, workload),
        "joules": _joules(snapshot, workload, coverage),
        "tokens": Made(MEASURED, "Counted by the engines themselves, on their metrics pages."),
    }


def _held(snapshot: Snapshot, workload: str) -> int:
    """On how many GPUs or instances that were seen the workload has a claim."""
    return len([labels for labels, _ in _series(snapshot, "inferometer_gpu_share_ratio") if labels[0] == workload])


def _cost(snapshot: Snapshot, workload: str, held: int) -> Made:
    if snapshot.values.get(("inferometer_price_missing", (workload,)), 0.0):
        return Made(MISSING, "No price is configured: add --price.gpu-hour 2.50 or prices.default.")
    price = snapshot.values.get(("inferometer_gpu_hourly_price", (workload,)))
    rate = f"{price:g} {snapshot.currency} per GPU-hour, as configured" if price is not None else "the configured price"
    if held:
        return Made(MEASURED, f"GPU time held, seen on {held} GPUs, idle time included, at {rate}.")
    return Made(ASSUMED, f"GPU time of as many GPUs as the configuration says, no GPU was seen, at {rate}.")


def _idle(held: int) -> Made:
    seen = "Money of time in which no token moved and no request ran, by the engines' counters"
    return Made(MEASURED, f"{seen} and the GPUs' activity.") if held else Made(MEASURED, f"{seen}.")


def _goodput(snapshot: Snapshot, workload: str) -> Made:
    if ("inferometer_slo_objective_ratio", (workload,)) not in snapshot.values:
        return Made(MISSING, "No SLO is configured: add --slo.ttft 500ms --slo.tpot 50ms --slo.e2e 10s.")
    methods = {labels[2] for labels, count in _judged(snapshot, workload) if count > 0}
    if methods == {"trace"}:
        return Made(MEASURED, "Every request judged by its own trace.")
    if methods:
        return Made(BOUNDED, "Histograms tell how many requests met each limit, not which: the truth is in the band.")
    return Made(BOUNDED, "No stretch of requests has ended yet; until then nothing can be judged.")


def _judged(snapshot: Snapshot, workload: str) -> Iterator[tuple[tuple[str, ...], float]]:
    return (
        (labels, count)
        for (name, labels), count in snapshot.totals.items()
        if name == "inferometer_slo_requests_total" and labels[0] == workload
    )


def _joules(snapshot: Snapshot, workload: str, coverage: float | None) -> Made:
    methods = {
        labels[3]
        for (name, labels), joules in snapshot.totals.items()
        if name == "inferometer_energy_joules_total" and labels[:2] == (workload, "gpu") and joules > 0
    }
    if not methods:
        return Made(MISSING, "No meter: the agent sees no GPU of this workload that tells its power or energy.")
    meter = "the GPUs' energy counters" if "counter" in methods else "samples of the GPUs' power"
    if coverage is not None and coverage < _FULL:
        return Made(ESTIMATED, f"From {meter} for {coverage:.0%} of the time held; the rest is estimated or not seen.")
    return Made(MEASURED, f"From {meter}, over all tokens. GPUs only, without the host.")


def _series(snapshot: Snapshot, wanted: str) -> Iterator[tuple[tuple[str, ...], float]]:
    values: dict[Account, float] = dict(snapshot.values)
    return ((labels, value) for (name, labels), value in values.items() if name == wanted)
