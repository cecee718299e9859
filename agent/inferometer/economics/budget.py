"""Money budgets: when a period began, what it has cost so far, and what it will have cost (formulas §9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

_MONTHS = 12


class Budget(Struct, frozen=True):
    """Money per ``period``: month, week (from Monday), day of ``zone``'s calendar, or a rolling stretch of seconds."""

    amount: float
    period: str | float = "month"
    zone: tzinfo = UTC


class Outlook(Struct, frozen=True):
    """Where a budget stands: money spent since its period began, and what the whole period will have cost."""

    amount: float
    spent: float
    forecast: float


def bounds(budget: Budget, wall: float) -> tuple[float, float]:
    """Unix time of the period's start and end. A rolling period ends now: it looks back."""
    if not isinstance(budget.period, str):
        return wall - budget.period, wall
    midnight = datetime.fromtimestamp(wall, budget.zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if budget.period == "month":
        start = midnight.replace(day=1)
        years, month = divmod(start.month, _MONTHS)
        end = start.replace(year=start.year + years, month=month + 1)
    elif budget.period == "week":
        start = midnight - timedelta(days=midnight.weekday())
        end = start + timedelta(days=7)
    else:
        start, end = midnight, midnight + timedelta(days=1)
    return start.timestamp(), end.timestamp()


def outlook(budget: Budget, wall: float, spent: float, rate: float) -> Outlook:
    """Where a budget stands at ``wall``, with ``spent`` since the period's start and ``rate`` money per second now.

    Forecast = spent + rate * time left (G13b); what a rolling period will have cost is rate * period.
    """
    _, end = bounds(budget, wall)
    forecast = spent + rate * (end - wall) if isinstance(budget.period, str) else rate * budget.period
    return Outlook(budget.amount, spent, forecast)


def burn(spend_rate: float, amount: float, period_seconds: float) -> float:
    """How many times faster than allowed money is spent: spend rate ÷ (budget ÷ period)."""
    return spend_rate / (amount / period_seconds)
