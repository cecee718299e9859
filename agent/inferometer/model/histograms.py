"""Histogram: how many observations there were up to each of some edges."""

from __future__ import annotations

from operator import add, sub

from msgspec import Struct


class Histogram(Struct, frozen=True, array_like=True):
    """Cumulative ``counts`` at ascending upper ``edges``; the last edge is +Inf, its count the total."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float = 0.0

    @property
    def total(self) -> float:
        """Observations in all buckets."""
        return self.counts[-1] if self.counts else 0.0

    def minus(self, earlier: Histogram) -> Histogram:
        """Observations since ``earlier``; both have the same edges."""
        counts = tuple(map(sub, self.counts, earlier.counts))
        return Histogram(self.edges, counts, self.sum - earlier.sum)

    def plus(self, other: Histogram) -> Histogram:
        """Observations of both; both have the same edges."""
        counts = tuple(map(add, self.counts, other.counts))
        return Histogram(self.edges, counts, self.sum + other.sum)
