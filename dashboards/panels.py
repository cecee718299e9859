"""Panels as plain functions: title, what it means and how it comes about, unit, queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Panel = dict[str, Any]
Target = tuple[str, str]
"""A query and the legend of its series."""

DOCS = "https://github.com/inferometer/inferometer/blob/main/docs"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
AT = 'cluster=~"$cluster", namespace=~"$namespace"'
W = f'{AT}, workload=~"$workload"'
M = f'{W}, model=~"$model"'

BLUE, GREEN, YELLOW, RED, GREY, PURPLE, ORANGE = (
    "#5794F2", "#73BF69", "#F2CC0C", "#F2495C", "#8E8E8E", "#B877D9", "#FF9830",
)  # fmt: skip
COLOURS = {
    "busy": GREEN, "idle": GREY, "stalled": RED, "unknown": YELLOW, "active": GREEN,
    "ok": GREEN, "error": RED, "aborted": ORANGE, "rejected": PURPLE, "vanished": YELLOW,
    "at least": BLUE, "at most": BLUE, "objective": RED,
    "input_uncached": BLUE, "input_cached": PURPLE, "output": GREEN, "unassigned": YELLOW,
    "running": GREEN, "waiting": ORANGE, "budget": RED, "spent": BLUE, "forecast": ORANGE,
    "industry trend (context)": GREY, "counter": GREEN, "samples": BLUE, "estimated": YELLOW,
}  # fmt: skip
"""One meaning, one colour, on every dashboard."""

LIMITS = ("objective", "judged", "budget", "industry trend (context)")
"""Lines to compare with: dashed."""


# -- panels ---------------------------------------------------------------------------------------


def panel(kind: str, title: str, about: str, unit: str, targets: Sequence[Target], size: tuple[int, int]) -> Panel:
    """What all panels have. ``size``: columns of 24 and rows of 30 px."""
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [_target(number, expr, legend) for number, (expr, legend) in enumerate(targets)],
        "fieldConfig": {"defaults": {"unit": unit, "noValue": "No traffic", "custom": {}}, "overrides": []},
        "options": {},
    }


def _target(number: int, expr: str, legend: str) -> dict[str, Any]:
    return {"refId": "ABCDEFGHIJ"[number], "datasource": SOURCE, "expr": expr, "legendFormat": legend, "range": True}


def stat(title: str, about: str, unit: str, expr: str, size: tuple[int, int] = (4, 5)) -> Panel:
    """One number with its trend."""
    made = panel("stat", title, about, unit, [(expr, title)], size)
    made["fieldConfig"]["defaults"]["color"] = {"mode": "fixed", "fixedColor": BLUE}
    made["options"] = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "textMode": "value",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return made


def judged(made: Panel, *steps: tuple[float | None, str]) -> Panel:
    """The same with colours that judge: each from its value on."""
    made["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    made["fieldConfig"]["defaults"]["thresholds"] = {
        "mode": "absolute",
        "steps": [{"value": value, "color": colour} for value, colour in steps],
    }
    return made


def silent(made: Panel, words: str) -> Panel:
    """The same with other words where there is nothing to show."""
    made["fieldConfig"]["defaults"]["noValue"] = words
    return made


def graph(title: str, about: str, unit: str, targets: Sequence[Target], size: tuple[int, int] = (12, 8)) -> Panel:
    """Lines over time."""
    made = panel("timeseries", title, about, unit, targets, size)
    made["fieldConfig"]["defaults"]["custom"] = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 10 if len(targets) == 1 and "{{" not in targets[0][1] else 0,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        "stacking": {"mode": "none", "group": "A"},
    }
    made["fieldConfig"]["defaults"]["color"] = {"mode": "palette-classic"}
    made["fieldConfig"]["overrides"] = [_coloured(name) for name in COLOURS if _shown(name, targets)]
    made["fieldConfig"]["overrides"] += [_dashed(name) for name in LIMITS if any(name == told for _, told in targets)]
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def _shown(name: str, targets: Sequence[Target]) -> bool:
    """Whether a series may have this name: said so, or by a label of a closed set."""
    closed = {"{{state}}", "{{outcome}}", "{{type}}", "{{method}}"}
    return any(legend == name or legend in closed for _, legend in targets)


def _coloured(name: str) -> dict[str, Any]:
    colour = {"id": "color", "value": {"mode": "fixed", "fixedColor": COLOURS[name]}}
    return {"matcher": {"id": "byName", "options": name}, "properties": [colour]}


def _dashed(name: str) -> dict[str, Any]:
    line = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [line, {"id": "custom.fillOpacity", "value": 0}],
    }


def whole(made: Panel) -> Panel:
    """The same with an axis that reaches 1 at least: a share of a whole, or a count that is mostly 0."""
    made["fieldConfig"]["defaults"]["custom"]["axisSoftMax"] = 1
    return made


def stack(title: str, about: str, unit: str, targets: Sequence[Target], size: tuple[int, int] = (12, 8)) -> Panel:
    """Parts of a whole over time."""
    made = graph(title, about, unit, targets, size)
    made["fieldConfig"]["defaults"]["custom"] |= {
        "fillOpacity": 55,
        "lineWidth": 1,
        "stacking": {"mode": "normal", "group": "A"},
    }
    return made


def band(title: str, about: str, unit: str, bounds: tuple[str, str], *more: Target) -> Panel:
    """What lies between a lower and an upper bound, filled; ``more`` are lines on top."""
    made = graph(title, about, unit, [(bounds[0], "at least"), (bounds[1], "at most"), *more])
    fill = [{"id": "custom.fillBelowTo", "value": "at least"}, {"id": "custom.fillOpacity", "value": 30}]
    for name, properties in (("at most", fill), ("at least", [{"id": "custom.fillOpacity", "value": 0}])):
        matcher = {"id": "byName", "options": name}
        made["fieldConfig"]["overrides"].append({"matcher": matcher, "properties": properties})
    return made


def heatmap(title: str, about: str, expr: str) -> Panel:
    """A histogram over time; exemplars where the server keeps them."""
    made = panel("heatmap", title, about, "s", [(expr, "{{le}}")], (12, 8))
    made["targets"][0] |= {"format": "heatmap", "exemplar": True}
    made["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "reverse": True, "exponent": 0.5},
        "exemplars": {"color": ORANGE},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": True},
        "legend": {"show": True},
    }
    return made


def bars(title: str, about: str, unit: str, targets: Sequence[Target], size: tuple[int, int] = (8, 8)) -> Panel:
    """Shares side by side, 0 to 1."""
    made = panel("bargauge", title, about, unit, targets, size)
    made["fieldConfig"]["defaults"] |= {
        "min": 0,
        "max": 1,
        "color": {"mode": "continuous-RdYlGr"},
        "noValue": "none",
    }
    made["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return made


def table(title: str, about: str, columns: Sequence[tuple[str, str, str]], size: tuple[int, int] = (16, 8)) -> Panel:
    """Instant queries joined by their labels; a column is name, unit and query."""
    made = panel("table", title, about, "short", [(expr, name) for name, _, expr in columns], size)
    for target in made["targets"]:
        target |= {"format": "table", "instant": True, "range": False}
    letters = [target["refId"] for target in made["targets"]]
    hidden = dict.fromkeys(("Time", "__name__", "cluster", "namespace", "job", "instance", "currency"), True)
    renamed = {f"Value #{letter}": name for letter, (name, _, _) in zip(letters, columns, strict=True)}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": renamed, "indexByName": {}}},
    ]
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit, _ in columns
    ]
    made["options"] = {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": columns[0][0], "desc": True}]}
    return made


def scatter(title: str, about: str, across: Target, up: Target, size: tuple[int, int] = (12, 9)) -> Panel:
    """One quantity against another, a point for each moment."""
    made = panel("xychart", title, about, "short", [across, up], size)
    made["transformations"] = [{"id": "joinByField", "options": {"byField": "Time", "mode": "inner"}}]
    made["fieldConfig"]["defaults"]["custom"] = {"show": "points", "pointSize": {"fixed": 6}, "axisPlacement": "auto"}
    made["options"] = {
        "seriesMapping": "manual",
        "series": [{"name": up[1], "x": across[1], "y": up[1], "frame": 0}],
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    }
    return made


def firing(title: str, about: str, size: tuple[int, int]) -> Panel:
    """What fires now, with a link to what to do."""
    chosen = f'ALERTS{{alertname=~"Inferometer.*", alertstate="firing", {AT}}}'
    made = table(title, about, [("firing", "short", f"count by (alertname, severity, workload) ({chosen})")], size)
    made["fieldConfig"]["defaults"]["noValue"] = "Nothing fires"
    link = {"title": "Runbook", "url": f"{DOCS}/runbooks/${{__value.text}}.md", "targetBlank": True}
    made["fieldConfig"]["overrides"].append(
        {
            "matcher": {"id": "byName", "options": "alertname"},
            "properties": [{"id": "links", "value": [link]}],
        }
    )
    return made
