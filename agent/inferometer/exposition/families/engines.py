"""Engines, in the same words whatever the engine."""

from __future__ import annotations

from inferometer.exposition.labels import ENGINE, KIND, MODEL, QUEUE_STATE, SIGNAL, STATE, VERSION, WORKLOAD
from inferometer.exposition.metric import GAUGE, HISTOGRAM, INFO, Metric, Subject

ENGINES = Subject(
    "Engines",
    "What an engine's page says now, engine-neutral; gauges of an engine that is down have no samples. "
    "The histograms keep the engine's own buckets; a changed layout starts the series again at zero.",
    (
        Metric(
            "inferometer_engine_up",
            GAUGE,
            (WORKLOAD, ENGINE),
            "",
            "1 when the newest page of the engine was read whole.",
            "from the newest reading",
        ),
        Metric(
            "inferometer_engine_state",
            GAUGE,
            (WORKLOAD, ENGINE, STATE),
            "",
            "1 for the state that the engine is in, 0 for the others.",
            "busy: tokens moved or requests run; stalled: requests wait and nothing moves for 10 s",
        ),
        Metric(
            "inferometer_engine_requests",
            GAUGE,
            (WORKLOAD, ENGINE, MODEL, QUEUE_STATE),
            "requests",
            "Requests in the engine, by whether they run or wait.",
            "the engine's own gauges",
        ),
        Metric(
            "inferometer_engine_kv_cache_ratio",
            GAUGE,
            (WORKLOAD, ENGINE, MODEL),
            "ratio",
            "Share of the KV cache in use.",
            "the engine's own gauge",
        ),
        Metric(
            "inferometer_engine_info",
            INFO,
            (WORKLOAD, ENGINE, KIND, VERSION),
            "",
            "What kind of engine it is, and its version where it says so.",
            "recognised from the page; constant 1",
        ),
        Metric(
            "inferometer_signal_missing",
            GAUGE,
            (WORKLOAD, ENGINE, SIGNAL),
            "",
            "1 for a signal that the engine's page ought to have and has not.",
            "from the newest reading",
        ),
        Metric(
            "inferometer_ttft_seconds",
            HISTOGRAM,
            (WORKLOAD, ENGINE, MODEL),
            "seconds",
            "Time to first token from arrival, queue included.",
            "the engine's own buckets; where its spans come, their exact values with the SLO's limit among the edges",
        ),
        Metric(
            "inferometer_tpot_seconds",
            HISTOGRAM,
            (WORKLOAD, ENGINE, MODEL),
            "seconds",
            "Time per output token after the first.",
            "(E2E - TTFT) ÷ (output tokens - 1), the engine's own buckets",
        ),
        Metric(
            "inferometer_e2e_seconds",
            HISTOGRAM,
            (WORKLOAD, ENGINE, MODEL),
            "seconds",
            "Time of the whole request.",
            "the engine's own buckets; where its spans come, their exact values with the SLO's limit among the edges",
        ),
    ),
)
