"""Tokens and requests."""

from __future__ import annotations

from inferometer.exposition.labels import ENGINE, MODEL, OUTCOME, REQUEST_TOKENS, TENANT, TOKEN_TYPE, WINDOW, WORKLOAD
from inferometer.exposition.metric import COUNTER, GAUGE, HISTOGRAM, Metric, Subject

WORK = Subject(
    "Tokens and requests",
    "What the engines did, by their own counters. Token types are disjoint and so are outcomes.",
    (
        Metric(
            "inferometer_tokens_total",
            COUNTER,
            (WORKLOAD, ENGINE, MODEL, TOKEN_TYPE),
            "tokens",
            "Tokens processed, by type.",
            "increase of the engine's token counters; input_uncached = prompt - cached",
        ),
        Metric(
            "inferometer_reasoning_tokens_total",
            COUNTER,
            (WORKLOAD, ENGINE, MODEL),
            "tokens",
            "Output tokens spent on reasoning, a subset of the output tokens.",
            "increase of the engine's reasoning token counter",
        ),
        Metric(
            "inferometer_wasted_tokens_total",
            COUNTER,
            (WORKLOAD, ENGINE, MODEL),
            "tokens",
            "Output tokens of requests that nobody received, a subset of the output tokens and a lower bound.",
            "output - output in finished requests - output still in flight",
        ),
        Metric(
            "inferometer_tenant_tokens_total",
            COUNTER,
            (WORKLOAD, TENANT, TOKEN_TYPE),
            "tokens",
            "Tokens by who asked for them, where a gateway says so and its engine's key `tenant` is set.",
            "increase of the engine's token counters by one of its labels; beyond the allow-list and the limit: other",
        ),
        Metric(
            "inferometer_requests_total",
            COUNTER,
            (WORKLOAD, ENGINE, MODEL, OUTCOME),
            "requests",
            "Requests that ended, by outcome.",
            "increase of the engine's finish counters; vanished = what no outcome counter explains",
        ),
        Metric(
            "inferometer_request_tokens",
            HISTOGRAM,
            (WORKLOAD, MODEL, REQUEST_TOKENS),
            "tokens",
            "Tokens of one request, from traces.",
            "one observation of each per span that tells them",
        ),
        Metric(
            "inferometer_request_cost",
            HISTOGRAM,
            (WORKLOAD, MODEL),
            "money/request",
            "Money that the tokens of one request cost, from traces.",
            "Σ over types price * tokens; the price is that of about the engine's last ten busy minutes: "
            "busy GPU time without metered power and training, split like the bill",
            money=True,
        ),
        Metric(
            "inferometer_tokens_per_second",
            GAUGE,
            (WORKLOAD, TOKEN_TYPE, WINDOW),
            "tokens/s",
            "Token throughput over the window, by type.",
            "Δ tokens ÷ window",
        ),
        Metric(
            "inferometer_tokens_per_second_per_request",
            GAUGE,
            (WORKLOAD, WINDOW),
            "tokens/s",
            "Output speed that one request sees (interactivity) over the window.",
            "1 ÷ mean TPOT = Δ TPOT count ÷ Δ TPOT sum",
        ),
    ),
)
