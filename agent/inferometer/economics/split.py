"""Who pays: the money of one interval over token types, by the most trusted rule that it allows (formulas §5)."""

from __future__ import annotations

from collections.abc import Mapping

from inferometer.economics.policy import Policy
from inferometer.economics.tokens import by_rates, by_weights
from inferometer.model import INPUT_CACHED, INPUT_UNCACHED, OUTPUT, Interval

_INPUT = (INPUT_UNCACHED, INPUT_CACHED)
_SERVED = {"prefill": _INPUT, "decode": (OUTPUT,)}
Part = tuple[str, str, str]
"""Model, token type and method."""
Loads = dict[tuple[str, str], float]


def states(interval: Interval) -> dict[str, float]:
    """The share of the interval in each state: busy seconds that an engine reports, or GPUs that are measured, tell."""
    if interval.working is not None:
        return {"busy": interval.working, "idle": 1.0 - interval.working}
    if interval.state != "busy" or interval.phases is None or interval.seconds <= 0:
        return {interval.state: 1.0}
    busy = min(1.0, sum(interval.phases) / interval.seconds)
    return {"busy": busy, "idle": 1.0 - busy}


def split(interval: Interval, policy: Policy, money: float) -> dict[Part, float]:
    """All of ``money``: to the tokens that moved, else to idle or unassigned."""
    shares = states(interval)
    idle = money * shares.get("idle", 0.0)
    rest = money - idle
    parts = _assigned(interval, policy, rest) if shares.get("idle", 0.0) < 1 else {}
    if rest and not parts:
        parts["", "unassigned", "none"] = rest
    if idle:
        parts["", "idle", "none"] = idle
    return parts


def _assigned(interval: Interval, policy: Policy, money: float) -> dict[Part, float]:
    loads: Loads = {
        (model, kind): count
        for model, change in interval.models.items()
        for kind, count in (change.tokens if change.seen is None else change.seen).items()
    }
    if interval.role in _SERVED:
        return _phase(money, _only(loads, _SERVED[interval.role]), policy.weights, "pool")
    if interval.phases is not None and sum(interval.phases) > 0:
        parts = _by_phases(interval.phases, loads, policy.weights, money)
        if parts:
            return parts
    if policy.rates is not None:
        return _calibrated(loads, policy.rates, money)
    return _weighted(money, loads, policy.weights, "weights")


def _by_phases(
    phases: tuple[float, float], loads: Loads, weights: Mapping[str, float], money: float
) -> dict[Part, float]:
    """M2: prefill seconds pay for input, decode seconds for output; empty where either has no token to pay for."""
    prefill, decode = phases
    parts: dict[Part, float] = {}
    for seconds, kinds in ((prefill, _INPUT), (decode, (OUTPUT,))):
        paid = _phase(money * seconds / (prefill + decode), _only(loads, kinds), weights, "gpu_time")
        if seconds and not paid:
            return {}
        parts |= paid
    return parts


def _calibrated(loads: Loads, rates: tuple[float, float], money: float) -> dict[Part, float]:
    """M3, over all models together: they share the GPU."""
    cost = by_rates(1.0, dict.fromkeys((INPUT_UNCACHED, OUTPUT), 1.0), *rates)
    return _weighted(money, loads, {**cost, INPUT_CACHED: 0.0}, "calibrated")


def _phase(money: float, loads: Loads, weights: Mapping[str, float], method: str) -> dict[Part, float]:
    """One phase's money to its own tokens: by weights, and where these are all 0 by tokens, since it is theirs."""
    return _weighted(money, loads, weights, method) or _weighted(money, loads, dict.fromkeys(weights, 1.0), method)


def _weighted(money: float, loads: Loads, weights: Mapping[str, float], method: str) -> dict[Part, float]:
    shares = by_weights(money, loads, {where: weights[where[1]] for where in loads})
    return {(model, kind, method): part for (model, kind), part in shares.items()}


def _only(loads: Loads, kinds: tuple[str, ...]) -> Loads:
    return {where: count for where, count in loads.items() if where[1] in kinds}
