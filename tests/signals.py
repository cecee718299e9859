"""What a signal holds, its raw series added up as the meter does."""

from __future__ import annotations

from inferometer.model import EngineSignal, Histogram


def counters(found: EngineSignal) -> dict[str, dict[str, float]]:
    """By signal and model."""
    sums: dict[str, dict[str, float]] = {}
    for key, value in found.counters.items():
        models = sums.setdefault(key.signal, {})
        models[key.model] = models.get(key.model, 0.0) + value
    return sums


def histogram(found: EngineSignal, name: str) -> Histogram | None:
    """The series of a histogram added up, None where there is none."""
    whole = None
    for key, part in found.histograms.items():
        if key.signal == name:
            whole = part if whole is None else whole.plus(part)
    return whole
