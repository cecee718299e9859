"""``inferometer explain``: what a /metrics page tells the agent, what it does not, and what that costs."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from inferometer import adapters
from inferometer.adapters import Adapter
from inferometer.adapters.language import Selector
from inferometer.app.clock import Clock
from inferometer.app.plan import name_of
from inferometer.economics.goodput import bucket_gap
from inferometer.errors import SourceError
from inferometer.model import EngineSignal, Page
from inferometer.sources.page import PageParser
from inferometer.sources.scrape import Scraper, Target, open_session

_LOSS = {
    "prompt_tokens": "no input tokens: cost per token counts output only",
    "cached_tokens": "cached prompt tokens count as uncached ones",
    "output_tokens": "no output tokens and no cost per token",
    "finished_ok": "no requests, no cost per request, no goodput",
    "finished_output_tokens": "wasted tokens are not known",
    "http_ended": "clients that leave before their first token are not counted",
    "parents_finished": "clients that leave before their first token are not counted",
    "rejected": "rejected requests are not in the SLO denominator",
    "ttft": "the TTFT SLO cannot be judged",
    "tpot": "the TPOT SLO cannot be judged",
    "e2e": "the E2E SLO cannot be judged",
    "running": "busy time is known from moving counters only",
    "waiting": "a stuck queue is not seen",
    "open_fds": "an engine that hangs with its counters flat is not seen",
}


class Explanation(Struct, frozen=True):
    """The sentences for people; ``recognised`` is False where no adapter fits the page."""

    text: str
    recognised: bool


async def explain(where: str, slo: Mapping[str, float]) -> Explanation:
    """Read a URL or a file (gzip too) and say what is on it. Raises SourceError where it cannot be read."""
    page = await _read(where)
    known = adapters.builtin()
    matching = [adapter for adapter in known.values() if adapters.matches(adapter, page)]
    if len(matching) != 1:
        return Explanation(_unknown(page, matching, known), recognised=False)
    signal = adapters.Translator(where, matching)(page)
    lines = [f"{where}: {matching[0].engine} ({matching[0].versions})", ""]
    lines += _models(signal)
    lines += ["", "signals", *_signals(matching[0], page, signal)]
    if slo:
        lines += ["", "SLO thresholds against bucket edges", *_thresholds(signal, slo)]
    return Explanation("\n".join(lines), recognised=True)


async def _read(where: str) -> Page:
    if where.startswith(("http://", "https://")):
        async with open_session() as session:
            page = await Scraper(Target(name_of(where), where), None, session, Clock().at).read()
        if page.error:
            raise SourceError(page.error, f"{where}: {page.error}: {page.detail}")
        return page
    return _read_file(where)


def _read_file(where: str) -> Page:
    try:
        body = Path(where).read_bytes()
    except OSError as error:
        raise SourceError("file", f"{where}: {error.strerror}; give a URL or a file with a metrics page") from error
    parsed = PageParser(None).parse(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    if not parsed.series:
        raise SourceError("not_metrics", f"{where}: no line of it is a Prometheus sample")
    return Page(where, 0.0, series=parsed.series, malformed=parsed.malformed)


def _unknown(page: Page, matching: list[Adapter], known: Mapping[str, Adapter]) -> str:
    families = sorted({series.name.partition(":")[0] + ":" for series, _ in page.series if ":" in series.name})
    names = sorted({series.name for series, _ in page.series})
    seen = f"prefixes {', '.join(families)}" if families else f"e.g. {', '.join(names[:5])}"
    if matching:
        return f"more than one engine fits this page: {', '.join(a.engine for a in matching)}; set engine: in the file"
    return (
        f"no known engine is on this page: {len(page.series)} series, {seen}\n"
        f"known engines: {', '.join(known)}. Is this the engine's own /metrics?"
    )


def _models(signal: EngineSignal) -> list[str]:
    models = sorted({key.model for key in signal.counters if key.model})
    born = f"started at unix time {signal.process_start:.0f}" if signal.process_start else "start time not on the page"
    return [f"models   {', '.join(models) or 'not named on the page'}", f"process  {born}"]


def _signals(adapter: Adapter, page: Page, signal: EngineSignal) -> list[str]:
    names = {series.name for series, _ in page.series}
    lines = []
    for table in (adapter.counters, adapter.histograms, adapter.gauges):
        for name, alternatives in table.items():
            if name in signal.missing:
                lines.append(f"  {name:<24} missing  {_LOSS.get(name, '')}".rstrip())
            else:
                lines.append(f"  {name:<24} found    {_found(alternatives, names)}")
    return lines


def _found(alternatives: tuple[Selector, ...], names: set[str]) -> str:
    for selector in alternatives:
        there = [name for name in selector.names if name in names or f"{name}_bucket" in names]
        if there:
            where = "".join(f" {{{label}={'|'.join(values)}}}" for label, values in selector.where.items())
            return " + ".join(there) + where
    return "under another name"


def _thresholds(signal: EngineSignal, slo: Mapping[str, float]) -> list[str]:
    lines = []
    for name, threshold in slo.items():
        edges = next((h.edges for key, h in signal.histograms.items() if key.signal == name), None)
        if edges is None:
            lines.append(f"  {name} {threshold:g} s: no histogram, cannot be judged from this page")
        elif bucket_gap(edges, threshold) == 0:
            lines.append(f"  {name} {threshold:g} s: a bucket edge, counts are exact")
        else:
            below = max((edge for edge in edges if edge < threshold), default=0.0)
            above = min(edge for edge in edges if edge > threshold)
            lines.append(f"  {name} {threshold:g} s: inside a bucket; exact would be {below:g} or {above:g} s")
    return lines
