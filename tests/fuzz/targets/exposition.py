"""/metrics, both formats, with names that came from other people's pages: the reference parsers read back what was meant."""

from __future__ import annotations

import json
import math

from fuzz.draw import Draw
from inferometer.exposition.api import snapshot_json
from inferometer.exposition.prometheus import Renderer
from inferometer.model import EngineView, Gpu, Histogram, Snapshot, SourceView
from inferometer.sources.page import PageParser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

LENGTH = 200
DICTIONARY = (b"\\", b"\n", b'"', b"{", b"}", b",", b"\xe2\x80\xa8", b"\r", b"\x85", b"# EOF", b"\0")


def seeds():
    """Names of all kinds."""
    yield bytes(range(200))
    yield bytes([5]) + b'a"\n\\' * 20


def check(data):
    """The same labels and values by our own parser, and a page that OpenMetrics' reference takes."""
    draw = Draw(data)
    workload, engine, model = draw.text(), draw.text(), draw.text()
    total = abs(draw.number())
    counts = tuple(sorted(float(draw.below(100)) for _ in range(3)))
    where = (workload, engine, model)
    snapshot = Snapshot(
        wall=1.7e9,
        totals={
            ("inferometer_tokens_total", (*where, "output")): total,
            ("inferometer_cost_total", (workload, "gpu", "busy")): total,
        },
        created={("inferometer_tokens_total", (*where, "output")): 1.7e9},
        histograms={("inferometer_ttft_seconds", where): Histogram((0.5, 1e7, math.inf), counts, total)},
        engines=(EngineView(workload, engine, up=True, gauges={("running", model): draw.number()}),),
        gpus=(Gpu(draw.text(), 0, name=draw.text(), power_watts=draw.number()),),
        sources=(SourceView(draw.text(), up=False, errors={"timeout": 1}, detail=draw.text()),),
        hints=(draw.text(),),
    )
    renderer = Renderer(process=False)
    page = PageParser(None).parse(renderer.render(snapshot))
    if page.malformed or not page.complete:
        raise AssertionError(page)
    found = {
        (series.name, dict(series.labels).get("model")): value
        for series, value in page.series
        if dict(series.labels).get("engine") == engine
    }
    shown = found["inferometer_tokens_total", model]
    if shown != total and not (math.isnan(total) and math.isnan(shown)):
        raise AssertionError((shown, total))
    if math.isfinite(total):
        list(openmetrics_families(renderer.render(snapshot, openmetrics=True).decode()))
    json.loads(snapshot_json(snapshot))
