"""Lines of a report: hours summed by day, workload and model, every ratio made of the sums."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, tzinfo
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from inferometer.app.report.book import HOUR_SECONDS, Hour
from inferometer.model import TOKEN_TYPES, Account

BY = ("day", "workload", "model")
_MILLION = 1e6
_COST, _TOKEN_COST = "inferometer_cost_total", "inferometer_token_cost_total"
_TOKENS, _REQUESTS = "inferometer_tokens_total", "inferometer_requests_total"
_JUDGED, _CARBON = "inferometer_slo_requests_total", "inferometer_carbon_grams_total"
_HELD, _JOULES = "inferometer_gpu_seconds_total", "inferometer_energy_joules_total"
_OF_A_MODEL = {
    _TOKEN_COST,
    _TOKENS,
    _REQUESTS,
    _JUDGED,
    "inferometer_good_requests_lower_total",
    "inferometer_good_requests_upper_total",
}
_Key = tuple[str, str, str]
_Fields = dict[str, Any]


class Line(Struct, frozen=True):
    """One line; None is what the ledger does not know, 0 is a count of nothing.

    By model, ``cost`` is what the model's tokens cost while they moved; a line without a model holds the money of idle
    and other time, and what is measured of the GPUs and not of models. So every column still adds up.
    """

    day: str = ""
    workload: str = ""
    model: str = ""
    gpu_hours: float | None = None
    busy_gpu_hours: float | None = None
    cost: float | None = None
    cost_busy: float | None = None
    cost_idle: float | None = None
    input_uncached_tokens: float = 0.0
    input_cached_tokens: float = 0.0
    output_tokens: float = 0.0
    cost_per_million_tokens: float | None = None
    cost_per_million_output_tokens: float | None = None
    requests: float = 0.0
    judged_requests: float | None = None
    good_requests_lower: float | None = None
    good_requests_upper: float | None = None
    joules: float | None = None
    carbon_grams: float | None = None

    @property
    def tokens(self) -> dict[str, float]:
        """Tokens by type."""
        return dict(
            zip(TOKEN_TYPES, (self.input_uncached_tokens, self.input_cached_tokens, self.output_tokens), strict=True)
        )


class _Sums:
    """Amounts of one line by account, without the workload in front of the labels."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[tuple[str, ...], float]] = {}

    def add(self, account: Account, amount: float) -> None:
        name, labels = account
        series = self._sums.setdefault(name, {})
        series[labels[1:]] = series.get(labels[1:], 0.0) + amount

    def total(self, name: str, position: int = 0, wanted: Collection[str] = ()) -> float:
        """Σ of a metric, of those series whose label at ``position`` is wanted; without ``wanted``, of all."""
        series = self._sums.get(name, {}).items()
        return sum(amount for labels, amount in series if not wanted or labels[position] in wanted)

    def known(self, name: str, position: int = 0, wanted: Collection[str] = ()) -> float | None:
        """The same, None where the metric was never posted."""
        return self.total(name, position, wanted) if name in self._sums else None


def lines(hours: Iterable[Hour], by: Collection[str], zone: tzinfo) -> list[Line]:
    """The lines by some of ``BY``, days as the calendar of ``zone`` has them; the same key is the same line."""
    groups: dict[_Key, _Sums] = {}
    for hour in hours:
        day = datetime.fromtimestamp(hour.at, zone).date().isoformat() if "day" in by else ""
        workload = hour.workload if "workload" in by else ""
        for account, amount in hour.amounts.items():
            model = account[1][1] if "model" in by and account[0] in _OF_A_MODEL else ""
            groups.setdefault((day, workload, model), _Sums()).add(account, amount)
    return [_line(key, groups[key], by_model="model" in by) for key in sorted(groups)]


def total(found: Iterable[Line]) -> Line:
    """One line of the sums; its ratios are made of them and are no average of ratios."""
    rows = list(found)
    sums: _Fields = {name: _added([getattr(row, name) for row in rows]) for name in _COLUMNS_THAT_ADD}
    return _with_ratios(Line(**sums))


def _line(key: _Key, sums: _Sums, *, by_model: bool) -> Line:
    day, workload, model = key
    judged = sums.known(_JUDGED)  # hours hold no zeros: with judged requests, no good ones are none and not unknown
    line = Line(
        day,
        workload,
        model,
        gpu_hours=_hours(sums.known(_HELD)),
        busy_gpu_hours=_hours(sums.known(_HELD, 0, ("busy",))),
        requests=sums.total(_REQUESTS),
        judged_requests=judged,
        good_requests_lower=None if judged is None else sums.total("inferometer_good_requests_lower_total"),
        good_requests_upper=None if judged is None else sums.total("inferometer_good_requests_upper_total"),
        joules=sums.known(_JOULES),
        carbon_grams=sums.known(_CARBON),
    )
    tokens: _Fields = {f"{kind}_tokens": sums.total(_TOKENS, 1, (kind,)) for kind in TOKEN_TYPES}
    money = _money_by_model(sums) if by_model else _money(sums)
    return _with_ratios(replace(line, **tokens, **money))


def _money(sums: _Sums) -> _Fields:
    states: _Fields = {f"cost_{state}": sums.known(_COST, 1, (state,)) for state in ("busy", "idle")}
    return {"cost": sums.known(_COST)} | states


def _money_by_model(sums: _Sums) -> _Fields:
    """The token costs, which add up to the whole bill; which of them was busy time is not known by model."""
    return {"cost": sums.known(_TOKEN_COST), "cost_idle": sums.known(_TOKEN_COST, 1, ("idle",))}


def _with_ratios(line: Line) -> Line:
    return replace(
        line,
        cost_per_million_tokens=_per_million(line.cost, sum(line.tokens.values())),
        cost_per_million_output_tokens=_per_million(line.cost, line.output_tokens),
    )


def _per_million(money: float | None, tokens: float) -> float | None:
    return None if money is None or tokens <= 0 else money / tokens * _MILLION


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / HOUR_SECONDS


def _added(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) if there else None


_COLUMNS_THAT_ADD = [
    name for name in Line.__struct_fields__ if name not in BY and not name.startswith("cost_per_million")
]
