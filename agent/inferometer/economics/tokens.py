"""Who pays for what: a sum of money over token types (formulas §§4, 5), most trusted rule first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from inferometer.model import INPUT_CACHED, INPUT_UNCACHED, OUTPUT

MILLION = 1e6

Kind = TypeVar("Kind", bound=Hashable)


def per_million(money: float, tokens: float) -> float | None:
    """Money per million tokens; None where there are no tokens (formulas R0.3)."""
    return money / tokens * MILLION if tokens > 0 else None


def by_weights(money: float, tokens: Mapping[Kind, float], weights: Mapping[Kind, float]) -> dict[Kind, float]:
    """M4: in proportion to tokens × weight, by any kind of token. Empty where no token carries weight."""
    loads = {name: tokens.get(name, 0.0) * weight for name, weight in weights.items()}
    whole = sum(loads.values())
    return {name: money * (load / whole) for name, load in loads.items()} if whole > 0 else {}


def by_rates(money: float, tokens: Mapping[str, float], prefill: float, decode: float) -> dict[str, float]:
    """M3: in proportion to the GPU time that the tokens take at calibrated rates (tokens per second)."""
    return by_weights(money, tokens, {INPUT_UNCACHED: 1 / prefill, INPUT_CACHED: 0.0, OUTPUT: 1 / decode})


def by_gpu_time(
    rate_per_hour: float, prefill_seconds: float, decode_seconds: float, seconds: float
) -> dict[str, float]:
    """M2: money by measured busy seconds of each phase; the rest of ``seconds`` is idle."""
    idle = seconds - prefill_seconds - decode_seconds
    phases = {INPUT_UNCACHED: prefill_seconds, OUTPUT: decode_seconds, "idle": idle}
    return {name: rate_per_hour * busy / 3600 for name, busy in phases.items()}


def request_cost(price_per_million: Mapping[str, float], tokens: Mapping[str, float]) -> float:
    """Money of one answer: Σ price × tokens; reasoning tokens are output tokens (formulas §10)."""
    return sum(price_per_million[name] * count for name, count in tokens.items()) / MILLION


def per_correct_answer(cost_per_attempt: float, success_rate: float) -> float:
    """Money per correct answer when a wrong one is tried again (formulas §10)."""
    return cost_per_attempt / success_rate


def annual_factor(cost_before: float, cost_after: float, days: float) -> float:
    """How many times cheaper per year, from two costs ``days`` apart (formulas §10, trend)."""
    factor: float = (cost_before / cost_after) ** (365 / days)
    return factor
