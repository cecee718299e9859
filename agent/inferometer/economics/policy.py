"""What a workload's owner decided: prices, SLOs and how money is split over token types."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from inferometer.economics.budget import Budget
from inferometer.economics.prices import Electricity, Price, Training
from inferometer.model import INPUT_CACHED, INPUT_UNCACHED, OUTPUT

DEFAULT_WEIGHTS = {INPUT_UNCACHED: 1.0, INPUT_CACHED: 0.1, OUTPUT: 4.0}


class Slo(Struct, frozen=True):
    """Thresholds in seconds by SLO name (ttft, tpot, e2e), inclusive; ``objective``: the share that must be good.

    ``models``: thresholds of models that have their own.
    """

    thresholds: Mapping[str, float]
    objective: float = 0.95
    models: Mapping[str, Mapping[str, float]] = {}

    def of(self, model: str) -> Mapping[str, float]:
        """The thresholds of a model."""
        return self.models.get(model, self.thresholds)


class Policy(Struct, frozen=True):
    """How the intervals of one workload are settled. Without a price there is no money.

    ``pue``: facility energy per IT energy, None where nobody said. Water is per IT kWh, carbon per facility kWh.
    ``rates``: measured prefill and decode rates in tokens per second, which split money better than weights.
    """

    workload: str
    price: Price | None = None
    electricity: Electricity | None = None
    pue: float | None = None
    carbon_grams_per_kwh: float | None = None
    water_liters_per_kwh: float | None = None
    training: Training | None = None
    slo: Slo | None = None
    budget: Budget | None = None
    rates: tuple[float, float] | None = None
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
