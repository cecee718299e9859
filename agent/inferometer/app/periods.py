"""Budgets of money and of errors: what the ledger's hours say beside what is spent now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferometer.app.plan import Plan
from inferometer.economics import Hours, Policy
from inferometer.economics.budget import bounds, outlook
from inferometer.economics.hours import ERROR_BUDGET_SECONDS, HOUR_SECONDS
from inferometer.economics.ratios import burn_rate
from inferometer.ledger import Ledger
from inferometer.model import Account, Entry

_LONGEST_MONTH_SECONDS = 31 * 86400.0 + 2 * HOUR_SECONDS


class Periods:
    """Gauges of all budgets; past hours come from the ledger when a plan is first followed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._hours: Hours | None = None
        self._policies: Mapping[str, Policy] = {}

    def follow(self, plan: Plan) -> None:
        """Look at this plan's budgets from now on."""
        self._policies = {
            name: policy
            for name, policy in plan.policies.items()
            if policy.budget is not None or policy.slo is not None
        }
        if self._hours is not None and self._hours.keep_seconds < self._keep_seconds():
            self._hours = None

    def post(self, wall: float, entries: Sequence[Entry]) -> None:
        """Take what was settled and stored."""
        mine = [entry for entry in entries if entry.workload in self._policies]
        if self._hours is not None:
            self._hours.post(mine)
            return
        self._hours = Hours(self._keep_seconds())
        stored = self._ledger.past(wall - self._keep_seconds(), self._policies)
        if stored is None:
            self._hours.post(mine)
        else:
            self._hours.load(stored)

    def values(self, wall: float, rates: Mapping[str, float]) -> dict[Account, float]:
        """The gauges. ``rates``: money per second by workload, as it is spent now."""
        found: dict[Account, float] = {}
        for name, policy in self._policies.items() if self._hours is not None else ():
            found.update(self._money(name, policy, wall, rates.get(name, 0.0)))
            found.update(self._errors(name, policy, wall))
        return found

    def _money(self, name: str, policy: Policy, wall: float, rate: float) -> dict[Account, float]:
        if policy.budget is None or self._hours is None or policy.price is None:
            return {}
        spent = self._hours.since(name, bounds(policy.budget, wall)[0], wall).money
        stands = outlook(policy.budget, wall, spent, rate)
        values = {"amount": stands.amount, "spent": stands.spent, "forecast": stands.forecast}
        return {(f"inferometer_budget_{kind}", (name,)): value for kind, value in values.items()}

    def _errors(self, name: str, policy: Policy, wall: float) -> dict[Account, float]:
        if policy.slo is None or self._hours is None:
            return {}
        past = self._hours.since(name, wall - ERROR_BUDGET_SECONDS, wall)
        if past.judged <= 0:
            return {}
        spent = burn_rate(past.judged - past.good_upper, past.judged, policy.slo.objective)
        return {("inferometer_error_budget_remaining_ratio", (name,)): 1 - spent}

    def _keep_seconds(self) -> float:
        periods = [policy.budget.period for policy in self._policies.values() if policy.budget is not None]
        return max(
            [_LONGEST_MONTH_SECONDS, *(period + HOUR_SECONDS for period in periods if not isinstance(period, str))]
        )
