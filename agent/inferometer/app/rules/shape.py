"""Rules and groups as records, time scaling, and the tables that Prometheus and vmalert read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

PLACE = "cluster, namespace, workload"
"""Labels that every rule keeps: an agent knows the workload; the scrape or an external label adds the others."""

RUNBOOKS = "https://github.com/inferometer/inferometer/blob/main/docs/runbooks"
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?<=\[)(\d+)(ms|s|m|h|d)(?=\])|(?<=offset )(\d+)(ms|s|m|h|d)")


class Record(Struct, frozen=True):
    """A recording rule; ``name`` is level:metric:operations."""

    name: str
    expr: str
    labels: Mapping[str, str] = {}


class Alert(Struct, frozen=True):
    """An alerting rule.

    ``wait``: how long the condition must hold. ``dashboard``: uid of the dashboard that shows what the alert is about.
    ``labels``: more labels than the severity.
    """

    name: str
    severity: Literal["critical", "warning", "info"]
    wait: str
    expr: str
    summary: str
    description: str
    dashboard: str
    labels: Mapping[str, str] = {}


class Group(Struct, frozen=True):
    """Rules that are evaluated in order, every ``interval``."""

    name: str
    interval: str
    rules: Sequence[Record | Alert]


def table(group: Group, time_scale: float = 1.0, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The group as Prometheus reads it; every window, offset, wait and interval is divided by ``time_scale``."""
    rules = [_table(rule, time_scale, runbooks) for rule in group.rules]
    return {"name": group.name, "interval": _shortened(group.interval, time_scale), "rules": rules}


def scaled(expr: str, time_scale: float) -> str:
    """The expression with its windows and offsets divided; names of series keep their windows."""
    return _DURATION.sub(lambda found: _shortened(found[0], time_scale), expr) if time_scale != 1 else expr


def _table(rule: Record | Alert, time_scale: float, runbooks: str) -> dict[str, Any]:
    if isinstance(rule, Record):
        labels = {"labels": dict(rule.labels)} if rule.labels else {}
        return {"record": rule.name, "expr": scaled(rule.expr, time_scale), **labels}
    wait = {"for": _shortened(rule.wait, time_scale)} if rule.wait != "0s" else {}
    return {
        "alert": rule.name,
        "expr": scaled(rule.expr, time_scale),
        **wait,
        "labels": {"severity": rule.severity, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{runbooks}/{rule.name}.md",
            "dashboard_uid": rule.dashboard,
        },
    }


def _shortened(duration: str, time_scale: float) -> str:
    """A duration divided, in milliseconds where seconds are no longer whole."""
    if time_scale == 1:
        return duration
    amount, unit = re.fullmatch(r"(\d+)(\w+)", duration).groups()  # type: ignore[union-attr]
    milliseconds = max(1, round(int(amount) * _MILLISECONDS[unit] / time_scale))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
