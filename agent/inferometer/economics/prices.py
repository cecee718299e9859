"""What a GPU costs: money per GPU and second, by component, over any stretch of wall time (formulas §§1, 3)."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from msgspec import Struct

HOURS_PER_YEAR = 8760.0
SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6
_DAY_SECONDS = 86400.0
_SAME_OFFSET_SECONDS = 900.0  # zones change their offset on the quarter of an hour


class Step(Struct, frozen=True):
    """From ``minute`` of the day on, one GPU costs ``rate`` money per hour."""

    minute: int
    rate: float


class Rented(Struct, frozen=True):
    """Money per GPU-hour, power inside; the steps ascend and the last one runs past midnight to the first."""

    steps: tuple[Step, ...]
    zone: tzinfo = UTC


class Owned(Struct, frozen=True):
    """A server that was bought: amounts per server, years and ratios; ``software_per_gpu`` is per GPU and year."""

    server: float
    gpus: int
    years: float
    residual: float = 0.0
    cost_of_capital: float = 0.0
    availability: float = 1.0
    metered: bool = False
    software: float = 0.0
    software_per_gpu: float = 0.0
    hosting: float = 0.0
    other: float = 0.0


class Electricity(Struct, frozen=True):
    """Money per facility kWh, and facility energy per IT energy."""

    per_kwh: float
    pue: float = 1.0


class Training(Struct, frozen=True):
    """Fine-tuning amortised: ``amount`` spread over ``seconds`` of wall time, or over ``tokens`` (formulas §10)."""

    amount: float
    seconds: float = 0.0
    tokens: float = 0.0


Price = Rented | Owned


def capital_per_year(owned: Owned) -> float:
    """Yearly capital cost: straight line, or an annuity where capital has a cost (formulas §1)."""
    i = owned.cost_of_capital
    if i == 0:
        return (owned.server - owned.residual) / owned.years
    growth: float = (1 + i) ** owned.years
    return (owned.server - owned.residual / growth) * (i * growth / (growth - 1))


def owned_rates(owned: Owned) -> dict[str, float]:
    """Money per GPU-hour by component, power not included."""
    gpu_hours = HOURS_PER_YEAR * owned.gpus * owned.availability
    software = owned.software + owned.software_per_gpu * owned.gpus
    return {
        "gpu": capital_per_year(owned) / gpu_hours,
        "software": software / gpu_hours,
        "hosting": owned.hosting / gpu_hours,
        "other": owned.other / gpu_hours,
    }


def power_rate(it_kilowatts: float, electricity: Electricity, gpus: int) -> float:
    """Money per GPU-hour for the power of a server: P · PUE · tariff ÷ GPUs."""
    return it_kilowatts * electricity.pue * electricity.per_kwh / gpus


def energy_cost(joules: float, electricity: Electricity) -> float:
    """Money for IT joules at the facility's meter."""
    return joules / JOULES_PER_KWH * electricity.pue * electricity.per_kwh


def amortised(training: Training, seconds: float, tokens: float = 0.0) -> float:
    """Money of a fine-tuning that falls on a stretch of wall time, or on tokens."""
    if training.tokens:
        return training.amount * tokens / training.tokens
    return training.amount * seconds / training.seconds


def hourly(price: Price, wall: float) -> float:
    """Money per GPU-hour at an instant, power of owned servers not included."""
    if isinstance(price, Owned):
        return sum(owned_rates(price).values())
    return _step_at(price, wall)[0]


def held(price: Price, until: float, seconds: float) -> dict[str, float]:
    """Money by component for one GPU held over the ``seconds`` of wall time that end at ``until``."""
    if isinstance(price, Owned):
        return {name: rate * seconds / SECONDS_PER_HOUR for name, rate in owned_rates(price).items()}
    if len(price.steps) == 1:
        return {"gpu": price.steps[0].rate * seconds / SECONDS_PER_HOUR}
    return {"gpu": _stepped(price, until - seconds, seconds)}


def _stepped(price: Rented, start: float, seconds: float) -> float:
    money, left, now = 0.0, seconds, start
    while left > 0:
        rate, lasts = _step_at(price, now)
        stretch = min(left, lasts)
        money += rate * stretch / SECONDS_PER_HOUR
        now += stretch
        left -= stretch
    return money


def _step_at(price: Rented, wall: float) -> tuple[float, float]:
    """The rate at ``wall`` and for how many more seconds it certainly holds. The local clock says which step runs.

    An hour that the clock shows twice costs twice what it says; steps in one that it skips are skipped.
    """
    if len(price.steps) == 1:
        return price.steps[0].rate, float("inf")
    offset = datetime.fromtimestamp(wall, price.zone).utcoffset()
    second = (wall + (offset.total_seconds() if offset else 0.0)) % _DAY_SECONDS
    begun = [step.rate for step in price.steps if step.minute * 60 <= second] or [price.steps[-1].rate]
    following = min((step.minute * 60 for step in price.steps if step.minute * 60 > second), default=_DAY_SECONDS)
    return begun[-1], min(following - second, _SAME_OFFSET_SECONDS - wall % _SAME_OFFSET_SECONDS)
