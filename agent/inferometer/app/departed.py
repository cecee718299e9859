"""What is neither configured nor discovered any more leaves /metrics after an hour; the ledger keeps it (design §7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from inferometer.app.plan import Plan
from inferometer.model import Account, engine_of

_SHOWN_AFTER_LEAVING_SECONDS = 3600.0
_LOOK_SECONDS = 60.0
_OF_SOURCES = "inferometer_resets_total"
_Value = TypeVar("_Value")
_Where = tuple[str, ...]
"""A workload, or a workload and an engine, or a source by its address alone behind an empty word."""


class Departed:
    """Knows since when what is missing. ``workloads``: those that are shown no longer."""

    def __init__(self) -> None:
        self.workloads: frozenset[str] = frozenset()
        self._left: dict[_Where, float] = {}
        self._hidden: list[Account] = []
        self._plan: Plan | None = None
        self._looked = float("-inf")

    def see(self, plan: Plan | None, accounts: Iterable[Account], at: float) -> None:
        """Look around, where the plan has changed or it has not been done for a minute."""
        if plan is self._plan and at - self._looked < _LOOK_SECONDS:
            return
        self._plan, self._looked = plan, at
        here, of = _here(plan), {account: _of(account) for account in accounts}
        known = {where for places in of.values() for where in places}
        self._left = {where: self._left.get(where, at) for where in known - here}
        gone = {where for where, since in self._left.items() if at - since >= _SHOWN_AFTER_LEAVING_SECONDS}
        self._hidden = [account for account, places in of.items() if not gone.isdisjoint(places)] if gone else []
        self.workloads = frozenset(where[0] for where in gone if len(where) == 1)

    def shown(self, table: Mapping[Account, _Value]) -> dict[Account, _Value]:
        """The accounts that are shown still."""
        shown = dict(table)
        for account in self._hidden:
            shown.pop(account, None)
        return shown


def _here(plan: Plan | None) -> set[_Where]:
    if plan is None:
        return set()
    here: set[_Where] = {(workload,) for workload in plan.policies}
    for watch in plan.watches:
        for member in watch.members:
            here |= {(watch.workload, member.engine), ("", "", member.source or member.engine)}
    return here


def _of(account: Account) -> tuple[_Where, ...]:
    """All that has to be there for an account to be shown; meters are not read from an address of their own."""
    name, labels = account
    if name == _OF_SOURCES:
        return (("", "", labels[0]),) if "://" in labels[0] else ()
    engine = engine_of(account)
    return ((labels[0],),) if engine is None else ((labels[0],), engine)
