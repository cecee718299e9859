"""Prices against formulas §§1, 3, 8 and 10, each golden value as its exact expression."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics.prices import (
    Electricity,
    Owned,
    Rented,
    Step,
    Training,
    amortised,
    capital_per_year,
    energy_cost,
    held,
    hourly,
    owned_rates,
    power_rate,
)

YEAR_HOURS = 8760
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = (Step(6 * 60, 2.0), Step(22 * 60, 1.0))


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def server(**changes: float) -> Owned:
    """The server of the golden examples: 320,000 for 8 GPUs over 4 years."""
    return Owned(**{"server": 320_000, "gpus": 8, "years": 4, "software": 4_500, "hosting": 3_000, **changes})


PER_GPU = {"software": 0.0, "software_per_gpu": 4_500}
CRF = 0.08 * 1.08**4 / (1.08**4 - 1)


@pytest.mark.parametrize(
    ("name", "owned", "rate"),
    [
        ("G1a", server(), 87_500 / YEAR_HOURS / 8),
        ("G1b", server(**PER_GPU), 119_000 / YEAR_HOURS / 8),
        ("G1d, fixed part", server(**PER_GPU, availability=0.95), 119_000 / YEAR_HOURS / 8 / 0.95),
        (
            "G1e",
            server(**PER_GPU, residual=64_000, cost_of_capital=0.08),
            ((320_000 - 64_000 / 1.08**4) * CRF + 36_000 + 3_000) / YEAR_HOURS / 8,
        ),
        ("G1f", server(**PER_GPU, residual=64_000), 103_000 / YEAR_HOURS / 8),
        ("maintenance", Owned(server=280_000, gpus=1, years=3, other=28_000), 280_000 / 26_280 + 28_000 / 8_760),
    ],
)
def test_owned_gpu_hour(name: str, owned: Owned, rate: float) -> None:
    """What a GPU-hour of a bought server costs before power; one year of maintenance is not spread over all years."""
    assert hourly(owned, 0.0) == about(rate), name
    assert sum(owned_rates(owned).values()) == about(rate)


def test_owned_components_are_kept_apart() -> None:
    """Each yearly amount has a rate of its own, and all are per GPU-hour that is available."""
    hours = YEAR_HOURS * 8 * 0.5
    rates = owned_rates(server(availability=0.5, software_per_gpu=100, other=700))
    assert rates == {
        "gpu": about(80_000 / hours),
        "software": about((4_500 + 800) / hours),
        "hosting": about(3_000 / hours),
        "other": about(700 / hours),
    }


def test_capital_with_interest() -> None:
    """G1e: the annuity of what is left after the discounted residual; 82,411.73 a year to the cent."""
    yearly = capital_per_year(server(residual=64_000, cost_of_capital=0.08))
    assert yearly == about((320_000 - 64_000 / 1.08**4) * CRF)
    assert round(yearly, 2) == 82_411.73
    assert round(CRF, 9) == 0.301920804


def test_power_of_a_server() -> None:
    """G1c and G1d: 6 kW at PUE 1.25 and 0.10 per kWh add 0.75 per server-hour to the fixed part."""
    power = power_rate(6.0, Electricity(0.10, 1.25), 8)
    assert power == about(6 * 1.25 * 0.10 / 8)
    assert hourly(server(**PER_GPU), 0.0) + power == about(119_000 / YEAR_HOURS / 8 + 0.75 / 8)
    assert hourly(server(**PER_GPU, availability=0.95), 0.0) + power == about(
        119_000 / YEAR_HOURS / 8 / 0.95 + 0.75 / 8
    )


def test_energy_at_the_facility_meter() -> None:
    """G11: 33,600 J of IT energy at PUE 1.3 and 0.12 per kWh."""
    money = energy_cost(21_600 + 12_000, Electricity(0.12, 1.3))
    assert money == about(43_680 / 3.6e6 * 0.12)
    assert money / 120_000 * 1e6 == about(0.364 * 0.12 / 3.6)


def test_training_by_time() -> None:
    """§10: 12,000 over 180 days is 12000/(180·24) an hour."""
    training = Training(12_000, 180 * 86_400)
    assert amortised(training, 3_600) == about(12_000 / (180 * 24))
    assert amortised(training, 3_600) / 15 == about(12_000 / (180 * 24) / 15)


def test_training_by_tokens() -> None:
    """§10: 12,000 over 20 billion tokens are 0.60 per million, whenever they come."""
    training = Training(12_000, tokens=20e9)
    assert amortised(training, 3_600, 1e6) == about(0.60)
    assert amortised(training, 3_600) == 0


def test_a_tariff_that_changes_within_the_hour() -> None:
    """G3: 30 min at 2.50, 20 min at 1.10, 10 min at 2.50."""
    price = Rented((Step(0, 2.5), Step(12 * 60 + 30, 1.1), Step(12 * 60 + 50, 2.5)))
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
    assert held(price, noon + 3_600, 3_600)["gpu"] == about(2.5 * 30 / 60 + 1.1 * 20 / 60 + 2.5 * 10 / 60)


@pytest.mark.parametrize(
    ("clock", "rate"), [("05:59:59", 1.0), ("06:00:00", 2.0), ("21:59:59", 2.0), ("22:00:00", 1.0), ("00:00:00", 1.0)]
)
def test_the_last_step_runs_past_midnight(clock: str, rate: float) -> None:
    """A step begins at its minute, and the last one of a day lasts until the first of the next."""
    for zone in (UTC, BERLIN, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/St_Johns")):
        at = datetime.fromisoformat(f"2026-06-01T{clock}").replace(tzinfo=zone).timestamp()
        assert hourly(Rented(NIGHT, zone), at) == rate


@pytest.mark.parametrize(
    ("day", "hours", "cost"),
    [
        ("2026-03-28", 24, 16 * 2.0 + 8 * 1.0),
        ("2026-03-29", 23, 16 * 2.0 + 7 * 1.0),
        ("2026-10-25", 25, 16 * 2.0 + 9 * 1.0),
    ],
)
def test_days_of_23_and_25_hours(day: str, hours: int, cost: float) -> None:
    """When Berlin's clock jumps, the night is an hour shorter or longer, and is charged as such."""
    start, end = day_of(day, BERLIN)
    assert end - start == hours * 3_600
    assert held(Rented(NIGHT, BERLIN), end, end - start)["gpu"] == about(cost)


@pytest.mark.parametrize(
    ("steps", "spring", "autumn"),
    [
        # The clock skips 02:00-03:00: a step inside it never runs, however dear it is. It shows that hour twice.
        (((0, 1.0), (120, 5.0), (180, 2.0)), 2 * 1.0 + 21 * 2.0, 2 * 1.0 + 2 * 5.0 + 21 * 2.0),
        (((0, 1.0), (150, 5.0), (180, 2.0)), 2 * 1.0 + 21 * 2.0, 2 * (1.0 + 0.5 * 1.0 + 0.5 * 5.0) + 21 * 2.0),
        (((0, 1.0), (150, 5.0)), 2 * 1.0 + 21 * 5.0, 2 * (1.0 + 0.5 * 1.0 + 0.5 * 5.0) + 21 * 5.0),
        (((0, 1.0), (180, 2.0)), 2 * 1.0 + 21 * 2.0, 4 * 1.0 + 21 * 2.0),
    ],
)
def test_steps_in_the_hour_that_is_skipped_or_shown_twice(
    steps: tuple[tuple[int, float], ...], spring: float, autumn: float
) -> None:
    """The local clock says which step runs, also on the two days a year when it jumps."""
    price = Rented(tuple(Step(*step) for step in steps), BERLIN)
    for day, cost in (("2026-03-29", spring), ("2026-10-25", autumn)):
        start, end = day_of(day, BERLIN)
        assert held(price, end, end - start)["gpu"] == about(cost), day


ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")])
STEPS = st.dictionaries(st.integers(0, 1439), st.floats(0.01, 100), min_size=1, max_size=5).map(
    lambda rates: tuple(Step(minute, rates[minute]) for minute in sorted(rates))
)
STARTS = st.integers(0, 366 * 86_400 * 8).map(lambda eighths: 1_767_225_600 + eighths / 8)  # 2026, exact in floats


@settings(deadline=None)
@given(STEPS, ZONES, STARTS, st.lists(st.integers(0, 40 * 3_600 * 8), min_size=1, max_size=6))
def test_splitting_a_stretch_never_changes_the_sum(
    steps: tuple[Step, ...], zone: tzinfo, start: float, cuts: list[int]
) -> None:
    """However often a stretch is settled, it costs the same."""
    price = Rented(steps, zone)
    edges = sorted({0, *cuts})
    whole = held(price, start + edges[-1] / 8, edges[-1] / 8)["gpu"]
    parts = [held(price, start + b / 8, (b - a) / 8)["gpu"] for a, b in pairwise(edges)]
    assert sum(parts) == about(whole)


@settings(deadline=None)
@given(STEPS, ZONES, STARTS, st.integers(1, 30 * 60))
def test_every_minute_costs_what_the_local_clock_says(
    steps: tuple[Step, ...], zone: tzinfo, start: float, minutes: int
) -> None:
    """The sum over a stretch is the sum of its minutes, each priced by the wall clock of the zone alone."""
    start -= start % 60
    expected = 0.0
    for minute in range(minutes):
        local = datetime.fromtimestamp(start + 60 * minute, zone)
        begun = [step.rate for step in steps if step.minute <= local.hour * 60 + local.minute]
        expected += (begun or [steps[-1].rate])[-1] / 60
    assert held(Rented(steps, zone), start + 60 * minutes, 60.0 * minutes)["gpu"] == about(expected)


def test_the_clocks_of_berlin_in_2026() -> None:
    """Three hours around each change of the clock, second by second where it matters."""
    price = Rented((Step(0, 1.0), Step(3 * 60, 7.0)), BERLIN)
    spring = datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()  # 02:00 becomes 03:00
    autumn = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()  # 03:00 becomes 02:00
    assert [hourly(price, spring + s) for s in (-1, 0, 1)] == [1.0, 7.0, 7.0]
    assert [hourly(price, autumn + s) for s in (-1, 0, 3_599, 3_600)] == [1.0, 1.0, 1.0, 7.0]


def day_of(day: str, zone: tzinfo) -> tuple[float, float]:
    """Unix times of a day's two midnights."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()
