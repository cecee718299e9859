"""What one interval adds to the totals: money by component and state, tokens, requests, joules, goodput."""

from __future__ import annotations

import pytest
from inferometer.economics import Policy, Slo, settle
from inferometer.economics.prices import Electricity, Owned, Rented, Step, Training
from inferometer.exposition import catalog
from inferometer.model import STATES, Entry, Histogram, Interval, ModelChange, Stratum

INF = float("inf")
RENTED = Rented((Step(0, 3.60),))
OWNED = Owned(server=8760 * 4, gpus=1, years=1, software=8760, hosting=2 * 8760, other=0.5 * 8760, metered=True)
POWER = Electricity(0.12, 1.3)
COMPONENTS = ("gpu", "electricity", "software", "hosting", "training", "other")


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def interval(state: str = "busy", **changes: object) -> Interval:
    """An hour of two GPUs in which model m did something."""
    change = ModelChange({"input_uncached": 100.0, "input_cached": 50.0, "output": 20.0}, outcomes={"ok": 3.0})
    models = {"m": change} if state == "busy" else {}
    return Interval(**{
        "workload": "w", "engine": "e", "until": 1.8e9, "seconds": 3600.0, "gpus": 2.0, "state": state,
        "models": models, **changes,
    })  # fmt: skip


def amount(entry: Entry, name: str, *labels: str) -> float:
    return entry.amounts[f"inferometer_{name}", labels]


def posted(entry: Entry, name: str) -> dict[tuple[str, ...], float]:
    """The accounts of a metric that are not zero."""
    return {
        labels: value for (metric, labels), value in entry.amounts.items() if metric == f"inferometer_{name}" and value
    }


@pytest.mark.parametrize("state", STATES)
def test_rented_time_is_charged_in_its_state(state: str) -> None:
    """Two GPUs for an hour at 3.60, to the one state that the hour was in; the others stay at zero."""
    entry = settle(interval(state), Policy("w", RENTED))
    assert posted(entry, "cost_total") == {("w", "gpu", state): about(7.20)}
    assert posted(entry, "gpu_seconds_total") == {("w", "e", state): 7200.0}
    for component in COMPONENTS:
        assert [("inferometer_cost_total", ("w", component, s)) in entry.amounts for s in STATES] == [True] * 4


def test_a_tariff_is_charged_by_the_wall_clock_of_the_interval() -> None:
    """An hour that ends at 00:30 UTC: half of it before midnight, half after."""
    midnight = 20_000 * 86_400
    price = Rented((Step(0, 1.0), Step(23 * 60 + 30, 5.0)))
    entry = settle(interval(until=midnight + 1_800.0), Policy("w", price))
    assert posted(entry, "cost_total") == {("w", "gpu", "busy"): about(2 * (5.0 / 2 + 1.0 / 2))}


def test_owned_time_is_charged_by_component() -> None:
    """Yearly amounts per GPU-hour, and power at the facility's meter for what the GPUs' meters counted."""
    entry = settle(interval(energy={("gpu", "unknown", "counter"): 3.6e6}), Policy("w", OWNED, POWER, pue=1.3))
    assert posted(entry, "cost_total") == {
        ("w", "gpu", "busy"): about(8.0),
        ("w", "software", "busy"): about(2.0),
        ("w", "hosting", "busy"): about(4.0),
        ("w", "other", "busy"): about(1.0),
        ("w", "electricity", "busy"): about(1.3 * 0.12),
    }


@pytest.mark.parametrize("price", [RENTED, Owned(server=8760, gpus=1, years=1, metered=False)])
def test_power_is_charged_only_where_it_is_metered(price: Rented | Owned) -> None:
    """A rented GPU's price has its power inside, and so has an owned one's hosting unless it says otherwise."""
    entry = settle(interval(energy={("gpu", "unknown", "counter"): 3.6e6}), Policy("w", price, POWER))
    assert ("w", "electricity", "busy") not in posted(entry, "cost_total")


def test_without_a_price_there_is_no_money() -> None:
    """No cost series at all, not series of zeros; time, tokens and joules count as ever."""
    for policy, gpus in ((Policy("w"), 2.0), (Policy("w", RENTED), 0.0)):
        entry = settle(interval(gpus=gpus, energy={("gpu", "unknown", "counter"): 9.0}), policy)
        assert not [name for name, _ in entry.amounts if "cost" in name]
        assert amount(entry, "tokens_total", "w", "e", "m", "output") == 20
        assert amount(entry, "energy_joules_total", "w", "gpu", "unknown", "counter") == 9
        assert amount(entry, "gpu_seconds_total", "w", "e", "busy") == 3600 * gpus


def test_training_by_tokens_accrues_with_them() -> None:
    """Also on the page of a frontend, which counts all tokens and holds no GPU."""
    policy = Policy("w", RENTED, training=Training(12_000, tokens=20e9))
    models = {"m": ModelChange(tokens={"input_uncached": 9e6, "output": 1e6})}
    for gpus in (1.0, 0.0):
        entry = settle(Interval("w", "e", 3_600.0, 3_600.0, gpus, "busy", models=models), policy)
        assert amount(entry, "cost_total", "w", "training", "busy") == about(6.0)
        assert sum(v for (name, _), v in entry.amounts.items() if name == "inferometer_token_cost_total") == about(
            6.0 + gpus * amount(entry, "cost_total", "w", "gpu", "busy")
        )


def test_training_is_shared_by_the_engines_of_a_workload() -> None:
    """A workload's fine-tuning falls once on its hour, on each engine by its part."""
    policy = Policy("w", RENTED, training=Training(12_000, 180 * 86_400))
    parts = [settle(interval(part=part), policy) for part in (0.25, 0.75)]
    assert sum(amount(entry, "cost_total", "w", "training", "busy") for entry in parts) == about(12_000 / (180 * 24))


def test_money_goes_to_the_tokens_that_moved() -> None:
    """By weights 1, 0.1 and 4 over all models of the engine."""
    models = {
        "m": ModelChange({"input_uncached": 100.0, "input_cached": 50.0, "output": 20.0}),
        "n": ModelChange({"input_uncached": 15.0, "input_cached": 0.0, "output": 0.0}),
    }
    entry = settle(interval(models=models), Policy("w", RENTED))
    load = 100 + 5 + 80 + 15
    assert posted(entry, "token_cost_total") == {
        ("w", "m", "input_uncached", "weights"): about(7.2 * 100 / load),
        ("w", "m", "input_cached", "weights"): about(7.2 * 5 / load),
        ("w", "m", "output", "weights"): about(7.2 * 80 / load),
        ("w", "n", "input_uncached", "weights"): about(7.2 * 15 / load),
    }


@pytest.mark.parametrize(
    ("state", "kind"), [("idle", "idle"), ("stalled", "unassigned"), ("unknown", "unassigned"), ("busy", "unassigned")]
)
def test_money_of_time_without_tokens(state: str, kind: str) -> None:
    """Idle time is named as such; of other time in which no token moved the money is unassigned, never lost."""
    entry = settle(interval(state, models={}), Policy("w", RENTED))
    assert posted(entry, "token_cost_total") == {("w", "", kind, "none"): about(7.2)}


@pytest.mark.parametrize("state", ["stalled", "unknown"])
def test_tokens_of_any_time_but_idle_carry_its_money(state: str) -> None:
    """After a gap, of which the state is not known, tokens that moved in it are charged for it."""
    entry = settle(interval(state, models={"m": ModelChange({"output": 5.0})}), Policy("w", RENTED))
    assert posted(entry, "token_cost_total") == {("w", "m", "output", "weights"): about(7.2)}


def test_tokens_without_weight_carry_no_money() -> None:
    """With all weights at zero nothing is divided by zero and nothing is lost."""
    weights = dict.fromkeys(("input_uncached", "input_cached", "output"), 0.0)
    entry = settle(interval(), Policy("w", RENTED, weights=weights))
    assert posted(entry, "token_cost_total") == {("w", "", "unassigned", "none"): about(7.2)}


def test_carbon_of_the_facility() -> None:
    """§8: 33,600 J of IT energy at PUE 1.3 and 400 g per kWh; without a grid factor no series."""
    with_grid = settle(
        interval(energy={("gpu", "unknown", "counter"): 33_600.0}), Policy("w", pue=1.3, carbon_grams_per_kwh=400)
    )
    assert amount(with_grid, "carbon_grams_total", "w") == about(43_680 / 3.6e6 * 400)
    assert not posted(
        settle(interval(energy={("gpu", "unknown", "counter"): 33_600.0}), Policy("w", pue=1.3)), "carbon_grams_total"
    )


def test_no_reading_is_not_zero_joules() -> None:
    """Where no meter was read there is no energy series."""
    assert not [name for name, _ in settle(interval(), Policy("w", RENTED)).amounts if "energy" in name]


def test_tokens_and_requests() -> None:
    """What each model did, by engine; outcomes that did not happen are there at zero."""
    change = ModelChange({"output": 5.0}, wasted=2.0, reasoning=3.0, outcomes={"ok": 1.0, "vanished": 2.0})
    latency = Histogram((1.0, INF), (1.0, 2.0), 3.5)
    change.latencies["ttft"] = latency
    entry = settle(
        interval(models={"m": change}, source="http://e/metrics", resets=1, unaccounted_seconds=7.0), Policy("w")
    )
    assert posted(entry, "tokens_total") == {("w", "e", "m", "output"): 5.0}
    assert posted(entry, "requests_total") == {("w", "e", "m", "ok"): 1.0, ("w", "e", "m", "vanished"): 2.0}
    for outcome in ("error", "aborted", "rejected"):
        assert amount(entry, "requests_total", "w", "e", "m", outcome) == 0
    assert amount(entry, "tokens_total", "w", "e", "m", "input_cached") == 0
    assert amount(entry, "wasted_tokens_total", "w", "e", "m") == 2
    assert amount(entry, "reasoning_tokens_total", "w", "e", "m") == 3
    assert amount(entry, "unaccounted_gpu_seconds_total", "w") == 7
    assert amount(entry, "resets_total", "http://e/metrics") == 1
    assert entry.histograms == {("inferometer_ttft_seconds", ("w", "e", "m")): latency}


def test_goodput_is_posted_when_a_stratum_ends() -> None:
    """Numerators and denominator move together; before, they are there at zero; without an SLO they are not."""
    slo = Slo({"ttft": 0.5})
    ended = Stratum("m", 0.0, ok=10, failed=1, rejected=2, latencies={"ttft": Histogram((0.5, INF), (8.0, 11.0))})
    measured = {"m": ModelChange(latencies={"ttft": Histogram((0.5, INF), (0.0, 0.0))})}
    names = ("slo_requests_total", "good_requests_lower_total", "good_requests_upper_total")
    for strata, expected in (([], (0, 0, 0)), ([ended], (13, 7, 8)), ([ended, ended], (26, 14, 16))):
        entry = settle(interval(models=measured, strata=strata), Policy("w", slo=slo))
        assert tuple(amount(entry, name, "w", "m", "histogram") for name in names) == expected
        met = [
            amount(entry, f"slo_met_requests_{side}_total", "w", "m", "ttft", "histogram")
            for side in ("lower", "upper")
        ]
        assert tuple(met) == expected[1:]
    assert not [name for name, _ in settle(interval(strata=[ended]), Policy("w")).amounts if "good" in name]


def test_every_account_is_in_the_catalog() -> None:
    """Nothing is posted under a name or label value that no documentation has."""
    slo = Slo({"ttft": 0.5, "tpot": 0.05, "e2e": 5.0})
    policy = Policy("w", OWNED, POWER, 1.3, 400.0, 1.8, training=Training(1.0, 1.0), slo=slo)
    change = ModelChange({"output": 5.0}, reasoning=1.0, latencies={"e2e": Histogram((INF,), (1.0,))})
    energy = {("gpu", "unknown", "counter"): 1.0, ("host", "idle", "estimated"): 1.0}
    ended = [Stratum("m", 0.0, ok=1)]
    meters = {"nvml": 1}
    entry = settle(interval(energy=energy, meter_resets=meters, models={"m": change}, strata=ended), policy)
    assert [catalog.fault(account) for account in (*entry.amounts, *entry.histograms) if catalog.fault(account)] == []
