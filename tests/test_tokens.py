"""Splits of money over token types against formulas §§4, 5 and 10.

Not computed on purpose: a split by request-seconds. The engines' prefill and decode time sums overlap between
concurrent requests; test_request_seconds_are_no_gpu_time shows how far off they are (G7).
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics.policy import DEFAULT_WEIGHTS
from inferometer.economics.tokens import (
    annual_factor,
    by_gpu_time,
    by_rates,
    by_weights,
    per_correct_answer,
    per_million,
    request_cost,
)

M = 1e6
G5_PRICES = {"input_uncached": 4 / 14.4, "input_cached": 0.1 * 4 / 14.4, "output": 4 * 4 / 14.4}


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def test_a_split_loses_nothing_to_underflow() -> None:
    """Of a count that no engine has, but any page may show, all of the money is its own still."""
    assert sum(by_weights(0.006, {"output": 1.255e-321}, {"output": 4.0}).values()) == 0.006


def test_split_by_weights() -> None:
    """G5: money in proportion to tokens × weight, prices of each type from that."""
    tokens = {"input_uncached": 6 * M, "input_cached": 4 * M, "output": 2 * M}
    money = by_weights(4, tokens, DEFAULT_WEIGHTS)
    assert money == {"input_uncached": about(24 / 14.4), "input_cached": about(1.6 / 14.4), "output": about(32 / 14.4)}
    assert sum(money.values()) == about(4)
    assert {kind: per_million(money[kind], tokens[kind]) for kind in tokens} == {
        kind: about(price) for kind, price in G5_PRICES.items()
    }
    assert per_million(money["input_uncached"] + money["input_cached"], 10 * M) == about(16 / 9 / 10)
    assert per_million(4, 12 * M) == about(4 / 12)


def test_price_ratio_split() -> None:
    """With a cached token as dear as another, and output at three: money in proportion to U + K + 3 O."""
    weights = {"input_uncached": 1.0, "input_cached": 1.0, "output": 3.0}
    money = by_weights(4, {"input_uncached": 6 * M, "input_cached": 4 * M, "output": 2 * M}, weights)
    assert money == {
        "input_uncached": about(4 * 6 / 16),
        "input_cached": about(4 * 4 / 16),
        "output": about(4 * 6 / 16),
    }


def test_split_in_half() -> None:
    """G4: 3.20 over 12 M in and 3 M out, half each."""
    money = by_weights(3.20, {"input_uncached": 12 * M, "output": 3 * M}, {"input_uncached": 1 / 12, "output": 1 / 3})
    assert per_million(money["input_uncached"], 12 * M) == about(1.6 / 12)
    assert per_million(money["output"], 3 * M) == about(1.6 / 3)


def test_split_by_calibrated_rates() -> None:
    """G6: 300 s of prefill against 800 s of decode."""
    tokens = {"input_uncached": 6 * M, "input_cached": 5 * M, "output": 2 * M}
    money = by_rates(4, tokens, 20_000, 2_500)
    assert money == {"input_uncached": about(4 * 300 / 1100), "input_cached": 0.0, "output": about(4 * 800 / 1100)}
    assert per_million(money["input_uncached"], 6 * M) == about(4 * 300 / 1100 / 6)
    assert per_million(money["output"], 2 * M) == about(4 * 800 / 1100 / 2)


def test_split_by_gpu_time() -> None:
    """G6b: 310 s and 790 s of an hour at 4.00, the rest idle."""
    money = by_gpu_time(4, 310, 790, 3600)
    expected = {
        "input_uncached": about(4 * 310 / 3600),
        "output": about(4 * 790 / 3600),
        "idle": about(4 * 2500 / 3600),
    }
    assert money == expected


def test_request_seconds_are_no_gpu_time() -> None:
    """G7: with 32 requests decoding at once, request-seconds give prefill 1/23.5 of its share, sums of means 2.6 ×."""
    tokens = {"input_uncached": 6 * M, "output": 2 * M}
    share = by_rates(1, tokens, 20_000, 2_500)["input_uncached"]
    by_request_seconds, by_sums_of_means = 300 / (300 + 25_600), 300 / (300 + 128.643)
    assert share == about(300 / (300 + 800))
    assert share / by_request_seconds == about((300 / 1100) / (300 / 25_900))
    assert share != pytest.approx(by_request_seconds, rel=0.5)
    assert share != pytest.approx(by_sums_of_means, rel=0.5)


WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-6, 100))


@settings(deadline=None)
@given(
    st.one_of(st.just(0.0), st.floats(1e-12, 1e9)),
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 10**12), WEIGHTS), max_size=6),
)
def test_weights_share_out_all_of_it(money: float, kinds: dict[str, tuple[int, float]]) -> None:
    """What is shared out is the whole sum, and no part is negative."""
    tokens = {kind: count for kind, (count, _) in kinds.items()}
    parts = by_weights(money, tokens, {kind: weight for kind, (_, weight) in kinds.items()})
    assert min(parts.values(), default=0.0) >= 0
    assert not parts or sum(parts.values()) == about(money)
    assert bool(parts) == any(count * weight > 0 for count, weight in kinds.values())


def test_no_tokens_no_price() -> None:
    """R0.3: without a denominator there is no number, neither 0 nor infinity."""
    assert per_million(4, 0) is None
    assert by_weights(4, {"output": 0.0}, DEFAULT_WEIGHTS) == {}
    assert by_weights(4, {"output": 7.0}, {"output": 0.0}) == {}


@pytest.mark.parametrize(("output", "cost"), [(717, (600 + 4 * 717) / 3.6e6), (6_988, (600 + 4 * 6_988) / 3.6e6)])
def test_cost_of_one_answer(output: int, cost: float) -> None:
    """G14: reasoning tokens are output tokens."""
    assert request_cost(G5_PRICES, {"input_uncached": 600, "output": output}) == about(cost)


def test_thinking_costs_eight_times_as_much() -> None:
    """G14: the ratio of the two answers."""
    short, long = (request_cost(G5_PRICES, {"input_uncached": 600, "output": n}) for n in (717, 6_988))
    assert long / short == about(28_552 / 3_468)


def test_cost_of_an_agent() -> None:
    """G14b: ten turns on a growing context, with and without a prefix cache."""
    context = [2_000 + turn * (800 + 300) for turn in range(10)]
    uncached, output = 2_000 + 9 * 800, 10 * 300
    cached = sum(context) - uncached
    assert (uncached, cached) == (9_200, 60_300)
    with_cache = request_cost(G5_PRICES, {"input_uncached": uncached, "input_cached": cached, "output": output})
    without = request_cost(G5_PRICES, {"input_uncached": sum(context), "output": output})
    assert with_cache == about((9_200 + 6_030 + 12_000) / 3.6e6)
    assert without == about((69_500 + 12_000) / 3.6e6)


@pytest.mark.parametrize(("output", "rate"), [(6_988, 0.80), (717, 0.30)])
def test_cost_of_a_correct_answer(output: int, rate: float) -> None:
    """§10: an attempt's cost over the rate of success."""
    attempt = request_cost(G5_PRICES, {"input_uncached": 600, "output": output})
    assert per_correct_answer(attempt, rate) == about((600 + 4 * output) / 3.6e6 / rate)


def test_training_by_units_of_production() -> None:
    """§10: 12,000 over 20 billion tokens."""
    assert per_million(12_000, 20e9) == about(0.60)


@pytest.mark.parametrize(
    ("before", "after", "days", "factor"),
    [(0.90, 0.40, 200, (0.90 / 0.40) ** (365 / 200)), (20, 0.07, 23 * 365 / 12, (20 / 0.07) ** (12 / 23))],
)
def test_times_cheaper_per_year(before: float, after: float, days: float, factor: float) -> None:
    """§10, trend: 4.39 and 19.1 times per year."""
    assert annual_factor(before, after, days) == about(factor)
