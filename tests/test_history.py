"""35 days: a demo recorded, replayed as OpenMetrics, repeated over the days, in a real Prometheus; hours in minutes.

What needs history is asked for there: comparisons with last week, windows of days, error budgets of 30 days, trends.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inferometer.app.rules import document
from live import Engines, inferometer_says
from observed import Prometheus, here

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "dashboards"))

import build  # noqa: E402  a script, not a package

pytestmark = [
    pytest.mark.skipif("INFEROMETER_LONG" not in os.environ, reason="takes minutes: make check-all"),
    pytest.mark.skipif(not here("prometheus"), reason="prometheus missing: make tools-observability"),
]
DAYS, STEP_SECONDS, EVERY_SECONDS = 35, 120, 6 * 3600
PASSES = (
    # what reads only counters, then what reads that, and so on
    (
        r"workload:inferometer_(cost|tokens|slo_requests|good_requests_(lower|upper)):rate(5m|6h|1d)"
        r"|slo:(objective|error_budget):ratio"
    ),
    r"workload:inferometer_cost_per_million_tokens:ratio_rate(6h|1d)|slo:sli_error:ratio_rate30d",
    r"slo:period_burn_rate:ratio",
    r"slo:period_error_budget_remaining:ratio",
)
LINE = re.compile(r"(\w+(?:\{.*\})?) (\S+) (\S+)$")
COUNTS = re.compile(r"\w+_(?:total|bucket|count|sum)\b")


def snapshots(text):
    """By series its values, one for each snapshot of a replay; and the lines that say types."""
    found, heads = {}, []
    for line in text.splitlines():
        if line.startswith("# ") and line != "# EOF":
            heads.append(line)
        elif (match := LINE.match(line)) and "_bucket{" not in line:  # nothing looks back at those, and they are most
            found.setdefault(match[1], []).append(float(match[2]))
    most = max(map(len, found.values()))
    return {series: values for series, values in found.items() if len(values) == most}, heads


def stretches(series, heads, end):
    """A text for every five days up to ``end``: snapshots come again and again, counters go on."""
    count = len(next(iter(series.values())))
    # And a step more: were the first of a turn the last of the turn before, rounding could make it a reset.
    whole = count / (count - 1)
    rises = {name: whole * (values[-1] - values[0]) for name, values in series.items() if COUNTS.match(name)}
    families = {}
    for name in series:
        families.setdefault(_family(name, heads), []).append(name)
    start = end - DAYS * 86_400
    steps = 5 * 86_400 // STEP_SECONDS
    for stretch in range(DAYS // 5):
        lines = []
        for family, names in families.items():
            lines += [head for head in heads if head.split()[2] == family]
            for name in names:
                values, rise = series[name], rises.get(name, 0.0)
                for number in range(stretch * steps, (stretch + 1) * steps):
                    value = values[number % count] + number // count * rise
                    lines.append(f"{name} {value!r} {start + number * STEP_SECONDS}")
        yield "\n".join([*lines, "# EOF", ""])


def _family(series, heads):
    name = series.partition("{")[0]
    told = {head.split()[2] for head in heads}
    return next(n for n in (name, re.sub(r"_(total|bucket|count|sum|created)$", "", name)) if n in told)


def recorded(prometheus, names, end):
    """What the rules of these names would have recorded: each expression evaluated by Prometheus over all days."""
    for rule in (rule for group in document.defaults() for rule in group.rules if re.fullmatch(names, rule.name)):
        for row in prometheus.series(rule.expr, end - DAYS * 86_400, end, EVERY_SECONDS):
            kept = {**row["metric"], **getattr(rule, "labels", {})}
            labels = ",".join(f'{name}="{value}"' for name, value in kept.items() if name != "__name__")
            yield from (f"{rule.name}{{{labels}}} {value} {at}" for at, value in row["values"])


def blocks(text, data):
    """Large ones: promtool reads all of its input once for every block."""
    large = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=720h", "openmetrics", text, data]
    done = subprocess.run([*map(str, large)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A Prometheus with the days and the series that the rules record over them."""
    folder = tmp_path_factory.mktemp("history")
    with Engines(folder / "engines.log", 1, 3.0) as engines:
        code, _, said = inferometer_says("record", *engines.urls, "--out", folder / "recording", "--for", "30s")
        assert code == 0, said
    flags = ("--gpus", "1", "--price.gpu-hour", "2.50", "--slo.ttft", "500ms", "--slo.e2e", "10s", "--interval", "1s")
    code, text, said = inferometer_says("replay", folder / "recording", *flags, "--format", "openmetrics")
    assert code == 0, said
    end = int(time.time()) // 7200 * 7200 - 7200
    prometheus = Prometheus(folder / "prometheus", [])
    prometheus.data.mkdir()
    for page in stretches(*snapshots(text), end):
        (folder / "five_days.txt").write_text(page)
        blocks(folder / "five_days.txt", prometheus.data)
    for names in PASSES:
        with prometheus:
            (folder / "recorded.txt").write_text("\n".join([*recorded(prometheus, names, end), "# EOF", ""]))
        blocks(folder / "recorded.txt", prometheus.data)
    with prometheus:
        yield prometheus, end - EVERY_SECONDS


@pytest.mark.parametrize("name", build.DASHBOARDS)
def test_panels_that_look_back_have_data(history, name):
    """Trends, comparisons with before, error budgets: at the end of 35 days."""
    prometheus, end = history
    for panel in build.dashboard(name)["panels"]:
        for target in panel["targets"]:
            expr = re.sub(r"\$(cluster|namespace|workload|model)", ".*", target["expr"])
            expr = expr.replace("$__rate_interval", "10m").replace("$__from", str(1000 * (end - 30 * 86_400)))
            looks_back = re.search(r"offset|@ start|rate1d|period_error", expr)
            if looks_back and not re.search("energy|carbon", expr):
                rows = prometheus.series(expr, end - 30 * 86_400, end, EVERY_SECONDS)
                assert rows, (panel["title"], expr)


def test_a_week_ago_is_there_to_compare_with(history):
    prometheus, end = history
    ratio = "workload:inferometer_cost_per_million_tokens:ratio_rate6h"
    ((_, now),) = prometheus.vector(ratio, end)
    ((_, before),) = prometheus.vector(f"{ratio} offset 7d", end)
    assert now == pytest.approx(before, rel=0.02), "the same traffic every day costs the same"


def test_the_budget_of_30_days_is_what_the_samples_say(history):
    """Recorded out of recorded sums; against the counters' own increase over the same days."""
    prometheus, end = history
    ((_, bad),) = prometheus.vector('slo:sli_error:ratio_rate30d{sloth_slo="goodput-possible"}', end)
    good = prometheus.vector("sum (increase(inferometer_good_requests_lower_total[30d]))", end)[0][1]
    judged = prometheus.vector("sum (increase(inferometer_slo_requests_total[30d]))", end)[0][1]
    assert judged > 1000
    assert bad == pytest.approx(1 - good / judged, abs=0.05)
    ((_, left),) = prometheus.vector('slo:period_error_budget_remaining:ratio{sloth_slo="goodput-possible"}', end)
    assert math.isclose(left, 1 - bad / 0.05, rel_tol=0.05, abs_tol=0.05)
