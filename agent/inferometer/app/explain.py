"""``inferometer explain``: what a /metrics page and this machine tell the agent, what not, and what that costs."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from inferometer import adapters
from inferometer.adapters import Adapter
from inferometer.app.findings import signals, thresholds
from inferometer.app.hardware import machine
from inferometer.errors import SourceError
from inferometer.model import EngineSignal, Page
from inferometer.sources import boottime, public_url
from inferometer.sources.nvml import Nvml, NvmlSource
from inferometer.sources.page import PageParser
from inferometer.sources.scrape import Scraper, Target, open_session

_PREFIX = re.compile(r"[a-zA-Z0-9]+[_:]?")
_GZIP = b"\x1f\x8b"
_SHOWN = 5
_DRAINS = (
    "this is not a page but a queue, which every reader empties for all others (trtllm-serve); "
    "use /prometheus/metrics on the same port, and let nothing read this address"
)


class Explanation(Struct, frozen=True):
    """The sentences for people; ``recognised`` is False where no adapter fits the page, or several do."""

    text: str
    recognised: bool


async def explain(
    where: str, slo: Mapping[str, float], own: Path | None = None, nvml: NvmlSource | None = None
) -> Explanation:
    """Read a URL or a file (gzip too), and the GPUs, and say what is there.

    ``own``: the user's adapter, to use instead of those that ship; ``nvml`` stands in for this machine's driver.
    Raises SourceError where the page cannot be read, AdapterError where the adapter cannot.
    """
    known = [adapters.load(own)] if own is not None else list(adapters.builtin().values())
    page = await _read(where)
    matching = adapters.recognised(known, page)
    if len(matching) != 1:
        text = _several(page, matching) if matching else _unknown(page, known)
        return Explanation(f"{public_url(where)}: {text}", recognised=False)
    adapter = matching[0]
    signal = adapters.Translator(where, matching)(page)
    lines = [f"{public_url(where)}: {adapter.engine} ({adapter.versions})", "", *_facts(adapter, page, signal)]
    lines += ["", "signals", *signals(adapter, page, signal)]
    if slo:
        lines += ["", "SLO thresholds against bucket edges", *thresholds(adapter, signal, slo)]
    lines += ["", "this machine", *machine(await (nvml or NvmlSource(Nvml(boottime))).read())]
    return Explanation("\n".join(lines), recognised=True)


# -- reading -------------------------------------------------------------------------------------


async def _read(where: str) -> Page:
    is_url = where.startswith(("http://", "https://"))
    body = await _fetched(where) if is_url else _file(where)
    if is_url and urlsplit(where).path in {"", "/", "/metrics"} and _is_json_list(body):
        raise SourceError("not_metrics", f"{public_url(where)}: {_DRAINS}")
    parsed = PageParser(None).parse(body)
    if not parsed.layout:
        raise SourceError("not_metrics", f"{public_url(where)}: no line of it is a Prometheus sample")
    return Page(where, 0.0, layout=parsed.layout, values=parsed.values, malformed=parsed.malformed)


async def _fetched(url: str) -> bytes:
    parts = urlsplit(url)
    target = Target(parts.netloc, url if parts.path.strip("/") else parts._replace(path="/metrics").geturl())
    try:
        async with open_session() as session:
            return await Scraper(target, None, session, boottime).fetch()
    except SourceError as error:
        raise SourceError(error.reason, f"{public_url(url)}: {error.reason}: {error}") from error


def _file(where: str) -> bytes:
    try:
        body = Path(where).read_bytes()
        return gzip.decompress(body) if body.startswith(_GZIP) else body
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or "its gzip stream is broken"
        raise SourceError("file", f"{where}: {reason}; give a URL or a file with a metrics page") from error


def _is_json_list(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), list)
    except (ValueError, RecursionError):
        return False


# -- what is no engine, or more than one ------------------------------------------------------------


def _unknown(page: Page, known: Sequence[Adapter]) -> str:
    names = list(dict.fromkeys(series.name for series in page.layout))
    prefixes = Counter(match[0] for name in names if (match := _PREFIX.match(name)))
    seen = ", ".join(f"{prefix} ({count})" for prefix, count in prefixes.most_common(_SHOWN))
    sure = known[0].detect.any if len(known) == 1 else ()
    remedy = f"An adapter looks for {', '.join(sure)}" if sure else "Engines may have to be told to show their metrics"
    return (
        f"no known engine is on this page: {len(page.layout)} series, e.g. {', '.join(sorted(names)[:_SHOWN])}\n"
        f"names by prefix: {seen}{', …' if len(prefixes) > _SHOWN else ''}\n"
        f"known engines: {', '.join(adapter.engine for adapter in known)}. Is this the engine's own page?\n"
        f"{remedy}: see docs/engines.md; docs/adapters.md shows how to describe a server of your own."
    )


def _several(page: Page, matching: Sequence[Adapter]) -> str:
    lines = ["more than one engine fits this page"]
    for adapter in matching:
        shown = dict.fromkeys(series.name for series in page.layout if adapter.detect.shown_by(series))
        lines.append(f"  {adapter.engine:<16} by {', '.join(list(shown)[:_SHOWN])}")
    lines.append("Read each engine's own page, or name the one that counts: engine: NAME in the configuration.")
    return "\n".join(lines)


# -- what the engine is ------------------------------------------------------------------------------


def _facts(adapter: Adapter, page: Page, signal: EngineSignal) -> list[str]:
    endpoint = adapter.endpoint
    place = f"{endpoint.path}, port {endpoint.port}" if endpoint.port else endpoint.path
    models = sorted({key.model for key in signal.counters if key.model})
    born = f"started at unix time {signal.process_start:.0f}" if signal.process_start else "start time not on the page"
    facts = {
        "endpoint": place,
        "switch": endpoint.enabled_by,
        "warning": endpoint.warning,
        "models": ", ".join(models) or "not named on the page",
        "process": born,
        "tenants": _tenants(adapter, page),
        "unread": f"lines that are no samples: {page.malformed}" if page.malformed else "",
    }
    return [f"{name:<8}  {text}" for name, text in facts.items() if text]


def _tenants(adapter: Adapter, page: Page) -> str:
    if not adapter.tenants:
        return "this engine does not say who asked"
    labels = {name for series in page.layout for name, value in series.labels if value}
    there = [name for name in adapter.tenants if name in labels]
    if not there:
        return f"{', '.join(adapter.tenants)} may say who asked; not on this page"
    return f"{', '.join(there)} says who asked; count by it with tenant: {{label: {there[0]}}}"
