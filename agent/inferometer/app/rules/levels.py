"""Service levels: Sloth-compatible series of what surely and what possibly was bad, and alerts on how fast it burns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from inferometer.app.rules.shape import PLACE, Alert, Group, Record

PERIOD_DAYS = 30
CERTAIN, POSSIBLE = "goodput-certain", "goodput-possible"
BOUNDS = {CERTAIN: "upper", POSSIBLE: "lower"}
"""Which bound of good requests tells what was bad: above the upper one nothing can have been good."""

REACHABLE = 0.8
"""The worst share of bad requests that an alert may wait for: nearer to all of them it would come too late or never."""

_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


class Burn(Struct, frozen=True):
    """An alert: the budget burns ``factor`` times too fast over both windows."""

    name: str
    slo: str
    severity: str
    factor: float
    long: str
    short: str
    wait: str


BURNS = (
    Burn("InferometerGoodputBurnsFast", CERTAIN, "critical", 14.4, "1h", "5m", "2m"),
    Burn("InferometerGoodputBurns", CERTAIN, "critical", 6, "6h", "30m", "15m"),
    Burn("InferometerGoodputMayBurn", POSSIBLE, "warning", 3, "1d", "2h", "1h"),
    Burn("InferometerGoodputMayLeak", POSSIBLE, "warning", 1, "3d", "6h", "3h"),
)


class Level(Struct, frozen=True):
    """The service level of one workload, as configured."""

    workload: str
    objective: float


def reachable(burn: Burn, objective: float) -> bool:
    """Whether so many requests can be bad at all, with some room."""
    return burn.factor < REACHABLE / (1 - objective)


def every() -> list[Group]:
    """For whatever workloads and objectives the agents export."""
    records = [record for slo in BOUNDS for record in _records(slo, "", _named(slo))]
    alerts = [_alert(burn, f'sloth_slo="{burn.slo}"', _limit(burn)) for burn in BURNS]
    return [Group("inferometer-slo", "30s", records), Group("inferometer-slo-alerts", "30s", alerts)]


def one(level: Level) -> list[Group]:
    """For one workload with a known objective; a factor that it cannot reach has no alert."""
    match, labels = f'workload="{level.workload}"', {slo: _labels(level, slo) for slo in BOUNDS}
    records = [record for slo in BOUNDS for record in _records(slo, match, labels[slo], level.objective)]
    budget = f"{1 - level.objective:.10g}"
    alerts = [
        _alert(burn, f'sloth_id="{labels[burn.slo]["sloth_id"]}"', f"({burn.factor:g} * {budget})")
        for burn in BURNS
        if reachable(burn, level.objective)
    ]
    name = f"inferometer-slo-{level.workload.replace('/', '-')}"
    return [Group(name, "30s", records), Group(f"{name}-alerts", "30s", alerts)]


def _labels(level: Level, slo: str) -> dict[str, str]:
    return {"sloth_id": f"{level.workload}-{slo}", "sloth_service": level.workload, "sloth_slo": slo}


def _named(slo: str) -> dict[str, str]:
    """Labels that hold for every workload; service and id come from the workload's name, see ``_service``."""
    return {"sloth_slo": slo}


def _records(slo: str, match: str, labels: Mapping[str, str], objective: float | None = None) -> Iterator[Record]:
    wrap = _service if objective is None else _plain
    good, judged = f"inferometer_good_requests_{BOUNDS[slo]}_total", "inferometer_slo_requests_total"
    for window in _WINDOWS:
        ratio = f"1 - {_rate(good, match, window)} / ({_rate(judged, match, window)} > 0)"
        yield Record(f"slo:sli_error:ratio_rate{window}", wrap(ratio, slo), {**labels, "sloth_window": window})
    past = f"[{PERIOD_DAYS}d]"
    name, brace = f"workload:inferometer_good_requests_{BOUNDS[slo]}:rate5m", f"{{{match}}}" if match else ""
    judgements = f"workload:inferometer_slo_requests:rate5m{brace}{past}"
    period = f"1 - sum_over_time({name}{brace}{past}) / (sum_over_time({judgements}) > 0)"
    yield Record(f"slo:sli_error:ratio_rate{PERIOD_DAYS}d", wrap(period, slo), {**labels, "sloth_window": "30d"})
    told = f"max by ({PLACE}) (inferometer_slo_objective_ratio{brace})"
    held = told if objective is None else f"{told} * 0 + {objective:.10g}"
    yield Record("slo:objective:ratio", wrap(held, slo), labels)
    yield Record("slo:error_budget:ratio", wrap(f"1 - ({held})", slo), labels)
    yield Record("slo:time_period:days", wrap(f"{told} * 0 + {PERIOD_DAYS}", slo), labels)
    yield from _burnt(slo, labels)


def _burnt(slo: str, labels: Mapping[str, str]) -> Iterator[Record]:
    """What Sloth's dashboards read besides."""
    match = f'{{sloth_id="{labels["sloth_id"]}"}}' if "sloth_id" in labels else f'{{sloth_slo="{slo}"}}'
    budget = f"slo:error_budget:ratio{match}"
    for name, window in (("current", "5m"), ("period", f"{PERIOD_DAYS}d")):
        expr = f"sum without (sloth_window) (slo:sli_error:ratio_rate{window}{match}) / {budget}"
        yield Record(f"slo:{name}_burn_rate:ratio", expr, labels)
    yield Record("slo:period_error_budget_remaining:ratio", f"1 - slo:period_burn_rate:ratio{match}", labels)


def _rate(counter: str, match: str, window: str) -> str:
    chosen = f"{{{match}}}" if match else ""
    return f"sum by ({PLACE}) (rate({counter}{chosen}[{window}]))"


def _service(expr: str, slo: str) -> str:
    """Sloth's labels out of the workload's name."""
    service = f'label_replace({expr}, "sloth_service", "$1", "workload", "(.*)")'
    return f'label_replace({service}, "sloth_id", "$1-{slo}", "workload", "(.*)")'


def _plain(expr: str, _: str) -> str:
    return expr


def _limit(burn: Burn) -> str:
    """The limit of each workload's own objective; none where it cannot be reached."""
    return (
        f'ignoring (sloth_window) ({burn.factor:g} * slo:error_budget:ratio{{sloth_slo="{burn.slo}"}} < {REACHABLE:g})'
    )


def _alert(burn: Burn, match: str, limit: str) -> Alert:
    """Requests are judged when a stratum ends, up to 5 min late: the short window looks back for its last value."""
    sure = "surely" if burn.slo == CERTAIN else "possibly"
    expr = (
        f"slo:sli_error:ratio_rate{burn.long}{{{match}}} > {limit}\n"
        f"and ignoring (sloth_window)\n"
        f"last_over_time(slo:sli_error:ratio_rate{burn.short}{{{match}}}[5m]) > {limit}"
    )
    return Alert(
        burn.name,
        "critical" if burn.severity == "critical" else "warning",
        burn.wait,
        expr,
        f"{{{{ $labels.workload }}}}: the error budget burns {burn.factor:g} times too fast",
        f"{{{{ $value | humanizePercentage }}}} of the requests judged in the last {burn.long} were {sure} bad: "
        f"they failed or missed an SLO. Burnt {burn.factor:g} times too fast, {PERIOD_DAYS} days of budget "
        f"last {_lasts(burn.factor)}.",
        "inferometer-slo",
        {"sloth_severity": "page" if burn.severity == "critical" else "ticket"},
    )


def _lasts(factor: float) -> str:
    hours = PERIOD_DAYS * 24 / factor
    return f"{hours:.0f} hours" if hours < 240 else f"{hours / 24:.0f} days"
