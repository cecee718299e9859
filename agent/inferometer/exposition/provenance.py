"""How the numbers of a workload were made, in one word and one sentence, from what the snapshot itself shows."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from inferometer.model import Account

MEASURED, BOUNDED, ASSUMED, ESTIMATED, MISSING = "measured", "bounded", "assumed", "estimated", "missing"

_FULL = 0.9  # in a short window the newest joules come one reading after their time


class Made(Struct, frozen=True):
    """``how``: measured, bounded, assumed, estimated or missing; ``why``: what it was made from, or how to have it."""

    how: str
    why: str


def provenance(of: Mapping[Account, float], currency: str, coverage: float | None) -> dict[str, Made]:
    """For cost, goodput, joules, idle and tokens, from all values and totals ``of`` one workload.

    ``coverage``: the share of its GPU time with metered energy.
    """
    held = len([name for name, _ in of if name == "inferometer_gpu_share_ratio"])
    return {
        "cost": _cost(of, currency, held),
        "idle": _idle(held),
        "goodput": _goodput(of),
        "joules": _joules(of, coverage),
        "tokens": Made(MEASURED, "Counted by the engines themselves, on their metrics pages."),
    }


def _gauge(of: Mapping[Account, float], wanted: str) -> float | None:
    return next((value for (name, _), value in of.items() if name == wanted), None)


def _cost(of: Mapping[Account, float], currency: str, held: int) -> Made:
    if _gauge(of, "inferometer_price_missing"):
        return Made(MISSING, "No price is configured: add --price.gpu-hour 2.50 or prices.default.")
    price = _gauge(of, "inferometer_gpu_hourly_price")
    rate = f"{price:g} {currency} per GPU-hour, as configured" if price is not None else "the configured price"
    if held:
        seen = "1 GPU" if held == 1 else f"{held} GPUs"
        return Made(MEASURED, f"GPU time held, seen on {seen}, idle time included, at {rate}.")
    return Made(ASSUMED, f"GPU time of as many GPUs as the configuration says, no GPU was seen, at {rate}.")


def _idle(held: int) -> Made:
    seen = "Money of time in which no token moved and no request ran, by the engines' counters"
    return Made(MEASURED, f"{seen} and the GPUs' activity.") if held else Made(MEASURED, f"{seen}.")


def _goodput(of: Mapping[Account, float]) -> Made:
    if _gauge(of, "inferometer_slo_objective_ratio") is None:
        return Made(MISSING, "No SLO is configured: add --slo.ttft 500ms --slo.tpot 50ms --slo.e2e 10s.")
    methods = {labels[2] for (name, labels), count in of.items() if name == "inferometer_slo_requests_total" and count}
    if methods == {"trace"}:
        return Made(MEASURED, "Every request judged by its own trace.")
    if methods:
        return Made(BOUNDED, "Histograms tell how many requests met each limit, not which: the truth is in the band.")
    return Made(BOUNDED, "No stretch of requests has ended yet; until then nothing can be judged.")


def _joules(of: Mapping[Account, float], coverage: float | None) -> Made:
    methods = {
        labels[3]
        for (name, labels), joules in of.items()
        if name == "inferometer_energy_joules_total" and labels[1] == "gpu" and joules > 0
    }
    if not methods:
        return Made(MISSING, "No meter: the agent sees no GPU of this workload that tells its power or energy.")
    meter = "the GPUs' energy counters" if "counter" in methods else "samples of the GPUs' power"
    if coverage is not None and coverage < _FULL:
        return Made(ESTIMATED, f"From {meter} for {coverage:.0%} of the time held; the rest is estimated or not seen.")
    return Made(MEASURED, f"From {meter}, over all tokens. GPUs only, without the host.")
