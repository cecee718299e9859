"""GPU time and money."""

from __future__ import annotations

from inferometer.exposition.labels import (
    BASIS,
    COMPONENT,
    COST_TYPE,
    ENGINE,
    MODEL,
    SPLIT_METHOD,
    STATE,
    TOKEN_TYPE,
    TOKENS,
    WINDOW,
    WORKLOAD,
)
from inferometer.exposition.metric import COUNTER, GAUGE, Metric, Subject

_TIME = (
    Metric(
        "inferometer_gpu_seconds_total",
        COUNTER,
        (WORKLOAD, ENGINE, STATE),
        "seconds",
        "GPU time held, by what the GPUs did in it.",
        "Σ GPUs * seconds held",
    ),
    Metric(
        "inferometer_unaccounted_gpu_seconds_total",
        COUNTER,
        (WORKLOAD,),
        "seconds",
        "GPU time of which nobody can know whether the GPUs were held; never charged.",
        "Σ GPUs * (agent away - provably held)",
    ),
    Metric(
        "inferometer_busy_ratio",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "Share of the GPU time held in the window that was busy.",
        "Δ gpu_seconds{state=busy} ÷ Δ gpu_seconds",
    ),
)
_TOTALS = (
    Metric(
        "inferometer_cost_total",
        COUNTER,
        (WORKLOAD, COMPONENT, STATE),
        "money",
        "Money spent, by what it paid for and what the GPUs did meanwhile.",
        "Σ price * time held + tariff * metered facility kWh; all states = allocation, busy = usage",
        money=True,
    ),
    Metric(
        "inferometer_token_cost_total",
        COUNTER,
        (WORKLOAD, MODEL, COST_TYPE, SPLIT_METHOD),
        "money",
        "The same money split over token types; idle and unassigned are money that no token earned.",
        "cost split by method; its sum equals the sum of inferometer_cost_total",
        money=True,
    ),
)
_RATIOS = (
    Metric(
        "inferometer_cost_per_million_tokens",
        GAUGE,
        (WORKLOAD, TOKENS, BASIS, WINDOW),
        "money/million tokens",
        "The whole bill over a million tokens; tokens=output is that bill over output tokens alone, not their price.",
        "10⁶ * Δ cost ÷ Δ tokens; allocation: all states, usage: busy",
        money=True,
    ),
    Metric(
        "inferometer_token_price_per_million",
        GAUGE,
        (WORKLOAD, MODEL, TOKEN_TYPE, SPLIT_METHOD, BASIS, WINDOW),
        "money/million tokens",
        "Price of a million tokens of one type.",
        "usage: 10⁶ * Δ token_cost ÷ Δ tokens of the type; allocation: idle and unassigned spread in proportion",
        money=True,
    ),
    Metric(
        "inferometer_cost_per_request",
        GAUGE,
        (WORKLOAD, WINDOW),
        "money/request",
        "Money per request that ended in the window.",
        "Δ cost ÷ Δ requests",
        money=True,
    ),
    Metric(
        "inferometer_cost_per_good_request_lower",
        GAUGE,
        (WORKLOAD, WINDOW),
        "money/request",
        "Least that a good request can have cost.",
        "Δ cost ÷ Δ good_requests_upper",
        money=True,
    ),
    Metric(
        "inferometer_cost_per_good_request_upper",
        GAUGE,
        (WORKLOAD, WINDOW),
        "money/request",
        "Most that a good request can have cost.",
        "Δ cost ÷ Δ good_requests_lower",
        money=True,
    ),
    Metric(
        "inferometer_cost_per_million_good_tokens",
        GAUGE,
        (WORKLOAD, WINDOW),
        "money/million tokens",
        "Money per million output tokens of good requests; only where no request without a trace can be good.",
        "10⁶ * Δ cost ÷ Δ good_tokens",
        money=True,
    ),
)
_SETTINGS = (
    Metric(
        "inferometer_gpu_hourly_price",
        GAUGE,
        (WORKLOAD,),
        "money/GPU-hour",
        "Price of one GPU for an hour as it stands now, metered power not included.",
        "configured rate, or (capital + software + hosting + other) per year ÷ (8760 * GPUs * availability)",
        money=True,
    ),
    Metric(
        "inferometer_price_missing",
        GAUGE,
        (WORKLOAD,),
        "",
        "1 where no price is configured, so that there are no cost series.",
        "from the configuration",
    ),
    Metric(
        "inferometer_budget_amount",
        GAUGE,
        (WORKLOAD,),
        "money",
        "Budget of the current period.",
        "from the configuration",
        money=True,
    ),
    Metric(
        "inferometer_budget_spent",
        GAUGE,
        (WORKLOAD,),
        "money",
        "Money spent in the current budget period.",
        "Σ cost of the ledger's hours since the period began, restarts included",
        money=True,
    ),
    Metric(
        "inferometer_budget_forecast",
        GAUGE,
        (WORKLOAD,),
        "money",
        "Money that the whole budget period will have cost at the present rate.",
        "spent + rate of the longest window * time left; rolling periods: rate * period",
        money=True,
    ),
    Metric(
        "inferometer_accounting_start_timestamp_seconds",
        GAUGE,
        (WORKLOAD,),
        "seconds",
        "Unix time from which this workload's totals count.",
        "from the ledger",
    ),
    Metric(
        "inferometer_settled_until_timestamp_seconds",
        GAUGE,
        (WORKLOAD,),
        "seconds",
        "Unix time up to which this workload's totals are settled and stored.",
        "end of the last settled interval",
    ),
)

MONEY = Subject(
    "GPU time and money",
    "Allocation counts all time held and reconciles with the bill; usage counts busy time only.",
    (*_TIME, *_TOTALS, *_RATIOS, *_SETTINGS),
)
