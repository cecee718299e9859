"""Entry: settled money, energy and requests."""

from __future__ import annotations

from msgspec import Struct, field

from inferometer.model.histograms import Histogram
from inferometer.model.verdicts import Exemplar
from inferometer.model.words import Account


class Entry(Struct):
    """What one interval adds to the totals. Zero amounts open their account at 0.

    ``exemplars``: by histogram and number of the bucket; they are shown, not kept.
    """

    workload: str
    until: float
    amounts: dict[Account, float] = field(default_factory=dict)
    histograms: dict[Account, Histogram] = field(default_factory=dict)
    exemplars: dict[Account, dict[int, Exemplar]] = field(default_factory=dict)
