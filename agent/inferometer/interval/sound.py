"""Whether what the ledger remembers can be: a mark is data too, and one NaN in it would stay in the totals for ever."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import inf

from msgspec import Struct

from inferometer.model import Histogram

_ABSURD = 1e18  # as with pages
_ENDLESS = frozenset({"edges", "end"})  # where +Inf has a meaning
_AMOUNTS = frozenset({"energy", "metered_gpu_seconds", "resets", "wasted", "posted", "certain"})  # never below zero


def is_sound(value: object, name: str = "") -> bool:
    """Whether all numbers below ``value`` are numbers, and all histograms cumulative. ``name``: the field it is."""
    if isinstance(value, float | int):
        low = 0.0 if name in _AMOUNTS else -_ABSURD
        return low <= value < _ABSURD or (value == inf and name in _ENDLESS)
    if isinstance(value, Histogram) and not _is_cumulative(value):
        return False
    if isinstance(value, Struct):
        return all(is_sound(getattr(value, field), field) for field in value.__struct_fields__)
    if isinstance(value, Mapping):
        return all(is_sound(one, name) for one in value.values())
    if isinstance(value, list | tuple):
        return all(is_sound(one, name) for one in value)
    return True


def _is_cumulative(histogram: Histogram) -> bool:
    edges, counts = histogram.edges, histogram.counts
    if len(edges) != len(counts) or edges[-1:] != (inf,) or any(a >= b for a, b in pairwise(edges)):
        return False
    return all(a <= b for a, b in pairwise((0.0, *counts)))
