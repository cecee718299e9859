"""Dashboards are what the code writes, say what they show, and ask only for what there is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import promql_parser
import pytest
import yaml
from inferometer.app.rules import docs
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.metric import HISTOGRAM

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "dashboards"))

import build  # noqa: E402  a script, not a package

EVERY = pytest.mark.parametrize("name", build.DASHBOARDS)
VARIABLES = ("datasource", "cluster", "namespace", "workload", "model")
TOPMOST = {
    "economics": "Cost per million output tokens",
    "slo": "Good requests, at least",
    "energy": "Joules per output token",
    "fleet": "Engines up",
    "agent": "Agents up",
}
FOREIGN = {"up", "ALERTS", "scrape_samples_scraped", "process_cpu_seconds_total", "process_resident_memory_bytes"}
RANGES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "6h", "$__from": "1795000000000"}
RULES = [rule for text in docs.files().values() for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
RUNBOOK_QUERIES = [
    pytest.param(query, id=path.stem)
    for path in sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    for block in re.findall(r"```promql\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    for query in re.split(r"\n(?!\s+/)", block.strip())
]


def filled(expr, **chosen):
    """The expression as Grafana sends it, everything chosen."""
    for name, value in {**RANGES, **{f"${name}": ".*" for name in VARIABLES}, **chosen}.items():
        expr = expr.replace(name, value)
    return expr


def known():
    """Every series that somebody exports or records."""
    parts = {f"{n}_{end}" for n, m in CATALOG.items() if m.type == HISTOGRAM for end in ("bucket", "sum", "count")}
    return set(CATALOG) | parts | {rule["record"] for rule in RULES if "record" in rule} | FOREIGN


def selectors(node):
    """The vector selectors of a parsed expression; AssertionError where the walk does not know a node."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    if isinstance(node, promql_parser.BinaryExpr):
        return selectors(node.lhs) + selectors(node.rhs)
    if isinstance(node, promql_parser.Call):
        return [found for argument in node.args for found in selectors(argument)]
    if isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral):
        return []
    assert isinstance(
        node,
        promql_parser.AggregateExpr | promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr,
    ), node
    return selectors(node.expr)


def labels_of(series):
    """Labels that the catalog declares; None where it does not know the series."""
    metric = CATALOG.get(series) or CATALOG.get(re.sub(r"_(bucket|sum|count)$", "", series))
    if metric is None:
        return None
    return {*metric.label_names, "le", "currency", "cluster", "namespace", "job", "instance"}


def check(expr):
    """An expression parses and asks for series and labels that there are."""
    for selector in selectors(promql_parser.parse(expr)):
        assert selector.name is None or selector.name in known(), f"{selector.name} is nowhere: {expr}"
        labels = labels_of(selector.name or "")
        for matcher in selector.matchers.matchers if labels is not None else ():
            assert matcher.name in labels, f"{selector.name} has no label {matcher.name}: {expr}"


def queries(name):
    return [(panel, target) for panel in build.dashboard(name)["panels"] for target in panel["targets"]]


@EVERY
def test_committed_json_is_what_the_code_writes(name):
    path = ROOT / "dashboards" / f"{name}.json"
    assert path.read_text(encoding="utf-8") == build.text(name), "run python dashboards/build.py"


@EVERY
def test_every_panel_says_what_it_shows(name):
    panels = build.dashboard(name)["panels"]
    assert 10 <= len(panels) <= 25
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@EVERY
def test_the_first_panel_answers_the_question(name):
    first = build.dashboard(name)["panels"][0]
    assert (first["type"], first["title"]) == ("stat", TOPMOST[name])
    assert (first["gridPos"]["x"], first["gridPos"]["y"]) == (0, 0)
    assert first["options"]["graphMode"] == "area"


@EVERY
def test_panels_lie_side_by_side(name):
    taken = {}
    for panel in build.dashboard(name)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, (panel["title"], taken.get(cell))
            taken[cell] = panel["title"]


@EVERY
def test_variables_links_and_annotations(name):
    made = build.dashboard(name)
    assert made["schemaVersion"] == 39
    assert [variable["name"] for variable in made["templating"]["list"]] == list(VARIABLES)
    assert [link["title"] for link in made["links"]] == ["Inferometer", "Runbooks", "Metrics"]
    assert [mark["name"] for mark in made["annotations"]["list"]] == ["Price changes", "Restarts"]
    used = set(re.findall(r"\$\{?([a-z_]\w*)", json.dumps(made))) - {"__all", "__value"}
    assert used <= {*VARIABLES, "__rate_interval", "__from"}


@EVERY
def test_queries_ask_for_what_there_is(name):
    for _, target in queries(name):
        check(filled(target["expr"]))
    for mark in build.dashboard(name)["annotations"]["list"]:
        check(filled(mark["expr"]))


@EVERY
def test_counters_are_read_as_rates_and_ratios_have_denominators(name):
    """A raw counter says how long something has run; a division by nothing says +Inf."""
    for panel, target in queries(name):
        expr = target["expr"]
        for counter in re.findall(r"(\w+\()?inferometer_\w+_total\b", expr):
            assert counter in {"rate(", "increase("}, f"{panel['title']}: {expr}"
        assert "avg_over_time" not in expr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_ask_for_what_there_is(rule):
    check(rule["expr"])


@pytest.mark.parametrize("query", RUNBOOK_QUERIES)
def test_runbooks_ask_for_what_there_is(query):
    check(query)


def test_a_query_for_nothing_is_seen():
    """A check that nothing can fail checks nothing."""
    for wrong in ("rate(inferometer_cost_totals[5m])", 'inferometer_cost_total{wrkload="x"}'):
        with pytest.raises(AssertionError):
            check(wrong)
    with pytest.raises(ValueError, match=r".*"):
        check("sum (")


def test_another_currency_and_a_stale_file(tmp_path):
    assert build.main(["--currency", "EUR", "--out", str(tmp_path)]) == 0
    assert '"currency:EUR "' in (tmp_path / "economics.json").read_text()
    assert build.main(["--check", "--currency", "EUR", "--out", str(tmp_path)]) == 0
    assert build.main(["--check", "--out", str(tmp_path)]) == 1


@EVERY
def test_every_dashboard_has_a_picture(name):
    """In docs/images, light enough for a README that shows it."""
    body = (ROOT / "docs" / "images" / f"{name}.png").read_bytes()
    assert body.startswith(b"\x89PNG")
    assert len(body) < 300_000
    assert f"docs/images/{name}.png" in (ROOT / "README.md").read_text(encoding="utf-8")
