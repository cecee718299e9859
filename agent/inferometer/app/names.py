"""What models and tenants are called: given once per workload, and the same after the agent starts again."""

from __future__ import annotations

from collections.abc import Iterable

from inferometer.adapters import Models
from inferometer.app.plan import Plan
from inferometer.model import Account

_MODEL_AT = {"inferometer_tokens_total": 2, "inferometer_requests_total": 2, "inferometer_slo_requests_total": 1}
_TENANT_AT = {"inferometer_tenant_tokens_total": 1}


class Names:
    """``totals``: the accounts of the ledger, which say what has been counted under its own name before."""

    def __init__(self, totals: Iterable[Account]) -> None:
        self._known: dict[str, set[str]] = {}
        self._tenants: dict[str, set[str]] = {}
        self._models: dict[str, Models] = {}
        self._workload_of: dict[str, str] = {}
        for name, labels in totals:
            if name in _MODEL_AT:
                self._known.setdefault(labels[0], set()).add(labels[_MODEL_AT[name]])
            elif name in _TENANT_AT:
                self._tenants.setdefault(labels[0], set()).add(labels[_TENANT_AT[name]])

    def follow(self, plan: Plan) -> None:
        """Name as this plan says from now on; what has its own name keeps it."""
        self._workload_of = {member.engine: watch.workload for watch in plan.watches for member in watch.engines}
        for watch in plan.watches:
            workload, always = watch.workload, frozenset(watch.limits) - {""}
            have = self._models.get(workload)
            if have is None or have.settings != (plan.config.limits.models, always):
                known = have.known if have is not None else self._known.get(workload, ())
                self._models[workload] = Models(plan.config.limits.models, always, known)
        for engine, tenants in plan.tenants.items():
            tenants.know(self._tenants.get(self._workload_of[engine], ()))

    def models(self, engine: str) -> Models:
        """Those of the engine's workload; all its engines share them."""
        return self._models[self._workload_of[engine]]

    def hints(self) -> tuple[str, ...]:
        """Which workloads have more models than their limit."""
        return tuple(
            f"{workload}: it has more than {models.settings[0]} models; the later ones are counted as model "
            '"other": raise limits.models if they matter'
            for workload, models in self._models.items()
            if models.others
        )
