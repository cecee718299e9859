"""What one answer takes, from spans: latencies, tokens and money per request as distributions (formulas §10)."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import inf

from inferometer.economics import prices
from inferometer.economics.policy import Policy
from inferometer.economics.split import split
from inferometer.economics.tokens import per_million, request_cost
from inferometer.model import TOKEN_TYPES, Entry, Histogram, Interval, ModelChange, Recent, Tally

_COST_EDGES = (1e-6, 1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, inf)


def tallied(entry: Entry, interval: Interval, policy: Policy, model: str, tally: Tally) -> None:
    """Add a model's distributions to an entry."""
    where = (interval.workload, interval.engine, model)
    for latency, histogram in tally.latencies.items():
        account = (f"inferometer_{latency}_seconds", where)
        entry.histograms[account] = histogram
        entry.exemplars[account] = tally.exemplars.get(latency, {})
    for kind, tokens in tally.tokens.items():
        entry.histograms["inferometer_request_tokens", (interval.workload, model, kind)] = tokens
    if tally.reasoning:
        account = ("inferometer_reasoning_tokens_total", where)
        entry.amounts[account] = entry.amounts.get(account, 0.0) + tally.reasoning
    price = prices_now(interval, policy, model)
    if price is not None and tally.uses:
        costs = [request_cost(price, dict(zip(TOKEN_TYPES, use, strict=True))) for use in tally.uses]
        entry.histograms["inferometer_request_cost", (interval.workload, model)] = _histogram(costs)


def prices_now(interval: Interval, policy: Policy, model: str) -> dict[str, float] | None:
    """Money per million tokens by type on the usage basis, over about the last ten busy minutes of the engine.

    Metered power, training and idle time are not in it. A type of which no token moved costs what its weight says
    beside one that did; None where there is no price or nothing moved.
    """
    recent = interval.recent
    if recent is None or policy.price is None or not interval.gpus or recent.seconds <= 0:
        return None
    rates = prices.held(policy.price, interval.until, 1.0)
    money = sum(rates.values()) * interval.gpus * recent.seconds
    parts = split(_as_interval(interval, recent), policy, money)
    tokens, found = recent.tokens.get(model, {}), {}
    for (of, kind, _), part in parts.items():
        price = per_million(part, tokens.get(kind, 0.0)) if of == model else None
        if price is not None:
            found[kind] = price
    return _completed(found, policy) if found else None


def _completed(found: dict[str, float], policy: Policy) -> dict[str, float]:
    known = next(iter(found))
    unit = found[known] / policy.weights[known] if policy.weights[known] else 0.0
    return {kind: found.get(kind, unit * policy.weights[kind]) for kind in TOKEN_TYPES}


def _as_interval(interval: Interval, recent: Recent) -> Interval:
    """The recent past as one busy interval."""
    return Interval(
        workload=interval.workload,
        engine=interval.engine,
        until=interval.until,
        seconds=recent.seconds,
        gpus=interval.gpus,
        state="busy",
        models={name: ModelChange(tokens=dict(tokens)) for name, tokens in recent.tokens.items()},
    )


def _histogram(values: list[float]) -> Histogram:
    counts = [0.0] * len(_COST_EDGES)
    for value in values:
        counts[bisect_left(_COST_EDGES, value)] += 1
    return Histogram(_COST_EDGES, tuple(accumulate(counts)), sum(values))
