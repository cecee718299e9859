"""Every ratio that is exported: a difference over a difference, of one window (formulas §§0, 4, 6-8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inferometer.economics.tokens import per_million
from inferometer.model import TOKEN_TYPES, Account

_TOKENS = "inferometer_tokens_total"
_TOKEN_COST = "inferometer_token_cost_total"  # noqa: S105  a metric's name, no secret
_JOULES = "inferometer_energy_joules_total"
_PAIRS = {"all": TOKEN_TYPES, "output": ("output",)}
Value = tuple[Account, float]


def window_label(seconds: float) -> str:
    """A window as people write it: 30s, 1m, 5m, 1h."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def ratios(
    workload: str, window: float, seconds: float, grown: Mapping[Account, float], objective: float | None = None
) -> dict[Account, float]:
    """The gauges of one workload over one window; ``seconds`` of it were seen. No denominator, no sample.

    ``objective``: the share of requests that shall be good, where there is an SLO.
    """
    change = _Change(workload, window_label(window), seconds, grown)
    found: dict[Account, float] = {}
    for part in (_cost, _token_prices, _requests, _rates, _goodput, _traces, _energy):
        found.update(part(change))
    judged = change.sum("inferometer_slo_requests_total")
    if objective is not None and judged > 0:
        bad = judged - change.sum("inferometer_good_requests_upper_total")
        found[change.account("burn_rate")] = burn_rate(bad, judged, objective)
    return found


def burn_rate(bad: float, judged: float, objective: float) -> float:
    """How many times faster than allowed an error budget is spent (formulas §9)."""
    return bad / judged / (1 - objective)


class _Change:
    """What grew, with sums over labels."""

    def __init__(self, workload: str, window: str, seconds: float, grown: Mapping[Account, float]) -> None:
        self.workload, self.window, self.seconds = workload, window, seconds
        self.by_name: dict[str, dict[tuple[str, ...], float]] = {}
        for (name, labels), value in grown.items():
            self.by_name.setdefault(name, {})[labels[1:]] = value

    def sum(self, name: str, *wanted: str) -> float:
        """Σ over the series of a metric, of those that carry all the wanted label values."""
        series = self.by_name.get(name, {}).items()
        return sum(value for labels, value in series if all(w in labels for w in wanted))

    def tokens(self, *kinds: str) -> float:
        """Tokens of these types. The type is the last label: a model may be called what a type is called."""
        return sum(count for labels, count in self.by_name.get(_TOKENS, {}).items() if labels[-1] in kinds)

    def account(self, name: str, *labels: str) -> Account:
        return (f"inferometer_{name}", (self.workload, *labels, self.window))


def _cost(change: _Change) -> Iterator[Value]:
    """Blended and output basis, of the whole bill and of its busy part (formulas §4)."""
    if "inferometer_cost_total" not in change.by_name:
        return
    bases = {
        "allocation": change.sum("inferometer_cost_total"),
        "usage": change.sum("inferometer_cost_total", "busy"),
    }
    for of, kinds in _PAIRS.items():
        for basis, money in bases.items():
            price = per_million(money, change.tokens(*kinds))
            if price is not None:
                yield change.account("cost_per_million_tokens", of, basis), price


def _token_prices(change: _Change) -> Iterator[Value]:
    """Usage: money of a token type over its tokens; allocation: with its share of idle and unassigned."""
    costs = change.by_name.get(_TOKEN_COST, {})
    assigned = {labels: money for labels, money in costs.items() if labels[1] in TOKEN_TYPES}
    spread = sum(costs.values()) / sum(assigned.values()) if sum(assigned.values()) > 0 else None
    for (model, kind, method), money in assigned.items():
        usage = per_million(money, change.by_name.get(_TOKENS, {}).get((model, kind), 0.0))
        if usage is not None and spread is not None:
            labels = (model, kind, method)
            yield change.account("token_price_per_million", *labels, "usage"), usage
            yield change.account("token_price_per_million", *labels, "allocation"), usage * spread


def _requests(change: _Change) -> Iterator[Value]:
    requests = change.sum("inferometer_requests_total")
    if requests > 0 and "inferometer_cost_total" in change.by_name:
        yield change.account("cost_per_request"), change.sum("inferometer_cost_total") / requests


def _rates(change: _Change) -> Iterator[Value]:
    for kind in TOKEN_TYPES:
        yield change.account("tokens_per_second", kind), change.tokens(kind) / change.seconds
    held = change.sum("inferometer_gpu_seconds_total")
    if held > 0:
        yield change.account("busy_ratio"), change.sum("inferometer_gpu_seconds_total", "busy") / held
    tpot_seconds = change.sum("inferometer_tpot_seconds_sum")
    if tpot_seconds > 0:
        count = change.sum("inferometer_tpot_seconds_count")
        yield change.account("tokens_per_second_per_request"), count / tpot_seconds


def _goodput(change: _Change) -> Iterator[Value]:
    """Only where a stratum ended in the window; money per good request turns the bounds around (formulas §6)."""
    judged = change.sum("inferometer_slo_requests_total")
    if judged <= 0:
        return
    money = change.sum("inferometer_cost_total")
    for side, other in (("lower", "upper"), ("upper", "lower")):
        good = change.sum(f"inferometer_good_requests_{side}_total")
        yield change.account(f"goodput_ratio_{side}"), good / judged
        yield change.account(f"goodput_requests_per_second_{side}"), good / change.seconds
        if good > 0 and "inferometer_cost_total" in change.by_name:
            yield change.account(f"cost_per_good_request_{other}"), money / good


def _traces(change: _Change) -> Iterator[Value]:
    """What only exact verdicts give. Money per good token only where no other request can have been good."""
    judged = change.by_name.get("inferometer_slo_requests_total", {})
    whole = sum(judged.values())
    by_trace = [count for (_, method), count in judged.items() if method == "trace"]
    if whole <= 0 or not by_trace:
        return
    yield change.account("trace_coverage_ratio"), sum(by_trace) / whole
    good, tokens = (change.sum(f"inferometer_{name}_tokens_total") for name in ("good", "slo"))
    if tokens > 0:
        yield change.account("good_tokens_ratio"), good / tokens
    possibly = change.by_name.get("inferometer_good_requests_upper_total", {})
    others = sum(count for (_, method), count in possibly.items() if method != "trace")
    price = per_million(change.sum("inferometer_cost_total"), good)
    if others <= 0 and price is not None and "inferometer_cost_total" in change.by_name:
        yield change.account("cost_per_million_good_tokens"), price


def _energy(change: _Change) -> Iterator[Value]:
    """Each boundary where all of it is known (formulas §8): no host, no IT; no PUE, no facility."""
    components = {labels[0] for labels in change.by_name.get(_JOULES, {})}
    if "gpu" not in components:
        return
    gpu, host, overhead = (change.sum(_JOULES, name) for name in ("gpu", "host", "overhead"))
    held = change.sum("inferometer_gpu_seconds_total")
    metered = change.sum("inferometer_metered_gpu_seconds_total")
    if held > 0:
        yield change.account("energy_coverage_ratio"), min(1.0, metered / held)
    if gpu <= 0 and metered <= 0:
        return  # no reading in the window is not a zero
    yield change.account("power_watts"), gpu / change.seconds
    boundaries = {"gpu": gpu}
    if "host" in components:
        boundaries["it"] = gpu + host
        if "overhead" in components:
            boundaries["facility"] = gpu + host + overhead
    for of, kinds in _PAIRS.items():
        tokens = change.tokens(*kinds)
        for boundary, joules in boundaries.items() if tokens > 0 else ():
            yield change.account("energy_per_token_joules", of, boundary), joules / tokens
