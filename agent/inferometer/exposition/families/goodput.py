"""Service levels and goodput."""

from __future__ import annotations

from inferometer.exposition.labels import ENGINE, MODEL, SLO, SLO_METHOD, WINDOW, WORKLOAD
from inferometer.exposition.metric import COUNTER, GAUGE, Metric, Subject

_COUNTERS = (
    Metric(
        "inferometer_slo_requests_total",
        COUNTER,
        (WORKLOAD, MODEL, SLO_METHOD),
        "requests",
        "Judged requests, the denominator of every SLO ratio.",
        "finished + rejected + vanished; moves together with the numerators, when a stratum ends",
    ),
    Metric(
        "inferometer_good_requests_lower_total",
        COUNTER,
        (WORKLOAD, MODEL, SLO_METHOD),
        "requests",
        "Requests that surely finished without error and met every SLO.",
        "Σ over strata of max(0, F - min(F, B + I) - bad TPOT - bad E2E - failed); exact where traces judged",
    ),
    Metric(
        "inferometer_good_requests_upper_total",
        COUNTER,
        (WORKLOAD, MODEL, SLO_METHOD),
        "requests",
        "Requests that can at most have finished without error and met every SLO.",
        "Σ over strata of min(ok, A + I, F - bad TPOT, F - bad E2E); exact where traces judged",
    ),
    Metric(
        "inferometer_slo_met_requests_lower_total",
        COUNTER,
        (WORKLOAD, MODEL, SLO, SLO_METHOD),
        "requests",
        "Requests that surely finished without error and met this one SLO.",
        "the lower bound of good requests with one SLO",
    ),
    Metric(
        "inferometer_slo_met_requests_upper_total",
        COUNTER,
        (WORKLOAD, MODEL, SLO, SLO_METHOD),
        "requests",
        "Requests that can at most have finished without error and met this one SLO.",
        "the upper bound of good requests with one SLO",
    ),
    Metric(
        "inferometer_good_tokens_total",
        COUNTER,
        (WORKLOAD, MODEL),
        "tokens",
        "Output tokens of good requests; exact sources only.",
        "Σ output tokens over requests that a trace judged good; moves with those that it judged",
    ),
    Metric(
        "inferometer_slo_tokens_total",
        COUNTER,
        (WORKLOAD, MODEL),
        "tokens",
        "Output tokens of requests that a trace judged, the denominator of token-weighted goodput.",
        "Σ output tokens over requests that a trace judged",
    ),
)
_GAUGES = (
    Metric(
        "inferometer_goodput_requests_per_second_lower",
        GAUGE,
        (WORKLOAD, WINDOW),
        "requests/s",
        "Good requests per second over the window, at least.",
        "Δ good_requests_lower ÷ window",
    ),
    Metric(
        "inferometer_goodput_requests_per_second_upper",
        GAUGE,
        (WORKLOAD, WINDOW),
        "requests/s",
        "Good requests per second over the window, at most.",
        "Δ good_requests_upper ÷ window",
    ),
    Metric(
        "inferometer_goodput_ratio_lower",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "Share of judged requests that were good, at least.",
        "Δ good_requests_lower ÷ Δ slo_requests",
    ),
    Metric(
        "inferometer_goodput_ratio_upper",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "Share of judged requests that were good, at most.",
        "Δ good_requests_upper ÷ Δ slo_requests",
    ),
    Metric(
        "inferometer_slo_requests_pending",
        GAUGE,
        (WORKLOAD,),
        "requests",
        "Requests that ended and wait for their stratum to end before they are judged.",
        "finished + rejected + vanished in open strata",
    ),
    Metric(
        "inferometer_slo_threshold_seconds",
        GAUGE,
        (WORKLOAD, SLO),
        "seconds",
        "Threshold of an SLO; a latency equal to it is met.",
        "from the configuration",
    ),
    Metric(
        "inferometer_slo_objective_ratio",
        GAUGE,
        (WORKLOAD,),
        "ratio",
        "Share of judged requests that ought to be good.",
        "from the configuration",
    ),
    Metric(
        "inferometer_slo_bucket_gap_seconds",
        GAUGE,
        (WORKLOAD, ENGINE, SLO),
        "seconds",
        "Width of the bucket that the threshold falls into; 0 when it is an edge and bounds are tightest.",
        "next edge - previous edge around the threshold",
    ),
    Metric(
        "inferometer_error_budget_remaining_ratio",
        GAUGE,
        (WORKLOAD,),
        "ratio",
        "Share of the error budget of the last 30 days that is left at most; below 0 when it is surely overspent.",
        "1 - (1 - good_requests_upper ÷ slo_requests) ÷ (1 - objective), over 30 days of the ledger's hours",
    ),
    Metric(
        "inferometer_burn_rate",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "How many times faster than allowed the error budget is surely being spent: only certainly bad requests count.",
        "(1 - Δ good_requests_upper ÷ Δ slo_requests) ÷ (1 - objective)",
    ),
    Metric(
        "inferometer_trace_coverage_ratio",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "Share of judged requests that a trace judged.",
        "Δ slo_requests{method=trace} ÷ Δ slo_requests",
    ),
    Metric(
        "inferometer_good_tokens_ratio",
        GAUGE,
        (WORKLOAD, WINDOW),
        "ratio",
        "Token-weighted goodput: share of the output tokens of traced requests that good ones made.",
        "Δ good_tokens ÷ Δ slo_tokens",
    ),
)

GOODPUT = Subject(
    "Service levels and goodput",
    "Bounds are taken per stratum, a stretch of at most 5 min that knows what was in flight at its edges, and added: "
    "F finished, A and B first tokens within and over the threshold, I in flight at the start, ok = F - failed.",
    (*_COUNTERS, *_GAUGES),
)
