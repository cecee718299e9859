"""Budgets of money and of errors, against formulas §9; what was spent survives restarts (design §5, budget)."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from inferometer.app.periods import Periods
from inferometer.economics import Hours, Policy, Slo
from inferometer.economics.budget import Budget, bounds, burn, outlook
from inferometer.economics.prices import Rented, Step
from inferometer.economics.ratios import burn_rate
from inferometer.ledger import Ledger
from inferometer.model import Entry

DAY, HOUR = 86_400.0, 3_600.0
BERLIN = ZoneInfo("Europe/Berlin")
RENTED = Rented((Step(0, 2.5),))


def about(value):
    return pytest.approx(value, rel=1e-9)


def unix(*date, zone=UTC):
    return datetime(*date, tzinfo=zone).timestamp()


def test_burn_of_an_error_budget():
    """G13: 99 %, bad 20 % in an hour: burn 20, 2.7778 % of 30 days' budget, all of it gone in 36 hours."""
    burning = burn_rate(200, 1000, 0.99)
    assert burning == about(20)
    assert burning * HOUR / (30 * DAY) == about(0.2 / 7.2)
    assert 30 * DAY / burning / HOUR == about(36)
    assert burn_rate(1, 1, 0.95) == about(20)  # no burn is faster than 1/(1 - objective)


def test_burn_and_forecast_of_money():
    """G13b: 20,000 in 30 days is 27.7778 an hour; spent 9,000 at day 10 and 55.56 an hour make 35,668.8."""
    assert burn(55.56 / HOUR, 20_000, 30 * DAY) == about(55.56 / (20_000 / 720))
    june = unix(2026, 6, 1)
    stands = outlook(Budget(20_000), june + 10 * DAY, 9_000, 55.56 / HOUR)
    assert (stands.amount, stands.spent) == (20_000, 9_000)
    assert stands.forecast == about(9_000 + 55.56 * 480)
    assert outlook(Budget(20_000, 30 * DAY), june, 9_000, 55.56 / HOUR).forecast == about(55.56 * 720)


@pytest.mark.parametrize(
    ("budget", "now", "start", "end"),
    [
        (Budget(1), (2026, 2, 14, 13), (2026, 2, 1), (2026, 3, 1)),
        (Budget(1), (2026, 12, 31, 23, 59), (2026, 12, 1), (2027, 1, 1)),
        (Budget(1, "week"), (2026, 11, 24, 18), (2026, 11, 23), (2026, 11, 30)),
        (Budget(1, "day"), (2026, 11, 24, 18), (2026, 11, 24), (2026, 11, 25)),
    ],
)
@pytest.mark.parametrize("zone", [UTC, BERLIN])
def test_calendar_periods(budget, now, start, end, zone):
    local = Budget(budget.amount, budget.period, zone)
    assert bounds(local, unix(*now, zone=zone)) == (unix(*start, zone=zone), unix(*end, zone=zone))


def test_a_month_with_a_change_of_the_clock():
    """In Berlin March 2026 is an hour short."""
    start, end = bounds(Budget(1, "month", BERLIN), unix(2026, 3, 15))
    assert end - start == 31 * DAY - HOUR


def test_a_rolling_period_looks_back():
    assert bounds(Budget(1, 30 * DAY), 1000 * DAY) == (970 * DAY, 1000 * DAY)


def entry(until, money=0.0, judged=0.0, good=0.0):
    amounts = {
        ("inferometer_cost_total", ("w", "gpu", "busy")): money,
        ("inferometer_slo_requests_total", ("w", "m", "histogram")): judged,
        ("inferometer_good_requests_lower_total", ("w", "m", "histogram")): 0.0,
        ("inferometer_good_requests_upper_total", ("w", "m", "histogram")): good,
    }
    return Entry("w", until, amounts)


def test_hours_add_up_and_are_forgotten():
    hours = Hours(2 * DAY)
    for number in range(100):
        hours.post([entry(number * HOUR + 60, 1.0)])
        assert hours.since("w", (number - 9) * HOUR).money == min(10, number + 1)
    assert hours.since("w", 0.0).money < 52
    hours.post([entry(90 * HOUR, 5.0)])  # one that comes late
    assert hours.since("w", 90 * HOUR).money == 15
    assert hours.since("nobody", 0.0).money == 0


PLAN = SimpleNamespace(
    policies={"w": Policy("w", price=RENTED, slo=Slo({"ttft": 0.5}, 0.95), budget=Budget(100.0)), "x": Policy("x")}
)


def lived(folder, wall, entries):
    """One life of an agent: what its gauges say after it posted these entries."""
    ledger = Ledger(folder, "USD", wall=lambda: wall)
    periods = Periods(ledger)
    periods.follow(PLAN)
    for one in entries:
        asyncio.run(ledger.post([one], {}))
        periods.post(wall, [one])
    ledger.close()
    return {name.removeprefix("inferometer_"): value for (name, _), value in periods.values(wall, {"w": 0.001}).items()}


def test_what_was_spent_survives_restarts(tmp_path):
    """The month's money and the 30 days' verdicts are the ledger's, whoever posted them."""
    now = unix(2026, 11, 24, 17, 30)
    first = lived(tmp_path, now - DAY, [entry(unix(2026, 10, 31, 22), 7.0, 100, 100), entry(now - DAY, 30.0, 100, 90)])
    assert first["budget_spent"] == about(30)
    later = lived(tmp_path, now, [entry(now, 3.0, 100, 80), entry(now, 2.0)])
    assert later["budget_amount"] == 100
    assert later["budget_spent"] == about(35)
    assert later["budget_forecast"] == about(35 + 0.001 * (unix(2026, 12, 1) - now))
    assert later["error_budget_remaining_ratio"] == about(1 - 30 / 300 / 0.05)


def test_a_ledger_in_memory_counts_from_the_start():
    now = unix(2026, 11, 24, 17, 30)
    found = lived(None, now, [entry(now, 3.0), entry(now, 2.0)])
    assert found["budget_spent"] == about(5)
    assert "error_budget_remaining_ratio" not in found
