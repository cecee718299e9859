"""Fractions of a GPU against formulas §2."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics.attribution import fractions, mig_weight


@pytest.mark.parametrize(
    ("profile", "compute", "memory", "weight"),
    [
        ("1g.10gb", 1, 1, 1 / 7),
        ("1g.20gb", 1, 2, 1 / 4),
        ("2g.20gb", 2, 2, 2 / 7),
        ("3g.40gb", 3, 4, 1 / 2),
        ("4g.40gb", 4, 4, 4 / 7),
        ("7g.80gb", 7, 8, 1.0),
    ],
)
def test_weight_of_an_instance(profile: str, compute: int, memory: int, weight: float) -> None:
    """G2: the larger of its compute and memory share."""
    assert mig_weight(compute, memory) == pytest.approx(weight, rel=1e-9), profile


@pytest.mark.parametrize(
    ("weights", "expected", "idle"),
    [
        ((4 / 7, 1 / 2), (8 / 15, 7 / 15), 0.0),
        ((1 / 2, 1 / 2), (1 / 2, 1 / 2), 0.0),
        ((1 / 7, 1 / 7, 1 / 7), (1 / 7, 1 / 7, 1 / 7), 4 / 7),
        ((), (), 1.0),
    ],
)
def test_fractions_of_a_gpu(weights: tuple[float, ...], expected: tuple[float, ...], idle: float) -> None:
    """G2: instances that overfill a GPU share it; what none holds is idle."""
    found = fractions(weights)
    assert found == pytest.approx(list(expected), rel=1e-9)
    assert 1 - sum(found) == pytest.approx(idle, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_never_more_than_one_gpu(weights: list[float]) -> None:
    """However instances are cut, they never cost more than the GPU, and in proportion to their weights."""
    found = fractions(weights)
    assert sum(found) <= 1 + 1e-9
    assert all(f <= w for f, w in zip(found, weights, strict=True))
