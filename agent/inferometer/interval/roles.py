"""Disaggregated serving: what a page shows and another page counts (design §5, role)."""

from __future__ import annotations

from inferometer.interval.engine import Reading
from inferometer.interval.watch import Scope
from inferometer.model import ModelChange

_WHOLE = Scope()
_INPUT = ("input_uncached", "input_cached")


def scoped(reading: Reading, scope: Scope) -> Reading:
    """The reading with only what counts; the other tokens stay as ``seen``, since they tell who used the GPUs."""
    if scope == _WHOLE:
        return reading
    reading.models = {name: _scoped(change, scope) for name, change in reading.models.items()}
    reading.tenants = {tenant: _counted(tokens, scope) for tenant, tokens in reading.tenants.items()}
    if not scope.requests:
        reading.strata = []
    return reading


def _scoped(change: ModelChange, scope: Scope) -> ModelChange:
    return ModelChange(
        tokens=_counted(change.tokens, scope),
        seen=change.tokens,
        wasted=change.wasted if scope.output and scope.requests else 0.0,
        reasoning=change.reasoning if scope.output else 0.0,
        outcomes=change.outcomes if scope.requests else {},
        latencies=change.latencies if scope.requests else {},
    )


def _counted(tokens: dict[str, float], scope: Scope) -> dict[str, float]:
    return {kind: n for kind, n in tokens.items() if (scope.input if kind in _INPUT else scope.output)}
