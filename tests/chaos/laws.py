"""What must hold of every snapshot, whatever happened: the promises that can be seen from outside."""

from __future__ import annotations

import math
from typing import Any

from inferometer.exposition.gauges import numbers
from inferometer.model import Snapshot

_MAY_BE_NEGATIVE = {"inferometer_error_budget_remaining_ratio"}  # overspent
_AS_THE_DEVICE_SAYS = "inferometer_gpu_"  # what a GPU's own counters show, be it wrong


class Laws:
    """Looks at one snapshot after the other. ``broken``: sentences, one for each kind of breach."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._before: dict[Any, float] = {}
        self._created: dict[Any, float] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Every number is finite and none is negative, no counter goes back, and all money is some token's."""
        now = dict(numbers(snapshot))
        for (name, labels), value in now.items():
            if not math.isfinite(value) or (value < 0 and name not in _MAY_BE_NEGATIVE):
                self._breach(f"{name} is {value}", labels)
        counters: dict[Any, float] = {
            account: value
            for account, value in now.items()
            if account[0].endswith("_total") and (account in snapshot.totals or _AS_THE_DEVICE_SAYS not in account[0])
        }
        for account, histogram in snapshot.histograms.items():
            parts = {("sum", *account): histogram.sum}
            parts |= {(edge, *account): count for edge, count in zip(histogram.edges, histogram.counts, strict=True)}
            if self._created.get(account) != snapshot.created[account]:  # laid out anew
                for part in parts:
                    self._before.pop(part, None)
            counters |= parts
        for account, value in counters.items():
            if value < self._before.get(account, 0.0):
                self._breach(f"{account[-2]} went back", (account, self._before[account], value))
        self._created = {account: snapshot.created[account] for account in snapshot.histograms}
        self._before = counters  # what leaves the page may begin anew when it returns
        self._money(snapshot)

    def restarted(self) -> None:
        """What an agent counts of itself begins anew with it."""
        self._before = {key: value for key, value in self._before.items() if "source_errors_total" not in str(key)}

    def _money(self, snapshot: Snapshot) -> None:
        sums: dict[tuple[str, str], list[float]] = {}
        for (name, labels), value in snapshot.totals.items():
            if name in {"inferometer_cost_total", "inferometer_token_cost_total"}:
                sums.setdefault((labels[0], name), []).append(value)
        for (workload, name), amounts in sums.items():
            cost = math.fsum(sums[workload, "inferometer_cost_total"])
            if name == "inferometer_token_cost_total" and abs(math.fsum(amounts) - cost) > 1e-9 * max(cost, 1e-9):
                self._breach("token_cost is not cost", (workload, math.fsum(amounts), cost))

    def _breach(self, kind: str, what: object) -> None:
        self.broken.setdefault(kind, f"{kind}: {what}")
