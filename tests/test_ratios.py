"""Exported ratios against formulas §§0, 4, 6, 7 and 8, from readings through Meter, settle and Windows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics import Policy, Slo, Windows, ratios, settle, window_label
from inferometer.economics.prices import Electricity, Owned, Rented, Step
from inferometer.exposition import catalog
from inferometer.interval import Hold, Meter, Watch, Watched
from inferometer.model import Account, Batch, Gpu, GpuReading, Histogram, Key
from readings import signal_of

INF = float("inf")
M = 1e6
T0 = 1.8e9
HALF = {"input_uncached": 1 / 12, "input_cached": 0.0, "output": 1 / 3}


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def rented(rate: float) -> Rented:
    return Rented((Step(0, rate),))


class Story:
    """One engine with one GPU, told page by page; ``ratios()`` at the end, over one window."""

    def __init__(self, policy: Policy, window: float = 7200.0, interval: float = 3600.0, model: str = "m") -> None:
        self._policy, self._window, self._model = policy, window, model
        watch = Watch("w", (Watched("e", 1.0),), holds=(Hold("GPU-0", 1.0),))
        self._meter = Meter([watch], interval)
        self._windows = Windows([window])
        self.totals: dict[Account, float] = {}

    def page(self, at: float, *, born: float = T0 - 1, joules: float | None = None, **counters: float) -> None:
        """A page with these counters, and what the GPU's energy meter shows."""
        keys = {Key(name, self._model, name): value for name, value in counters.items()}
        signals = [signal_of("e", T0 + at, process_start=born, counters=keys)]
        gpus = [] if joules is None else [GpuReading("nvml", T0 + at, gpus=(Gpu("GPU-0", 0, energy_joules=joules),))]
        self._meter.add(Batch(T0 + at, T0 + at), [*gpus, *signals])
        entries = [settle(i, self._policy) for i in self._meter.due(T0 + at)]
        for entry in entries:
            for account, amount in entry.amounts.items():
                self.totals[account] = self.totals.get(account, 0.0) + amount
        self._windows.post(entries)
        self._windows.keep()

    def ratios(self) -> dict[tuple[str, ...], float]:
        """The gauges by name and labels, without prefix, workload and window."""
        ((workload, window, seconds, grown),) = self._windows.changes()
        found = ratios(workload, window, seconds, grown)
        assert [catalog.fault(account) for account in found if catalog.fault(account)] == []
        return {(name.removeprefix("inferometer_"), *labels[1:-1]): value for (name, labels), value in found.items()}


def test_a_ratio_of_sums() -> None:
    """R0.1: two hours at 4.00, 20 M tokens, then 1 M: 8/21 per million, not the mean 2.10 of the hours' ratios."""
    story = Story(Policy("w", rented(4.0)))
    for at, output in ((0, 0.0), (3600, 20 * M), (7200, 21 * M)):
        story.page(at, output_tokens=output)
    found = story.ratios()
    assert found["cost_per_million_tokens", "all", "allocation"] == about(8 / 21)
    assert found["cost_per_million_tokens", "all", "allocation"] != pytest.approx((4 / 20 + 4 / 1) / 2, rel=0.1)


def test_blended_output_and_split() -> None:
    """G4: 3.20, 12 M in, 3 M out, half each; the split adds up to the bill."""
    story = Story(Policy("w", rented(3.20), weights=HALF), window=3600.0)
    story.page(0, prompt_tokens=0.0, output_tokens=0.0)
    story.page(3600, prompt_tokens=12 * M, output_tokens=3 * M)
    found = story.ratios()
    for basis in ("allocation", "usage"):
        assert found["cost_per_million_tokens", "all", basis] == about(3.2 / 15)
        assert found["cost_per_million_tokens", "output", basis] == about(3.2 / 3)
        into = found["token_price_per_million", "m", "input_uncached", "weights", basis]
        out = found["token_price_per_million", "m", "output", "weights", basis]
        assert (into, out) == (about(1.6 / 12), about(1.6 / 3))
        assert 12 * into + 3 * out == about(3.20)


def test_idle_time_is_on_the_allocation_basis_only() -> None:
    """Utilisation is usage over allocation: an hour busy and three idle make 1/4, and both bases add up."""
    story = Story(Policy("w", rented(3.20), weights=HALF), window=4 * 3600.0)
    for hour, (prompt, output) in enumerate([(0, 0), (12 * M, 3 * M), *[(12 * M, 3 * M)] * 3]):
        story.page(3600.0 * hour, prompt_tokens=prompt, output_tokens=output)
    found = story.ratios()
    assert found["cost_per_million_tokens", "all", "allocation"] == about(4 * 3.2 / 15)
    assert found["cost_per_million_tokens", "all", "usage"] == about(3.2 / 15)
    assert found["busy_ratio",] == about(1 / 4)
    for basis, bill in (("allocation", 4 * 3.2), ("usage", 3.2)):
        into = found["token_price_per_million", "m", "input_uncached", "weights", basis]
        out = found["token_price_per_million", "m", "output", "weights", basis]
        assert 12 * into + 3 * out == about(bill)


def test_no_denominator_no_sample() -> None:
    """R0.3: an hour without tokens costs money and has no price per token, per request, or of good ones."""
    story = Story(Policy("w", rented(4.0), slo=Slo({"ttft": 0.5})))
    for at in (0, 3600):
        story.page(at, prompt_tokens=7.0, output_tokens=5.0, finished_ok=2.0, joules=100.0 + at)
    assert story.totals["inferometer_cost_total", ("w", "gpu", "idle")] == about(4.0)
    names = {name for name, *_ in story.ratios()}
    assert names == {"tokens_per_second", "busy_ratio", "power_watts", "energy_coverage_ratio"}


def test_a_restart_within_the_window() -> None:
    """R0.4: 9.0 M → 9.6 M → restart, 0.2 M → 0.5 M is 1.1 M tokens, and 2.00 over them 2/1.1 per million."""
    story = Story(Policy("w", rented(2.0)), window=3600.0)
    for at, tokens, born in ((0, 9.0, -1), (1200, 9.6, -1), (2400, 0.2, 1300), (3600, 0.5, 1300)):
        story.page(at, born=T0 + born, prompt_tokens=tokens * M)
    assert story.totals["inferometer_tokens_total", ("w", "e", "m", "input_uncached")] == about(1.1 * M)
    assert story.totals["inferometer_resets_total", ("e",)] == 1
    assert story.ratios()["cost_per_million_tokens", "all", "allocation"] == about(2 / 1.1)


def test_energy_per_token() -> None:
    """G10 and G11: 1,000,000 → 1,021,600 J in a minute is 360 W, over 120 k output tokens 0.18 J each."""
    policy = Policy("w", Owned(server=0, gpus=1, years=1, metered=True), Electricity(0.12, 1.3), pue=1.3)
    story = Story(policy, window=60.0, interval=60.0)
    story.page(0, prompt_tokens=0.0, output_tokens=0.0, joules=1_000_000.0)
    story.page(60, prompt_tokens=360e3, output_tokens=120e3, joules=1_021_600.0)
    found = story.ratios()
    assert found["energy_per_token_joules", "output", "gpu"] == about(21_600 / 120e3)
    assert found["energy_per_token_joules", "all", "gpu"] == about(21_600 / 480e3)
    assert found["power_watts",] == about(21_600 / 60)
    assert found["cost_per_million_tokens", "output", "allocation"] == about(21_600 * 1.3 / 3.6e6 * 0.12 / 0.12)
    assert found["tokens_per_second", "output"] == about(120e3 / 60)


def good(judged: float, lower: float, upper: float) -> dict[Account, float]:
    """What strata that ended in a window add to it."""
    return {
        ("inferometer_slo_requests_total", ("w", "m", "histogram")): judged,
        ("inferometer_good_requests_lower_total", ("w", "m", "histogram")): lower,
        ("inferometer_good_requests_upper_total", ("w", "m", "histogram")): upper,
    }


COST = {("inferometer_cost_total", ("w", "gpu", "busy")): 4.0}
REQUESTS = {("inferometer_requests_total", ("w", "m", "ok")): 1000.0}


def gauge(found: dict[Account, float], name: str, window: str) -> float | None:
    return found.get((f"inferometer_{name}", ("w", window)))


def test_money_per_good_request() -> None:
    """G8c: 4.00 over 1,000 requests of which 840 to 930 were good; the bounds of money turn around."""
    found = ratios("w", 3600.0, 3600.0, {**COST, **REQUESTS, **good(1000, 840, 930)})
    assert gauge(found, "cost_per_request", "1h") == about(4 / 1000)
    assert gauge(found, "cost_per_good_request_lower", "1h") == about(4 / 930)
    assert gauge(found, "cost_per_good_request_upper", "1h") == about(4 / 840)


def test_goodput_rates() -> None:
    """G8: 840 to 930 good ones of 1,000 in 300 s; with 20 failures, of 1,020."""
    found = ratios("w", 300.0, 300.0, good(1000, 840, 930))
    assert gauge(found, "goodput_requests_per_second_lower", "5m") == about(840 / 300)
    assert gauge(found, "goodput_requests_per_second_upper", "5m") == about(930 / 300)
    assert gauge(found, "goodput_ratio_lower", "5m") == about(840 / 1000)
    found = ratios("w", 300.0, 300.0, good(1020, 840, 930))
    assert gauge(found, "goodput_ratio_lower", "5m") == about(840 / 1020)
    assert gauge(found, "goodput_ratio_upper", "5m") == about(930 / 1020)


def test_no_certain_good_request_no_upper_price() -> None:
    """When none is certainly good, the price of a good one has a lower bound only; and none without a price."""
    found = ratios("w", 300.0, 300.0, {**COST, **good(10, 0, 5)})
    assert gauge(found, "cost_per_good_request_upper", "5m") is None
    assert gauge(found, "cost_per_good_request_lower", "5m") == about(4 / 5)
    assert gauge(found, "goodput_ratio_lower", "5m") == 0
    assert gauge(ratios("w", 300.0, 300.0, good(10, 5, 5)), "cost_per_good_request_lower", "5m") is None
    assert gauge(ratios("w", 300.0, 300.0, {**COST, **good(0, 0, 0)}), "goodput_ratio_lower", "5m") is None


def test_interactivity() -> None:
    """Tokens per second of one request are one over the mean TPOT."""
    latency = {("inferometer_tpot_seconds_sum", ("w", "m")): 0.5, ("inferometer_tpot_seconds_count", ("w", "m")): 20.0}
    assert gauge(ratios("w", 60.0, 60.0, latency), "tokens_per_second_per_request", "1m") == about(20 / 0.5)


@pytest.mark.parametrize("model", ["output", "input_cached", "busy", "gpu", ""])
def test_a_model_may_be_called_anything(model: str) -> None:
    """A model whose name is also a label value changes no figure."""
    story = Story(Policy("w", rented(3.20), weights=HALF), window=3600.0, model=model)
    story.page(0, prompt_tokens=0.0, output_tokens=0.0)
    story.page(3600, prompt_tokens=12 * M, output_tokens=3 * M)
    found = story.ratios()
    assert found["cost_per_million_tokens", "all", "allocation"] == about(3.2 / 15)
    assert found["cost_per_million_tokens", "output", "usage"] == about(3.2 / 3)
    assert found["tokens_per_second", "output"] == about(3 * M / 3600)


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(30, "30s"), (60, "1m"), (90, "90s"), (300, "5m"), (3600, "1h"), (5400, "90m"), (86400, "1d"), (0.5, "0.5s")],
)
def test_window_labels(seconds: float, label: str) -> None:
    """A window is written as people write it."""
    assert window_label(seconds) == label


AMOUNT = st.one_of(st.just(0.0), st.floats(1e-12, 1e9))  # money and tokens; smaller sums do not exist


@settings(deadline=None)
@given(st.lists(AMOUNT, min_size=5, max_size=5), st.lists(AMOUNT, min_size=3, max_size=3))
def test_allocation_prices_add_up_to_the_bill(money: list[float], tokens: list[float]) -> None:
    """Whatever went where, price × tokens over the types is all of the money, idle and unassigned included."""
    kinds = ("input_uncached", "input_cached", "output")
    rest = {
        ("inferometer_token_cost_total", ("w", "", kind, "none")): m
        for kind, m in zip(("idle", "unassigned"), money, strict=False)
    }
    split = {
        ("inferometer_token_cost_total", ("w", "m", k, "weights")): m for k, m in zip(kinds, money[2:], strict=True)
    }
    counts = {("inferometer_tokens_total", ("w", "m", k)): n + 1 for k, n in zip(kinds, tokens, strict=True)}
    found = ratios("w", 60.0, 60.0, {**rest, **split, **counts})
    prices = {
        labels[2]: v for (n, labels), v in found.items() if n.endswith("price_per_million") and "allocation" in labels
    }
    if sum(money[2:]) > 0:
        bill = sum(price * counts["inferometer_tokens_total", ("w", "m", kind)] / M for kind, price in prices.items())
        assert bill == pytest.approx(sum(money), rel=1e-9)
    else:
        assert prices == {}


def test_histograms_of_engines_meet_in_the_window() -> None:
    """TPOT sums and counts reach the ratios under the names that they are looked up by."""
    story = Story(Policy("w"), window=60.0, interval=60.0)
    story.page(0, output_tokens=0.0)
    meter, windows = story._meter, story._windows
    key = Key("tpot", "m", "tpot")
    for at, count, total in ((30, 0.0, 0.0), (60, 10.0, 0.25)):
        still = {Key("output_tokens", "m", "output_tokens"): 0.0}
        latency = {key: Histogram((INF,), (count,), total)}
        signal = signal_of("e", T0 + at, process_start=T0 - 1, counters=still, histograms=latency)
        meter.add(Batch(T0 + at, T0 + at), [signal])
        windows.post(settle(i, Policy("w")) for i in meter.due(T0 + at))
    assert story.ratios()["tokens_per_second_per_request",] == about(10 / 0.25)
