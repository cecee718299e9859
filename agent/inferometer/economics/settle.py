"""One interval settled: what it adds to money, tokens, requests and joules. Every promise of the totals starts here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferometer.economics import energy, goodput, prices
from inferometer.economics.answers import tallied
from inferometer.economics.goodput import Bounds, Goodput
from inferometer.economics.policy import Policy
from inferometer.economics.split import split, states
from inferometer.model import OUTCOMES, STATES, TOKEN_TYPES, Account, Entry, Interval, ModelChange, Stratum, Verdicts

_COMPONENTS = ("gpu", "electricity", "software", "hosting", "training", "other")


def settle(interval: Interval, policy: Policy) -> Entry:
    """The entry of an interval. Amounts of 0 open their accounts, and are left out where these are open already."""
    entry = Entry(interval.workload, interval.until)
    shares = states(interval)
    _time(entry, interval, shares)
    for account, amount in energy.accounts(interval, policy).items():
        _post(entry, account, amount)
    money = _cost(entry, interval, policy, shares)
    if money is not None:
        _token_cost(entry, interval, policy, money)
    for model, change in interval.models.items():
        _requests_and_tokens(entry, interval, model, change)
    for tenant, tokens in interval.tenants.items():
        for kind, count in tokens.items():
            _post(entry, ("inferometer_tenant_tokens_total", (interval.workload, tenant, kind)), count)
    for model, tally in interval.tallies.items():
        tallied(entry, interval, policy, model, tally)
    if policy.slo is not None:
        for model, change in interval.models.items() if interval.opens else ():
            nothing = Verdicts() if interval.traced else None
            _goodput(entry, interval.workload, Stratum(model, 0.0, latencies=change.latencies, spans=nothing), policy)
        for stratum in interval.strata:
            _goodput(entry, interval.workload, stratum, policy)
    _resets(entry, interval)
    return entry


def _post(entry: Entry, account: Account, amount: float) -> None:
    entry.amounts[account] = entry.amounts.get(account, 0.0) + amount


def _moved(interval: Interval, known: Iterable[str], amounts: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Amounts by label value: all that are ``known``, or those that moved where the accounts are open already."""
    if interval.opens:
        return [(name, amounts.get(name, 0.0)) for name in known]
    return [(name, amount) for name, amount in amounts.items() if amount]


def _time(entry: Entry, interval: Interval, shares: Mapping[str, float]) -> None:
    held = interval.seconds * interval.gpus
    for state, share in _moved(interval, STATES, shares):
        _post(entry, ("inferometer_gpu_seconds_total", (interval.workload, interval.engine, state)), held * share)
    if interval.unaccounted_seconds or interval.opens:
        account = ("inferometer_unaccounted_gpu_seconds_total", (interval.workload,))
        _post(entry, account, interval.unaccounted_seconds)


def _resets(entry: Entry, interval: Interval) -> None:
    engine = {interval.source: interval.resets} if interval.source else {}
    for source, count in (engine | interval.meter_resets).items():
        _post(entry, ("inferometer_resets_total", (source,)), float(count))


def _cost(entry: Entry, interval: Interval, policy: Policy, shares: Mapping[str, float]) -> float | None:
    """Post the cost by component and return its sum; None without a price or without any GPU."""
    tokens = sum(count for change in interval.models.values() for count in change.tokens.values())
    power = _electricity(interval, policy)
    by_tokens = tokens and policy.training and policy.training.tokens
    if policy.price is None or (interval.gpus == 0 and not power and not by_tokens):
        return None
    per_gpu = prices.held(policy.price, interval.until, interval.seconds)
    cost = {name: money * interval.gpus for name, money in per_gpu.items()}
    cost["electricity"] = power
    if policy.training is not None:
        share = 1.0 if policy.training.tokens else interval.part
        cost["training"] = prices.amortised(policy.training, interval.seconds, tokens) * share
    for component, money in _moved(interval, _COMPONENTS, cost):
        for state, share in _moved(interval, STATES, shares):
            _post(entry, ("inferometer_cost_total", (interval.workload, component, state)), money * share)
    return sum(cost.values())


def _electricity(interval: Interval, policy: Policy) -> float:
    """Money for metered joules, where an owned price leaves the power to the meter; GPUs of others included."""
    if not isinstance(policy.price, prices.Owned) or not policy.price.metered or policy.electricity is None:
        return 0.0
    return prices.energy_cost(interval.joules(estimated=False), policy.electricity)


def _token_cost(entry: Entry, interval: Interval, policy: Policy, money: float) -> None:
    """Σ token_cost = Σ cost."""
    workload, name = interval.workload, "inferometer_token_cost_total"
    for rest in ("idle", "unassigned") if interval.opens else ():
        _post(entry, (name, (workload, "", rest, "none")), 0.0)
    for (model, kind, method), part in split(interval, policy, money).items():
        _post(entry, (name, (workload, model, kind, method)), part)


def _requests_and_tokens(entry: Entry, interval: Interval, model: str, change: ModelChange) -> None:
    where = (interval.workload, interval.engine, model)
    for kind, count in _moved(interval, TOKEN_TYPES, change.tokens):
        _post(entry, ("inferometer_tokens_total", (*where, kind)), count)
    for outcome, count in _moved(interval, OUTCOMES, change.outcomes):
        _post(entry, ("inferometer_requests_total", (*where, outcome)), count)
    if change.wasted or interval.opens:
        _post(entry, ("inferometer_wasted_tokens_total", where), change.wasted)
    if change.reasoning:
        _post(entry, ("inferometer_reasoning_tokens_total", where), change.reasoning)
    for latency, histogram in () if interval.exact else change.latencies.items():
        if not histogram.total and not interval.opens:
            continue
        entry.histograms[f"inferometer_{latency}_seconds", where] = histogram


def _goodput(entry: Entry, workload: str, stratum: Stratum, policy: Policy) -> None:
    """Post a stratum's verdicts; an empty one opens its accounts. An SLO that the engine does not measure has none."""
    if policy.slo is None:
        return
    limits = policy.slo.of(stratum.model)
    if not limits:
        return
    where, verdict = (workload, stratum.model), goodput.judge(stratum, limits)
    met = {slo: bounds for slo, bounds in verdict.met.items() if slo in stratum.latencies}
    _verdict(entry, where, "histogram", Goodput(verdict.judged, verdict.good, met))
    if stratum.spans is not None:
        told = goodput.exact(stratum.spans)
        unknown = Bounds(0.0, stratum.spans.ok)  # an SLO that was added since the spans came
        met = {slo: told.met.get(slo, unknown) for slo in limits}
        _verdict(entry, where, "trace", Goodput(told.judged, told.good, met))
        _post(entry, ("inferometer_good_tokens_total", where), stratum.spans.good_tokens)
        _post(entry, ("inferometer_slo_tokens_total", where), stratum.spans.tokens)


def _verdict(entry: Entry, where: tuple[str, str], method: str, verdict: Goodput) -> None:
    _post(entry, ("inferometer_slo_requests_total", (*where, method)), verdict.judged)
    _post(entry, ("inferometer_good_requests_lower_total", (*where, method)), verdict.good.lower)
    _post(entry, ("inferometer_good_requests_upper_total", (*where, method)), verdict.good.upper)
    for slo, bounds in verdict.met.items():
        _post(entry, ("inferometer_slo_met_requests_lower_total", (*where, slo, method)), bounds.lower)
        _post(entry, ("inferometer_slo_met_requests_upper_total", (*where, slo, method)), bounds.upper)
