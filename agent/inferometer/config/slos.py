"""Service levels: the limits of each model, with presets filled in."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from inferometer.config.presets import MLPERF_OBJECTIVE, PRESETS
from inferometer.config.schema import Limits, Slo
from inferometer.model import SLOS


def resolved(slo: Slo, *, objective: bool) -> Slo:
    """Limits of the preset where none are written; its objective too, unless one is written (``objective``)."""
    if slo.preset is None:
        return slo
    return replace(
        slo, **_filled(slo.thresholds, slo.preset), objective=slo.objective if objective else MLPERF_OBJECTIVE
    )


def by_model(slo: Slo) -> Mapping[str, Mapping[str, float]]:
    """The limits of models that have their own; what one leaves out is as for all."""
    return {name: _of(slo, limits) for name, limits in slo.models.items()}


def _of(slo: Slo, limits: Limits) -> dict[str, float]:
    own = {name: limit for name in SLOS if (limit := getattr(limits, name)) is not None}
    if limits.preset is not None:
        filled = _filled(own, limits.preset)
        own = {name: limit for name, limit in filled.items() if limit is not None}
    else:
        own = {**slo.thresholds, **own}
    return own


def _filled(written: Mapping[str, float], preset: str) -> dict[str, float | None]:
    return {name: written.get(name, getattr(PRESETS[preset], name)) for name in SLOS}
