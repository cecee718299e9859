"""The five dashboards: ``python dashboards/build.py`` writes their JSON beside this file; ``--check`` only compares.

A dashboard is a list of rows, a row is a list of panels. Queries name series of docs/metrics.md and recorded ones of
rules/recorded.yaml, and keep to ratios of sums. The JSON is for Grafana 10.4 and newer. ``--currency EUR`` writes amounts
with another sign.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from panels import (
    AT,
    DOCS,
    GREEN,
    RED,
    SOURCE,
    YELLOW,
    M,
    Panel,
    Target,
    W,
    band,
    bars,
    firing,
    graph,
    heatmap,
    judged,
    scatter,
    silent,
    stack,
    stat,
    table,
    whole,
)  # fmt: skip

FOLDER = Path(__file__).parent
PLACE = "cluster, namespace, workload"
MONEY = "currencyUSD"


# -- expressions ----------------------------------------------------------------------------------


def total(series: str, more: str = "") -> str:
    """A recorded series, summed over what is chosen."""
    return f"sum ({series}{{{W}{more}}})"


def share(above: str, below: str) -> str:
    """A ratio of two sums; nothing where there is no denominator."""
    return f"{above} / ({below} > 0)"


def quantile(q: float, latency: str) -> str:
    """A quantile of one of the latency histograms."""
    return f"histogram_quantile({q}, sum by (le) (rate(inferometer_{latency}_seconds_bucket{{{M}}}[$__rate_interval])))"


def recorded(name: str, window: str, level: str = "workload") -> str:
    """The name of a recorded rate."""
    return f"{level}:inferometer_{name}:rate{window}"


def by_gpu(expr: str) -> str:
    """The expression with a label short enough for a legend."""
    return f'label_replace({expr}, "short", "$1", "gpu", "((?:GPU|MIG)-.{{8}}).*")'


OUTPUT = ', type="output"'
COST, TOKENS = recorded("cost", "5m"), recorded("tokens", "5m")
OUT = recorded("tokens", "5m", "workload_type")
JUDGED = total(recorded("slo_requests", "5m"))


# -- the dashboards -------------------------------------------------------------------------------


def economics() -> list[list[Panel]]:
    """For the person who pays."""
    hourly = recorded("cost", "1h")
    out_1h = total(recorded("tokens", "1h", "workload_type"), OUTPUT)
    per_day = share(
        f"1e6 * sum by ({PLACE}) (workload:inferometer_cost:rate1d{{{W}}})",
        f"sum by ({PLACE}) (workload:inferometer_tokens:rate1d{{{W}}})",
    )
    return [
        [
            stat(
                "Cost per million output tokens",
                "The whole bill of the last hour over a million output tokens: 10⁶ · Σ cost ÷ Σ output tokens. Idle time is in it.",
                MONEY,
                share(f"1e6 * {total(hourly)}", out_1h),
                (6, 6),
            ),
            stat(
                "Cost per million tokens",
                "The same bill over all tokens, input included: 10⁶ · Σ cost ÷ Σ tokens, last hour.",
                MONEY,
                share(f"1e6 * {total(hourly)}", total(recorded("tokens", "1h"))),
                (4, 6),
            ),
            stat(
                "Money per hour", "Σ cost rate of the last five minutes · 3600.", MONEY, f"3600 * {total(COST)}", (3, 6)
            ),
            stat(
                "A month at this pace",
                "Cost rate of the last hour · 730 h, the length of a mean month. No forecast of traffic.",
                MONEY,
                f"2628000 * {total(hourly)}",
                (4, 6),
            ),
            judged(
                stat(
                    "Paid for idle GPUs",
                    "Σ cost in state idle ÷ Σ cost, last hour.",
                    "percentunit",
                    share(total(recorded("cost", "1h", "workload_state"), ', state="idle"'), total(hourly)),
                    (3, 6),
                ),
                (None, GREEN),
                (0.3, YELLOW),
                (0.6, RED),
            ),
            stat(
                "Cost per good request, at most",
                "Σ cost ÷ Σ lower bound of good requests, last hour: a good request cost no more than this.",
                MONEY,
                share(total(hourly), total(recorded("good_requests_lower", "1h"))),
                (4, 6),
            ),
        ],
        [
            stack(
                "Money per hour, by what it pays for",
                "Σ cost rate by component · 3600. The parts add up to the bill.",
                MONEY,
                [
                    (
                        f"3600 * sum by (component) (workload_component:inferometer_cost:rate5m{{{W}}}) > 0",
                        "{{component}}",
                    )
                ],
            ),
            stack(
                "Money per hour, by what the GPUs did",
                "Σ cost rate by state · 3600: busy is usage, all states together are allocation.",
                MONEY,
                [(f"3600 * sum by (state) (workload_state:inferometer_cost:rate5m{{{W}}})", "{{state}}")],
            ),
        ],
        [
            graph(
                "Cost per million tokens, by workload",
                "10⁶ · Σ cost ÷ Σ tokens over five minutes, allocation: idle time is in it.",
                MONEY,
                [(f"workload:inferometer_cost_per_million_tokens:ratio_rate5m{{{W}}}", "{{workload}}")],
            ),
            graph(
                "Price of a million tokens, by type",
                "10⁶ · Σ cost of the type ÷ Σ tokens of the type over five minutes, usage: idle and unassigned money left out.",
                MONEY,
                [
                    (
                        f"1e6 * sum by (type) (workload_type:inferometer_token_cost:rate5m{{{W}}}) "
                        f"/ (sum by (type) (workload_type:inferometer_tokens:rate5m{{{W}}}) > 0)",
                        "{{type}}",
                    )
                ],
            ),
        ],
        [
            table(
                "Who pays for what, last day",
                "Per workload over the last day: Σ cost, Σ tokens, their ratio, and that ratio against the day before.",
                [
                    ("Money", MONEY, f"86400 * sum by (workload) (workload:inferometer_cost:rate1d{{{W}}})"),
                    ("Tokens", "short", f"86400 * sum by (workload) (workload:inferometer_tokens:rate1d{{{W}}})"),
                    (
                        "Per million tokens",
                        MONEY,
                        f"sum by (workload) (workload:inferometer_cost_per_million_tokens:ratio_rate1d{{{W}}})",
                    ),
                    (
                        "Against the day before",
                        "percentunit",
                        f"sum by (workload) (workload:inferometer_cost_per_million_tokens:ratio_rate1d{{{W}}}) / "
                        f"sum by (workload) (workload:inferometer_cost_per_million_tokens:ratio_rate1d{{{W}}} offset 1d) - 1",
                    ),
                ],
                (14, 8),
            ),
            bars(
                "Coverage: what these figures stand on",
                "Accounted: GPU time charged ÷ GPU time. Split: token cost split by measured GPU time ÷ by any method. "
                "Metered: joules of counters and samples ÷ joules. Decided: 1 − (upper − lower) ÷ judged requests.",
                "percentunit",
                coverage(),
                (10, 8),
            ),
        ],
        [
            silent(
                graph(
                    "Budget",
                    "Money spent in the period, its forecast at the present rate, and the budget.",
                    MONEY,
                    [
                        (f"sum (inferometer_budget_amount{{{W}}})", "budget"),
                        (f"sum (inferometer_budget_spent{{{W}}})", "spent"),
                        (f"sum (inferometer_budget_forecast{{{W}}})", "forecast"),
                    ],
                    (8, 8),
                ),
                "No budget configured",
            ),
            graph(
                "Our cost per token beside the industry's",
                "10⁶ · Σ cost ÷ Σ tokens over a day. Dashed, as context and no target: our first value falling 30 % a year, "
                "the published trend of hardware cost (Stanford AI Index 2025).",
                MONEY,
                [(per_day, "{{workload}}"), (_trend(per_day, 0.7), "industry trend (context)")],
                (8, 8),
            ),
            whole(
                graph(
                    "Busy share of GPU time",
                    "Σ busy GPU-seconds ÷ Σ GPU-seconds held, five minutes.",
                    "percentunit",
                    [(f"workload:inferometer_busy:ratio_rate5m{{{W}}}", "{{workload}}")],
                    (8, 8),
                )
            ),
        ],
    ]


def coverage() -> list[Target]:
    """How much of money, its split, energy and goodput is known rather than assumed; last hour."""
    split = f"inferometer_token_cost_total{{{W}, method"
    joules = recorded("energy_joules", "1h", "workload_method")
    width = f"({total(recorded('good_requests_upper', '1h'))} - {total(recorded('good_requests_lower', '1h'))})"
    return [
        (
            f"1 - sum (rate(inferometer_unaccounted_gpu_seconds_total{{{W}}}[1h])) / "
            f"({total(recorded('gpu_seconds', '1h'))} > 0)",
            "GPU time: accounted",
        ),
        (
            f'(sum (rate({split}=~"pool|gpu_time|calibrated"}}[1h])) or vector(0)) / '
            f'(sum (rate({split}!="none"}}[1h])) > 0)',
            "token split: measured",
        ),
        (share(total(joules, ', method=~"counter|samples"'), total(joules)), "energy: metered"),
        (f"1 - {width} / ({total(recorded('slo_requests', '1h'))} > 0)", "goodput: decided"),
    ]


def _trend(series: str, yearly: float) -> str:
    """The first value of the time shown, changed by a factor a year."""
    first = series.replace("}", "} @ start()")
    return f"{first} * {yearly} ^ ((time() - $__from / 1000) / 31536000)"


def service_levels() -> list[list[Panel]]:
    """For whoever promised something to users."""
    lower, upper = (total(recorded(f"good_requests_{bound}", "5m")) for bound in ("lower", "upper"))
    certain = f'sloth_slo="goodput-certain", {W}'
    met = [
        (
            f"sum by (slo) (rate(inferometer_slo_met_requests_{bound}_total{{{M}}}[$__rate_interval])) / ignoring (slo) "
            f"group_left () (sum (rate(inferometer_slo_requests_total{{{M}}}[$__rate_interval])) > 0)",
            f"{{{{slo}}}} {name}",
        )
        for bound, name in (("lower", "at least"), ("upper", "at most"))
    ]
    return [
        [
            stat(
                "Good requests, at least",
                "Σ lower bound of good requests ÷ Σ judged requests, last hour. Good: finished without error, every SLO met.",
                "percentunit",
                share(total(recorded("good_requests_lower", "1h")), total(recorded("slo_requests", "1h"))),
                (6, 6),
            ),
            judged(
                stat(
                    "Error budget left",
                    "1 − certainly bad share over 30 days ÷ (1 − objective); the least of the workloads chosen.",
                    "percentunit",
                    f"min (slo:period_error_budget_remaining:ratio{{{certain}}})",
                    (4, 6),
                ),
                (None, RED),
                (0.0, YELLOW),
                (0.25, GREEN),
            ),
            judged(
                stat(
                    "Burn rate",
                    "Certainly bad share of five minutes ÷ (1 − objective); the largest of the workloads chosen. 1 is sustainable.",
                    "none",
                    f"max (slo:current_burn_rate:ratio{{{certain}}})",
                    (3, 6),
                ),
                (None, GREEN),
                (1.0, YELLOW),
                (6.0, RED),
            ),
            stat(
                "TTFT, 95 of 100",
                "95th percentile of the time to first token, queue included.",
                "s",
                quantile(0.95, "ttft"),
                (4, 6),
            ),
            stat(
                "TPOT, 95 of 100",
                "95th percentile of the time per output token after the first.",
                "s",
                quantile(0.95, "tpot"),
                (4, 6),
            ),
            stat(
                "Requests per second",
                "Σ rate of requests that ended, last five minutes.",
                "reqps",
                total(recorded("requests", "5m")),
                (3, 6),
            ),
        ],
        [
            whole(
                band(
                    "Goodput: share of good requests",
                    "Σ good ÷ Σ judged over five minutes. Histograms know how many met each SLO, not which: the truth lies in the band.",
                    "percentunit",
                    (share(lower, JUDGED), share(upper, JUDGED)),
                    (f"max (inferometer_slo_objective_ratio{{{W}}})", "objective"),
                )
            ),
            band(
                "Goodput: good requests per second",
                "Σ rate of the lower and of the upper bound of good requests; dashed: all judged requests.",
                "reqps",
                (lower, upper),
                (JUDGED, "judged"),
            ),
        ],
        [
            whole(
                graph(
                    "Share that met each SLO",
                    "Σ requests that met this one SLO ÷ Σ judged, lower and upper bound.",
                    "percentunit",
                    met,
                )
            ),
            stack(
                "How requests end",
                "Σ rate of requests by outcome. Vanished: clients that left, in no outcome counter of the engine.",
                "reqps",
                [(f"sum by (outcome) (workload_outcome:inferometer_requests:rate5m{{{W}}})", "{{outcome}}")],
            ),
        ],
        [
            heatmap(
                "Time to first token",
                "Requests by TTFT, the engine's own buckets.",
                f"sum by (le) (increase(inferometer_ttft_seconds_bucket{{{M}}}[$__rate_interval]))",
            ),
            heatmap(
                "Time per output token",
                "Requests by TPOT, the engine's own buckets.",
                f"sum by (le) (increase(inferometer_tpot_seconds_bucket{{{M}}}[$__rate_interval]))",
            ),
        ],
        [
            graph(
                f"{name}: 50, 95 and 99 of 100",
                f"Quantiles of {what} out of the engine's buckets; dashed where the SLO lies.",
                "s",
                [
                    (quantile(0.5, key), "p50"),
                    (quantile(0.95, key), "p95"),
                    (quantile(0.99, key), "p99"),
                    (f'max (inferometer_slo_threshold_seconds{{{W}, slo="{key}"}})', "objective"),
                ],
                (8, 8),
            )
            for name, what, key in (
                ("TTFT", "the time to first token", "ttft"),
                ("TPOT", "the time per output token", "tpot"),
                ("E2E", "the time of the whole request", "e2e"),
            )
        ],
        [
            graph(
                "Burn rate, by workload",
                "Certainly bad share ÷ (1 − objective) over one hour; pages at 14.4 over an hour and at 6 over six hours.",
                "none",
                [
                    (
                        f"slo:sli_error:ratio_rate1h{{{certain}}} / ignoring (sloth_window) slo:error_budget:ratio{{{certain}}}",
                        "{{workload}}",
                    )
                ],
                (8, 8),
            ),
            stack(
                "Requests in the engines",
                "Σ requests that run and that wait, by the engines' own gauges.",
                "short",
                [(f"sum by (state) (inferometer_engine_requests{{{M}}})", "{{state}}")],
                (8, 8),
            ),
            band_small(
                "Cost of a good request",
                "Σ cost ÷ Σ good requests over five minutes: upper bound of good requests gives the least, lower the most.",
                MONEY,
                (share(total(COST), upper), share(total(COST), lower)),
            ),
        ],
        [
            graph(
                "Vanished and wasted",
                "Vanished requests ÷ requests, and output tokens that nobody received ÷ output tokens, one hour.",
                "percentunit",
                [
                    (f"workload:inferometer_vanished:ratio_rate1h{{{W}}}", "{{workload}} vanished"),
                    (f"workload:inferometer_wasted:ratio_rate1h{{{W}}}", "{{workload}} wasted"),
                ],
                (8, 7),
            ),
            whole(
                graph(
                    "KV cache in use",
                    "Share of the KV cache in use, by engine. Near 1 requests are preempted.",
                    "percentunit",
                    [(f"max by (engine) (inferometer_engine_kv_cache_ratio{{{M}}})", "{{engine}}")],
                    (8, 7),
                )
            ),
            graph(
                "Requests not judged yet",
                "Requests that ended and wait for their stratum to end, at most five minutes.",
                "short",
                [(f"sum by (workload) (inferometer_slo_requests_pending{{{W}}})", "{{workload}}")],
                (8, 7),
            ),
        ],
    ]


def band_small(title: str, about: str, unit: str, bounds: tuple[str, str]) -> Panel:
    """A band on a third of the width."""
    return band(title, about, unit, bounds) | {"gridPos": {"w": 8, "h": 8}}


def energy() -> list[list[Panel]]:
    """For whoever pays for power, cools the room or keeps the GPUs."""
    joules, out = total(recorded("energy_joules", "5m")), total(OUT, OUTPUT)
    hour = total(recorded("energy_joules", "1h"))
    tpot = "rate(inferometer_tpot_seconds_{}{{" + M + "}}[$__rate_interval])"
    interactivity = share(f"sum ({tpot.format('count')})", f"sum ({tpot.format('sum')})")
    per_day = share(
        f"sum by ({PLACE}) (workload_type:inferometer_tokens:rate1d{{{W}{OUTPUT}}})",
        f"sum by ({PLACE}) (workload:inferometer_energy_joules:rate1d{{{W}}})",
    )
    return [
        [
            stat(
                "Joules per output token",
                "Σ joules ÷ Σ output tokens, last hour, everything that is counted: GPUs, hosts, overhead.",
                "joule",
                share(hour, total(recorded("tokens", "1h", "workload_type"), OUTPUT)),
                (6, 6),
            ),
            stat("Power", "Σ energy rate of the last five minutes: mean watts.", "watt", joules, (4, 6)),
            stat(
                "Energy of a day",
                "Energy rate of the last day · 24 h.",
                "watth",
                f"24 * {total(recorded('energy_joules', '1d'))}",
                (4, 6),
            ),
            stat(
                "Tokens per joule",
                "Σ tokens ÷ Σ joules, last hour.",
                "none",
                share(total(recorded("tokens", "1h")), hour),
                (3, 6),
            ),
            silent(
                stat(
                    "CO₂ per million tokens",
                    "10⁶ · Σ grams ÷ Σ tokens, last hour; location based, only where `carbon` is configured.",
                    "massg",
                    share(f"1e6 * {total(recorded('carbon_grams', '1h'))}", total(recorded("tokens", "1h"))),
                    (4, 6),
                ),
                "Not configured",
            ),
            silent(
                stat(
                    "Energy used idle",
                    "Σ joules in state idle ÷ Σ joules, last hour.",
                    "percentunit",
                    share(f'sum (rate(inferometer_energy_joules_total{{{W}, state="idle"}}[1h]))', hour),
                    (3, 6),
                ),
                "Not told apart",
            ),
        ],
        [
            scatter(
                "AI factory: throughput per megawatt against speed for one user",
                "Across: output tokens per second that one request sees, 1 ÷ mean TPOT. Up: output tokens per second and "
                "megawatt, 10⁶ · Σ output tokens ÷ Σ joules. Right and up is better; a larger batch goes up and left.",
                (interactivity, "tokens/s per user"),
                (share(f"1e6 * {out}", joules), "tokens/s per MW"),
            ),
            graph(
                "Energy per output token, by workload",
                "Σ joules ÷ Σ output tokens over five minutes.",
                "joule",
                [(f"workload:inferometer_energy_per_output_token_joules:ratio_rate5m{{{W}}}", "{{workload}}")],
                (12, 9),
            ),
        ],
        [
            stack(
                "Power, by where it goes",
                "Σ energy rate by component: GPUs and hosts are metered, overhead is (gpu + host) · (PUE − 1).",
                "watt",
                [(f"sum by (component) (workload_component:inferometer_energy_joules:rate5m{{{W}}})", "{{component}}")],
                (8, 8),
            ),
            stack(
                "Power, by how it was measured",
                "Σ energy rate by method: energy counters, power samples, or estimated.",
                "watt",
                [(f"sum by (method) (workload_method:inferometer_energy_joules:rate5m{{{W}}})", "{{method}}")],
                (8, 8),
            ),
            stack(
                "Power, by whether work was done",
                "Σ energy rate by state.",
                "watt",
                [(f"sum by (state) (rate(inferometer_energy_joules_total{{{W}}}[$__rate_interval]))", "{{state}}")],
                (8, 8),
            ),
        ],
        [
            graph(
                "Power of each GPU",
                "As the driver reads it.",
                "watt",
                [(by_gpu(f"inferometer_gpu_power_watts{{{AT}}}"), "{{short}}")],
                (8, 8),
            ),
            whole(
                graph(
                    "Power against its limit",
                    "Power drawn ÷ power limit in force; near 1 the clocks are held down.",
                    "percentunit",
                    [
                        (
                            by_gpu(
                                f"inferometer_gpu_power_watts{{{AT}}} / (inferometer_gpu_power_limit_watts{{{AT}}} > 0)"
                            ),
                            "{{short}}",
                        )
                    ],
                    (8, 8),
                )
            ),
            graph(
                "Temperature",
                "As the driver reads it.",
                "celsius",
                [(by_gpu(f"inferometer_gpu_temperature_celsius{{{AT}}}"), "{{short}}")],
                (8, 8),
            ),
        ],
        [
            whole(
                graph(
                    "Any kernel ran",
                    "Share of time in which any kernel ran: it says nothing about how full the GPU was. Beside it, what was full.",
                    "percentunit",
                    [(by_gpu(f"inferometer_gpu_utilization_ratio{{{AT}}}"), "{{short}}")],
                    (8, 8),
                )
            ),
            silent(
                whole(
                    graph(
                        "Multiprocessors and tensor cores at work",
                        "Share of time in which multiprocessors and tensor cores worked, from DCGM.",
                        "percentunit",
                        [
                            (by_gpu(f"inferometer_gpu_sm_active_ratio{{{AT}}}"), "{{short}} SM"),
                            (by_gpu(f"inferometer_gpu_tensor_active_ratio{{{AT}}}"), "{{short}} tensor"),
                        ],
                        (8, 8),
                    )
                ),
                "Needs DCGM",
            ),
            whole(
                graph(
                    "Memory in use",
                    "Memory used ÷ memory built in.",
                    "percentunit",
                    [
                        (
                            by_gpu(
                                f"inferometer_gpu_memory_used_bytes{{{AT}}} / (inferometer_gpu_memory_total_bytes{{{AT}}} > 0)"
                            ),
                            "{{short}}",
                        )
                    ],
                    (8, 8),
                )
            ),
        ],
        [
            silent(
                whole(
                    graph(
                        "Slowed down, by reason",
                        "Share of time in which clocks were held down; reasons overlap, do not add them.",
                        "percentunit",
                        [
                            (
                                f"max by (reason) (rate(inferometer_gpu_throttle_seconds_total{{{AT}}}[$__rate_interval]))",
                                "{{reason}}",
                            )
                        ],
                        (8, 8),
                    )
                ),
                "No reading",
            ),
            silent(
                graph(
                    "Driver errors",
                    "Increase of XID errors in an hour, by GPU and XID.",
                    "short",
                    [
                        (
                            f"sum by (gpu, xid) (increase(inferometer_gpu_xid_errors_total{{{AT}}}[1h]))",
                            "{{gpu}} XID {{xid}}",
                        )
                    ],
                    (8, 8),
                ),
                "None",
            ),
            graph(
                "Our tokens per joule beside the industry's",
                "Σ output tokens ÷ Σ joules over a day. Dashed, as context and no target: our first value rising 40 % a year, "
                "the published trend of energy efficiency (Stanford AI Index 2025).",
                "none",
                [(per_day, "{{workload}}"), (_trend(per_day, 1.4), "industry trend (context)")],
                (8, 8),
            ),
        ],
    ]


def fleet() -> list[list[Panel]]:
    """For whoever runs the servers."""
    by_engine = "sum by (workload, engine)"
    speed = f"{by_engine} (rate(inferometer_tokens_total{{{M}{OUTPUT}}}[5m]))"
    state = f"sum by (state) (rate(inferometer_gpu_seconds_total{{{W}}}[$__rate_interval]))"
    return [
        [
            stat(
                "Engines up",
                "Engines whose newest page was read whole.",
                "short",
                f"sum (inferometer_engine_up{{{W}}})",
                (6, 6),
            ),
            judged(
                stat(
                    "Engines down or stalled",
                    "Engines that do not answer, and those that are stuck.",
                    "short",
                    _broken(),
                    (4, 6),
                ),
                (None, GREEN),
                (1.0, RED),
            ),
            stat(
                "GPUs held",
                "Σ rate of GPU-seconds held, five minutes.",
                "short",
                total(recorded("gpu_seconds", "5m")),
                (3, 6),
            ),
            stat(
                "GPUs idle",
                "Σ rate of GPU-seconds in state idle over the last hour.",
                "short",
                total(recorded("gpu_seconds", "1h", "workload_state"), ', state="idle"'),
                (3, 6),
            ),
            stat(
                "Idle money per hour",
                "Cost rate in state idle over the last hour · 3600.",
                MONEY,
                "3600 * " + total(recorded("cost", "1h", "workload_state"), ', state="idle"'),
                (4, 6),
            ),
            stat(
                "Unevenness",
                "Output tokens per second of the busiest engine ÷ mean of all engines; 1 is even.",
                "none",
                f"max ({speed}) / (avg ({speed}) > 0)",
                (4, 6),
            ),
        ],
        [
            table(
                "Engines",
                "Per engine: output tokens per second, share of time busy, requests that run and wait, KV cache in use.",
                [
                    ("Output tokens/s", "short", speed),
                    (
                        "Busy",
                        "percentunit",
                        f'{by_engine} (rate(inferometer_gpu_seconds_total{{{W}, state="busy"}}[5m])) / '
                        f"({by_engine} (rate(inferometer_gpu_seconds_total{{{W}}}[5m])) > 0)",
                    ),
                    ("Running", "short", f'{by_engine} (inferometer_engine_requests{{{M}, state="running"}})'),
                    ("Waiting", "short", f'{by_engine} (inferometer_engine_requests{{{M}, state="waiting"}})'),
                    (
                        "KV cache",
                        "percentunit",
                        f"max by (workload, engine) (inferometer_engine_kv_cache_ratio{{{M}}})",
                    ),
                    ("Up", "short", f"max by (workload, engine) (inferometer_engine_up{{{W}}})"),
                ],
                (24, 9),
            ),
        ],
        [
            graph(
                "Output tokens per second, by engine",
                "Σ rate of output tokens, five minutes.",
                "short",
                [(speed, "{{engine}}")],
            ),
            stack(
                "GPUs, by what they do",
                "Σ rate of GPU-seconds by state: the number of GPUs in each.",
                "short",
                [(state, "{{state}}")],
            ),
        ],
        [
            graph(
                "Requests waiting, by engine",
                "The engine's own gauge.",
                "short",
                [(f'{by_engine} (inferometer_engine_requests{{{M}, state="waiting"}})', "{{engine}}")],
                (8, 8),
            ),
            whole(
                graph(
                    "KV cache in use, by engine",
                    "The engine's own gauge.",
                    "percentunit",
                    [(f"max by (engine) (inferometer_engine_kv_cache_ratio{{{M}}})", "{{engine}}")],
                    (8, 8),
                )
            ),
            silent(
                whole(
                    graph(
                        "Engine restarts",
                        "Increase of counter resets in ten minutes, by source.",
                        "short",
                        [(f"sum by (source) (increase(inferometer_resets_total{{{AT}}}[10m]))", "{{source}}")],
                        (8, 8),
                    )
                ),
                "None",
            ),
        ],
        [
            graph(
                "Engine versions",
                "Engines by kind and version: more than one line of a kind is a rollout, or was forgotten.",
                "short",
                [(f"count by (kind, version) (inferometer_engine_info{{{W}}})", "{{kind}} {{version}}")],
                (8, 8),
            ),
            silent(
                table(
                    "Signals that are missing",
                    "What a page ought to have and has not, mostly after an upgrade.",
                    [
                        (
                            "missing",
                            "short",
                            f"sum by (workload, engine, signal) (inferometer_signal_missing{{{W}}}) > 0",
                        )
                    ],
                    (8, 8),
                ),
                "None",
            ),
            graph(
                "Room: tokens per busy GPU-second",
                "Σ tokens ÷ Σ busy GPU-seconds, five minutes: what a GPU does while it works.",
                "short",
                [
                    (
                        f"sum by (workload) (workload:inferometer_tokens:rate5m{{{W}}}) / "
                        f'(sum by (workload) (workload_state:inferometer_gpu_seconds:rate5m{{{W}, state="busy"}}) > 0)',
                        "{{workload}}",
                    )
                ],
                (8, 8),
            ),
        ],
    ]


def _broken() -> str:
    stalled = f'sum (inferometer_engine_state{{{W}, state="stalled"}})'
    return f"count (inferometer_engine_up{{{W}}}) - sum (inferometer_engine_up{{{W}}}) + ({stalled} or vector(0))"


def agent() -> list[list[Panel]]:
    """For whoever must trust the other four."""
    age = f"time() - inferometer_settled_until_timestamp_seconds{{{W}}}"
    return [
        [
            stat(
                "Agents up",
                "Agents that Prometheus scraped.",
                "short",
                f"count (inferometer_build_info{{{AT}}})",
                (6, 6),
            ),
            judged(
                stat(
                    "Sources down",
                    "Sources whose newest reading failed.",
                    "short",
                    f"count (inferometer_source_up{{{AT}}}) - sum (inferometer_source_up{{{AT}}})",
                    (4, 6),
                ),
                (None, GREEN),
                (1.0, RED),
            ),
            judged(
                stat(
                    "Oldest settlement",
                    "Now − time up to which totals are settled; the oldest workload.",
                    "s",
                    f"max ({age})",
                    (4, 6),
                ),
                (None, GREEN),
                (60.0, YELLOW),
                (300.0, RED),
            ),
            stat(
                "Slowest source",
                "How long the newest reading of the slowest source took.",
                "s",
                f"max (inferometer_source_read_seconds{{{AT}}})",
                (3, 6),
            ),
            stat(
                "Series per agent",
                "Samples on the largest page.",
                "short",
                f"max (scrape_samples_scraped{{{AT}}} and on (job, instance) inferometer_build_info)",
                (4, 6),
            ),
            stat(
                "Loop lag",
                "How late the newest tick of the slowest agent came.",
                "s",
                f"max (inferometer_event_loop_lag_seconds{{{AT}}})",
                (3, 6),
            ),
        ],
        [
            firing("What fires now", "Alerts of dashboards/rules that fire; the name leads to its runbook.", (12, 8)),
            table(
                "Sources",
                "Per source: whether it is up, how long a reading takes, how old the newest is, errors in the last hour.",
                [
                    ("Up", "short", f"min by (source) (inferometer_source_up{{{AT}}})"),
                    ("Reading takes", "s", f"max by (source) (inferometer_source_read_seconds{{{AT}}})"),
                    (
                        "Newest is old",
                        "s",
                        f"max by (source) (time() - inferometer_source_last_success_timestamp_seconds{{{AT}}})",
                    ),
                    (
                        "Errors, last hour",
                        "short",
                        f"sum by (source) (increase(inferometer_source_errors_total{{{AT}}}[1h]))",
                    ),
                ],
                (12, 8),
            ),
        ],
        [
            graph(
                "Time of a reading, by source",
                "How long the newest reading took.",
                "s",
                [(f"max by (source) (inferometer_source_read_seconds{{{AT}}})", "{{source}}")],
            ),
            silent(
                graph(
                    "Errors, by source and reason",
                    "Increase of failed readings in five minutes.",
                    "short",
                    [
                        (
                            f"sum by (source, reason) (increase(inferometer_source_errors_total{{{AT}}}[5m]))",
                            "{{source}} {{reason}}",
                        )
                    ],
                ),
                "None",
            ),
        ],
        [
            graph(
                "CPU of the agent",
                "Rate of CPU seconds: 1 is a whole core.",
                "percentunit",
                [
                    (
                        f"rate(process_cpu_seconds_total{{{AT}}}[$__rate_interval]) and on (job, instance) inferometer_build_info",
                        "{{instance}}",
                    )
                ],
                (8, 8),
            ),
            graph(
                "Memory of the agent",
                "Resident memory in bytes.",
                "bytes",
                [
                    (
                        f"process_resident_memory_bytes{{{AT}}} and on (job, instance) inferometer_build_info",
                        "{{instance}}",
                    )
                ],
                (8, 8),
            ),
            graph(
                "Settlement is behind by",
                "Now − time up to which totals are settled, by workload.",
                "s",
                [(age, "{{workload}}")],
                (8, 8),
            ),
        ],
        [
            silent(
                whole(
                    graph(
                        "Counter resets handled",
                        "Increase in ten minutes, by source: restarts of engines and drivers.",
                        "short",
                        [(f"sum by (source) (increase(inferometer_resets_total{{{AT}}}[10m]))", "{{source}}")],
                        (8, 8),
                    )
                ),
                "None",
            ),
            whole(
                graph(
                    "GPU time that nobody can account for",
                    "Σ increase in an hour of GPU-seconds of which nobody knows whether they were held; never charged.",
                    "s",
                    [
                        (
                            f"sum by (workload) (increase(inferometer_unaccounted_gpu_seconds_total{{{W}}}[1h]))",
                            "{{workload}}",
                        )
                    ],
                    (8, 8),
                )
            ),
            silent(
                graph(
                    "Series left out",
                    "Increase in an hour of series dropped because a limit was reached.",
                    "short",
                    [
                        (
                            f"sum by (instance, limit) (increase(inferometer_series_dropped_total{{{AT}}}[1h]))",
                            "{{instance}} {{limit}}",
                        )
                    ],
                    (8, 8),
                ),
                "None",
            ),
        ],
        [
            whole(
                graph(
                    "Configuration accepted",
                    "1 where the newest configuration runs, 0 where an older one runs in its place.",
                    "short",
                    [(f"min by (instance) (inferometer_config_last_reload_successful{{{AT}}})", "{{instance}}")],
                    (8, 7),
                )
            ),
            graph(
                "Versions",
                "Agents by version.",
                "short",
                [(f"count by (version) (inferometer_build_info{{{AT}}})", "{{version}}")],
                (8, 7),
            ),
            whole(
                graph(
                    "Workloads without a price",
                    "Workloads whose tokens are counted and whose money is not.",
                    "short",
                    [(f"sum (inferometer_price_missing{{{W}}})", "without a price")],
                    (8, 7),
                )
            ),
        ],
    ]


DASHBOARDS = {
    "economics": ("Economics", "What does a token cost, and who pays for what?", economics),
    "slo": ("SLO & goodput", "How many requests are good, and how much error budget is left?", service_levels),
    "energy": ("Energy & GPU", "How much energy does a token take?", energy),
    "fleet": ("Fleet", "Which engines serve, which idle, which are stuck?", fleet),
    "agent": ("Agent health", "Can these figures be trusted?", agent),
}
"""By file name: title, the question it answers, its rows."""


# -- the JSON -------------------------------------------------------------------------------------


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard as Grafana imports it."""
    title, question, rows = DASHBOARDS[name]
    return {
        "uid": f"inferometer-{name}",
        "title": f"Inferometer / {title}",
        "description": question,
        "tags": ["inferometer"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": _annotations()},
        "links": _links(),
        "templating": {"list": _variables()},
        "panels": _placed(rows()),
    }


def _placed(rows: list[list[Panel]]) -> list[Panel]:
    """Panels from left to right, row under row, numbered."""
    placed: list[Panel] = []
    top = 0
    for row in rows:
        left = 0
        for panel in row:
            panel["id"] = len(placed) + 1
            panel["gridPos"] |= {"x": left, "y": top}
            left += panel["gridPos"]["w"]
            placed.append(panel)
        top += max(panel["gridPos"]["h"] for panel in row)
    return placed


def _variables() -> list[dict[str, Any]]:
    """Data source, cluster, namespace, workload, model; each narrows the next."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}
    seen, chosen = "inferometer_tokens_total", 'cluster=~"$cluster"'
    return [
        source,
        _variable("cluster", "Cluster", seen),
        _variable("namespace", "Namespace", f"{seen}{{{chosen}}}"),
        _variable("workload", "Workload", f"{seen}{{{AT}}}"),
        _variable("model", "Model", f"{seen}{{{W}}}"),
    ]


def _variable(name: str, label: str, series: str) -> dict[str, Any]:
    query = f"label_values({series}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _annotations() -> list[dict[str, Any]]:
    marks = (
        ("Price changes", f"changes(inferometer_gpu_hourly_price{{{W}}}[2m]) > 0", "{{workload}}: new price", YELLOW),
        ("Restarts", f"increase(inferometer_resets_total{{{AT}}}[2m]) > 0", "{{source}} restarted", RED),
    )
    return [
        {
            "name": name,
            "datasource": SOURCE,
            "enable": True,
            "expr": expr,
            "titleFormat": text,
            "iconColor": colour,
            "step": "60s",
        }
        for name, expr, text, colour in marks
    ]


def _links() -> list[dict[str, Any]]:
    return [
        {
            "title": "Inferometer",
            "type": "dashboards",
            "tags": ["inferometer"],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
        },
        {"title": "Runbooks", "type": "link", "url": f"{DOCS}/runbooks/README.md", "icon": "doc", "targetBlank": True},
        {"title": "Metrics", "type": "link", "url": f"{DOCS}/metrics.md", "icon": "doc", "targetBlank": True},
    ]


def text(name: str, currency: str = "USD") -> str:
    """The file's content."""
    body = json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"
    return body if currency == "USD" else body.replace(f'"{MONEY}"', f'"currency:{currency} "')


def main(argv: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; 1 where a file is not what would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--currency", default="USD", help="of the amounts (default: USD)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(argv)
    old = []
    for name in DASHBOARDS:
        path, body = options.out / f"{name}.json", text(name, options.currency)
        if options.check:
            old += [str(path)] if not path.exists() or path.read_text(encoding="utf-8") != body else []
        else:
            path.write_text(body, encoding="utf-8")
    sys.stdout.writelines(f"{path}: run python dashboards/build.py\n" for path in old)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
