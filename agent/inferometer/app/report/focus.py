"""FOCUS 1.2, the FinOps Foundation's layout of bills: a row per day, workload, cost component and state of GPU time.

Days and billing periods are UTC, as FOCUS wants them. What nobody bills is the owner's own: list, contracted, billed
and effective cost are one figure. Every column is one of the specification's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from inferometer.app.report.book import HOUR_SECONDS, Hour

_COST, _HELD = "inferometer_cost_total", "inferometer_gpu_seconds_total"
_Key = tuple[str, str, str, str]
_SERVICE = "LLM inference"


def rows(hours: Iterable[Hour], currency: str, provider: str) -> Iterator[dict[str, str]]:
    """Every charge as FOCUS columns; Σ BilledCost is the cost of the hours. ``provider``: who the GPUs are had from."""
    costs, held = _sums(hours)
    for key in sorted(costs):
        if costs[key]:
            day, workload, _, state = key
            yield _row(key, costs[key], held.get((day, workload, state), 0.0), (currency, provider))


def _sums(hours: Iterable[Hour]) -> tuple[dict[_Key, float], dict[tuple[str, str, str], float]]:
    """Money by (day, workload, component, state), and GPU-seconds by (day, workload, state)."""
    costs: dict[_Key, float] = {}
    held: dict[tuple[str, str, str], float] = {}
    for hour in hours:
        day = datetime.fromtimestamp(hour.at, UTC).date().isoformat()
        for (name, labels), amount in hour.amounts.items():
            if name == _COST:
                key = (day, hour.workload, labels[1], labels[2])
                costs[key] = costs.get(key, 0.0) + amount
            elif name == _HELD:
                where = (day, hour.workload, labels[1])
                held[where] = held.get(where, 0.0) + amount
    return costs, held


def _row(key: _Key, cost: float, seconds: float, bill: tuple[str, str]) -> dict[str, str]:
    day, workload, component, state = key
    currency, provider = bill
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    month = begin.replace(day=1)
    money, quantity = _decimal(cost), _decimal(seconds / HOUR_SECONDS)
    return {
        "BilledCost": money,
        "BillingAccountId": provider,
        "BillingAccountName": provider,
        "BillingCurrency": currency,
        "BillingPeriodEnd": _stamp((month + timedelta(days=32)).replace(day=1)),
        "BillingPeriodStart": _stamp(month),
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"{workload}: {component}, GPU time {state}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _stamp(begin + timedelta(days=1)),
        "ChargePeriodStart": _stamp(begin),
        "ConsumedQuantity": quantity,
        "ConsumedUnit": "GPU-Hours",
        "ContractedCost": money,
        "EffectiveCost": money,
        "InvoiceIssuerName": provider,
        "ListCost": money,
        "PricingQuantity": quantity,
        "PricingUnit": "GPU-Hours",
        "ProviderName": provider,
        "PublisherName": provider,
        "ResourceId": workload,
        "ResourceName": workload,
        "ResourceType": "Inference workload",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": _SERVICE,
        "Tags": json.dumps({"component": component, "state": state, "workload": workload}),
    }


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _decimal(value: float) -> str:
    """All digits, and no exponent, which some loaders of FOCUS files refuse."""
    return format(Decimal(repr(value)), "f")


COLUMNS = tuple(_row(("2026-01-01", "", "", ""), 0.0, 0.0, ("", "")))
"""The columns in the order of the file."""
