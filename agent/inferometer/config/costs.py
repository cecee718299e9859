"""Costs: the prices of a configuration as the economics take them."""

from __future__ import annotations

from inferometer.config import schema
from inferometer.config.zones import zone
from inferometer.economics import prices
from inferometer.economics.budget import Budget


def price(config: schema.Price) -> prices.Price | None:
    """Money per GPU and hour: rented steps in their timezone, or an owned server; None before its feed was read."""
    if config.feed is not None and config.gpu_hour is None:
        return None
    if config.owned is not None:
        return _owned(config.owned)
    if isinstance(config.gpu_hour, tuple):
        steps = tuple(prices.Step(minute=step.start, rate=step.rate) for step in config.gpu_hour)
        return prices.Rented(steps, zone(config.timezone))
    return prices.Rented((prices.Step(minute=0, rate=config.gpu_hour or 0.0),))


def workload_price(config: schema.Config, workload: schema.Workload) -> prices.Price | None:
    """What a workload's GPUs cost; None where it has no price, or none yet."""
    return None if workload.price is None else price(config.prices[workload.price])


def electricity(config: schema.Electricity | None) -> prices.Electricity | None:
    """The tariff; with a PUE alone the power costs 0, and no owned price may be metered."""
    return None if config is None else prices.Electricity(config.price_per_kwh or 0.0, config.pue)


def training(config: schema.Training | None) -> prices.Training | None:
    """Fine-tuning spread over time or over tokens; None where there is none."""
    if config is None:
        return None
    return prices.Training(config.amount, config.over or 0.0, config.over_tokens or 0.0)


def budget(config: schema.Budget | None) -> Budget | None:
    """Money per period; None where there is no limit."""
    return None if config is None else Budget(config.amount, config.period, zone(config.timezone))


def _owned(owned: schema.Owned) -> prices.Owned:
    per_year = owned.software_per_year
    software = per_year if isinstance(per_year, schema.Software) else schema.Software(per_year)
    return prices.Owned(
        server=owned.server,
        gpus=owned.gpus,
        years=owned.years,
        residual=owned.residual,
        cost_of_capital=owned.cost_of_capital,
        availability=owned.availability,
        metered=owned.metered,
        software=software.amount if software.per == "server" else 0.0,
        software_per_gpu=software.amount if software.per == "gpu" else 0.0,
        hosting=owned.hosting_per_year,
        other=owned.other_per_year,
    )
