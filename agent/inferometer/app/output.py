"""What ``replay`` prints: a table for people, JSON, the page, or every snapshot with its time for a TSDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from inferometer.exposition.api import snapshot_json
from inferometer.exposition.prometheus import Renderer
from inferometer.model import Account, Snapshot

_TITLES = (
    ("inferometer_tokens_total", "tokens", "{:,.0f}"),
    ("inferometer_wasted_tokens_total", "wasted tokens", "{:,.0f}"),
    ("inferometer_requests_total", "requests", "{:,.0f}"),
    ("inferometer_gpu_seconds_total", "GPU seconds", "{:,.3f}"),
    ("inferometer_cost_total", "cost", "{:,.6f} {currency}"),
    ("inferometer_token_cost_total", "cost of", "{:,.6f} {currency}"),
    ("inferometer_energy_joules_total", "energy", "{:,.0f} J"),
    ("inferometer_slo_requests_total", "judged", "{:,.0f}"),
    ("inferometer_good_requests_lower_total", "good, at least", "{:,.0f}"),
    ("inferometer_good_requests_upper_total", "good, at most", "{:,.0f}"),
    ("inferometer_slo_met_requests_lower_total", "met, at least", "{:,.0f}"),
    ("inferometer_slo_met_requests_upper_total", "met, at most", "{:,.0f}"),
    ("inferometer_resets_total", "engine restarts", "{:,.0f}"),
)


class Output:
    """Writes to ``out`` in one of the formats text, json, metrics, openmetrics."""

    def __init__(self, form: str, out: TextIO) -> None:
        self._form, self._out = form, out
        self._renderer = Renderer(process=False)
        self._headed = False

    def each(self, snapshot: Snapshot) -> None:
        """Take one snapshot of many."""
        if self._form == "openmetrics":
            self._out.writelines(self._stamped(snapshot))

    def last(self, snapshot: Snapshot) -> None:
        """Take the final snapshot and finish."""
        if self._form == "openmetrics":
            self._out.write("# EOF\n")
        elif self._form == "metrics":
            self._out.write(self._renderer.render(snapshot).decode())
        elif self._form == "json":
            self._out.write(snapshot_json(snapshot).decode() + "\n")
        else:
            self._out.write("\n".join(_table(snapshot)) + "\n")

    def _stamped(self, snapshot: Snapshot) -> Iterator[str]:
        """Sample lines with the snapshot's time; the headers only before the first."""
        for line in self._renderer.render(snapshot, openmetrics=True).decode().splitlines():
            if not line.startswith("#"):
                yield f"{line} {snapshot.wall:.3f}\n"
            elif not self._headed and line != "# EOF":
                yield line + "\n"
        self._headed = True


def _table(snapshot: Snapshot) -> Iterator[str]:
    for name, title, form in _TITLES:
        for account, value in sorted(snapshot.totals.items()):
            if account[0] == name and value:
                yield f"{title:<16} {_labels(account):<44} {form.format(value, currency=snapshot.currency):>24}"
    for hint in snapshot.hints:
        yield f"missing          {hint}"


def _labels(account: Account) -> str:
    return " ".join(value or "-" for value in account[1])
