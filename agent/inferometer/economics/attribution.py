"""Fractions of a GPU (formulas §2)."""

from __future__ import annotations

from collections.abc import Sequence

_COMPUTE_SLICES, _MEMORY_SLICES = 7, 8


def mig_weight(compute_slices: int, memory_slices: int) -> float:
    """What an instance blocks of an A100, H100 or H200: the larger of its compute and memory share."""
    return max(compute_slices / _COMPUTE_SLICES, memory_slices / _MEMORY_SLICES)


def fractions(weights: Sequence[float]) -> list[float]:
    """Each instance's fraction of the GPU; they never add up to more than the whole, the rest is idle."""
    whole = max(1.0, sum(weights))
    return [weight / whole for weight in weights]
