"""What a page holds of the signals that economics needs, and how well its histograms judge SLOs: sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from inferometer.adapters import Adapter
from inferometer.adapters.language import COUNTED, HISTOGRAMS, PARTS, SIGNALS, Selector
from inferometer.economics.goodput import bucket_gap
from inferometer.model import EngineSignal, Page

_LOSS = {
    "prompt_tokens": "no input tokens: cost per token counts output only",
    "cached_tokens": "cached prompt tokens count as uncached ones",
    "output_tokens": "no output tokens and no cost per token",
    "reasoning_tokens": "reasoning tokens are not told apart from other output",
    "finished": "no requests, no cost per request, no goodput",
    "finished_ok": "no requests, no cost per request, no goodput",
    "finished_error": "failed requests are not told apart: goodput is too high by them",
    "finished_aborted": "requests whose clients left are not told apart",
    "rejected": "rejected requests are not in the SLO denominator",
    "finished_output_tokens": "wasted tokens are not known",
    "http_ended": "clients that leave before their first token are not counted",
    "parents_finished": "clients that leave before their first token are not counted",
    "prefill_seconds": "the bill is split over token types by rates or weights, not by measured time",
    "decode_seconds": "the bill is split over token types by rates or weights, not by measured time",
    "ttft": "the TTFT SLO cannot be judged",
    "tpot": "the TPOT SLO cannot be judged",
    "e2e": "the E2E SLO cannot be judged",
    "running": "busy time is known from moving counters only",
    "waiting": "a stuck queue is not seen",
    "kv_cache": "how full the cache is stays unknown",
    "open_fds": "an engine that hangs with its counters flat is not seen",
}
_INSTEAD = {"finished": "finished_ok", "finished_ok": "finished"}
"""Signals of which one is enough."""


def signals(adapter: Adapter, page: Page, signal: EngineSignal) -> list[str]:
    """A line for every signal: under which name it was found, or what its absence costs and how to have it."""
    found = {name: _found(selectors, page) for name, selectors in _tables(adapter)}
    unusable = [name for name in HISTOGRAMS if found.get(name) and name not in {k.signal for k in signal.histograms}]
    lines = []
    for name in SIGNALS:
        if name in unusable:
            lines.append(f"  {name:<22}  unusable  its buckets are not cumulative; {_LOSS[name]}")
        elif found.get(name):
            lines.append(f"  {name:<22}  found     {found[name]}")
        elif name in adapter.notes or not found.get(_INSTEAD.get(name, "")):
            lines.append(f"  {name:<22}  missing   {adapter.notes.get(name) or _LOSS[name]}")
    return lines


def thresholds(adapter: Adapter, signal: EngineSignal, slo: Mapping[str, float]) -> list[str]:
    """A line for every limit: whether it is a bucket edge, which are the nearest, and how to move them."""
    lines = []
    for name, limit in slo.items():
        edges = next((h.edges for key, h in signal.histograms.items() if key.signal == name), None)
        lines.append(f"  {name} {limit:g} s: {_judged(edges, limit, adapter.bucket_flags.get(name, ''))}")
    return lines


def _judged(edges: tuple[float, ...] | None, limit: float, flag: str) -> str:
    if edges is None:
        return "no histogram, cannot be judged from this page"
    if bucket_gap(edges, limit) == 0:
        return "a bucket edge, counts are exact"
    above = min(edge for edge in edges if edge > limit)
    nearest = [*[edge for edge in edges if edge < limit][-1:], above]
    exact = " or ".join(f"{edge:g}" for edge in nearest if math.isfinite(edge))
    where = "inside a bucket" if math.isfinite(above) else "over the last edge"
    near = f"; exact would be {exact} s" if exact else ""
    return f"{where}{near}{f'; the engine sets its edges by {flag}' if flag else ''}"


def _tables(adapter: Adapter) -> Iterator[tuple[str, tuple[Selector, ...]]]:
    for table in (adapter.counters, adapter.histograms, adapter.gauges):
        yield from table.items()


def _found(alternatives: tuple[Selector, ...], page: Page) -> str:
    """The names, labels and moment of counting of the first alternative that the page has; '' where it has none."""
    for selector in alternatives:
        names = {name + part: name for name in selector.names for part in ("", *PARTS)}
        there = dict.fromkeys(
            names[series.name]
            for series in page.layout
            if series.name in names and selector.accepts(dict(series.labels))
        )
        if there:
            counted = f", counted {COUNTED[selector.counted]}" if selector.counted else ""
            return " + ".join(there) + _labels(selector) + counted
    return ""


def _labels(selector: Selector) -> str:
    kept = [f"{label}={'|'.join(values)}" for label, values in selector.where.items()]
    dropped = [f"{label}≠{'|'.join(values)}" for label, values in selector.unless.items()]
    return f" {{{', '.join(kept + dropped)}}}" if kept or dropped else ""
