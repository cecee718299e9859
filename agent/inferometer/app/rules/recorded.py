"""Recording rules: rates of every counter that people divide, summed first, and their ratios."""

from __future__ import annotations

from collections.abc import Iterator

from inferometer.app.rules.shape import PLACE, Group, Record

FAST, SLOW = ("5m", "1h"), ("6h", "1d")

_SUMS = (
    # level, what the series is called, counter with matchers, labels kept beside the place
    ("workload", "cost", "cost_total", "currency"),
    ("workload_state", "cost", "cost_total", "currency, state"),
    ("workload_component", "cost", "cost_total", "currency, component"),
    ("workload_type", "token_cost", "token_cost_total", "currency, type"),
    ("workload", "tokens", "tokens_total", ""),
    ("workload_type", "tokens", "tokens_total", "type"),
    ("workload_model_type", "tokens", "tokens_total", "model, type"),
    ("workload", "wasted_tokens", "wasted_tokens_total", ""),
    ("workload_outcome", "requests", "requests_total", "outcome"),
    ("workload", "requests", "requests_total", ""),
    ("workload_state", "gpu_seconds", "gpu_seconds_total", "state"),
    ("workload", "gpu_seconds", "gpu_seconds_total", ""),
    ("workload", "energy_joules", "energy_joules_total", ""),
    ("workload_component", "energy_joules", "energy_joules_total", "component"),
    ("workload_method", "energy_joules", "energy_joules_total", "method"),
    ("workload", "carbon_grams", "carbon_grams_total", ""),
    ("workload", "slo_requests", "slo_requests_total", ""),
    ("workload", "good_requests_lower", "good_requests_lower_total", ""),
    ("workload", "good_requests_upper", "good_requests_upper_total", ""),
)
_RATIOS = (
    # what the series is called, factor, numerator, denominator
    ("cost_per_million_tokens", "1e6 * ", "workload:inferometer_cost", "workload:inferometer_tokens"),
    (
        "cost_per_million_output_tokens",
        "1e6 * ",
        "workload:inferometer_cost",
        'workload_type:inferometer_tokens{type="output"}',
    ),
    ("cost_per_request", "", "workload:inferometer_cost", "workload:inferometer_requests"),
    ("cost_per_good_request_lower", "", "workload:inferometer_cost", "workload:inferometer_good_requests_upper"),
    ("cost_per_good_request_upper", "", "workload:inferometer_cost", "workload:inferometer_good_requests_lower"),
    ("idle_cost", "", 'workload_state:inferometer_cost{state="idle"}', "workload:inferometer_cost"),
    ("busy", "", 'workload_state:inferometer_gpu_seconds{state="busy"}', "workload:inferometer_gpu_seconds"),
    (
        "energy_per_output_token_joules",
        "",
        "workload:inferometer_energy_joules",
        'workload_type:inferometer_tokens{type="output"}',
    ),
    ("energy_per_token_joules", "", "workload:inferometer_energy_joules", "workload:inferometer_tokens"),
    ("goodput_lower", "", "workload:inferometer_good_requests_lower", "workload:inferometer_slo_requests"),
    ("goodput_upper", "", "workload:inferometer_good_requests_upper", "workload:inferometer_slo_requests"),
    ("vanished", "", 'workload_outcome:inferometer_requests{outcome="vanished"}', "workload:inferometer_requests"),
    ("wasted", "", "workload:inferometer_wasted_tokens", 'workload_type:inferometer_tokens{type="output"}'),
)


def groups() -> list[Group]:
    """Short windows every half minute, long ones every five minutes; sums stand before the ratios that read them."""
    return [
        Group("inferometer-recorded-fast", "30s", [rule for window in FAST for rule in _window(window)]),
        Group("inferometer-recorded-slow", "5m", [rule for window in SLOW for rule in _window(window)]),
    ]


def _window(window: str) -> Iterator[Record]:
    for level, name, counter, more in _SUMS:
        kept = f"{PLACE}, {more}" if more else PLACE
        expr = f"sum by ({kept}) (rate(inferometer_{counter}[{window}]))"
        yield Record(f"{level}:inferometer_{name}:rate{window}", expr)
    for name, factor, numerator, denominator in _RATIOS:
        above, below = _at(numerator, window), _at(denominator, window)
        expr = f"{factor}{above} / on ({PLACE}) group_left () ({below} > 0)"
        if name == "idle_cost":  # one bill per currency on both sides
            expr = f"{above} / on ({PLACE}, currency) group_left () ({below} > 0)"
        yield Record(f"workload:inferometer_{name}:ratio_rate{window}", _without_choice(expr, numerator))


def _at(series: str, window: str) -> str:
    """``name{matchers}`` with the rate's window in its name."""
    name, brace, matchers = series.partition("{")
    return f"{name}:rate{window}{brace}{matchers}"


def _without_choice(expr: str, numerator: str) -> str:
    """A numerator of one state or outcome names it no more once it is a ratio."""
    label = numerator.partition("{")[2].partition("=")[0]
    return f"sum without ({label}) ({expr})" if label else expr
