"""Alerts on a budget whose amount and period are known: spending against the pace that would use it up exactly."""

from __future__ import annotations

from msgspec import Struct

from inferometer.app.rules.shape import Alert, Group

_FACTOR = 2
"""Twice the even pace over an hour and still in the last five minutes: a tenth of that is normal within a day."""


class Money(Struct, frozen=True):
    """The budget of a workload; a calendar month counts as 730 h, as everywhere."""

    workload: str
    amount: float
    period_seconds: float


def one(money: Money) -> Group:
    """An alert on the pace of spending, out of the cost counter alone."""
    pace = f"({_FACTOR} * {money.amount:.10g} / {money.period_seconds:.10g})"
    spent = f'inferometer_cost:rate{{}}{{workload="{money.workload}"}}'
    rates = [f"workload:{spent.replace('{}', window, 1)}" for window in ("1h", "5m")]
    alert = Alert(
        "InferometerBudgetBurns",
        "warning",
        "5m",
        f"{rates[0]} > {pace}\nand\n{rates[1]} > {pace}",
        "{{ $labels.workload }}: money is spent more than twice as fast as the budget allows",
        f"{{{{ $value | humanize }}}} {{{{ $labels.currency }}}} per second; {money.amount:,.10g} are there for "
        f"{money.period_seconds / 3600:g} h.",
        "inferometer-economics",
    )
    return Group(f"inferometer-budget-{money.workload.replace('/', '-')}", "30s", [alert])
