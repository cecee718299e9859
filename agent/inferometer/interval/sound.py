"""Whether what the ledger remembers can be: a mark is data too, and one NaN in it would stay in the totals for ever."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import inf

from msgspec import Struct

from inferometer.model import Histogram

_ABSURD = 1e30  # no sum of what pages may show
_ENDLESS = frozenset({"edges", "start", "floor", "end", "last", "sealed"})  # where an infinity has a meaning
_NOTHING = -1e-6  # what rounding may leave of a zero
_AMOUNTS = frozenset({"energy", "metered_gpu_seconds", "gpus", "resets", "wasted", "posted", "certain"})  # not below 0


def is_sound(value: object, name: str = "") -> bool:
    """Whether all numbers below ``value`` are, and all histograms are as long as their edges. ``name``: its field."""
    if isinstance(value, float | int):
        low = _NOTHING if name in _AMOUNTS else -_ABSURD
        return low <= value < _ABSURD or (abs(value) == inf and name in _ENDLESS)
    if isinstance(value, Histogram) and not _fits(value):
        return False
    if isinstance(value, Struct):
        return all(is_sound(getattr(value, field), field) for field in value.__struct_fields__)
    if isinstance(value, Mapping):
        return all(is_sound(one, name) for one in value.values())
    if isinstance(value, list | tuple):
        return all(is_sound(one, name) for one in value)
    return True


def _fits(histogram: Histogram) -> bool:
    edges = histogram.edges
    return len(edges) == len(histogram.counts) and all(low < high for low, high in pairwise(edges))
