"""The agent itself."""

from __future__ import annotations

from inferometer.exposition.labels import LIMIT, REASON, REFUSAL, SERVER, SOURCE, SPAN_OUTCOME, VERSION
from inferometer.exposition.metric import COUNTER, GAUGE, INFO, Metric, Subject

AGENT = Subject(
    "The agent itself",
    "How its sources are doing and how it is doing; `process_*` has the usual meaning of Prometheus clients.",
    (
        Metric(
            "inferometer_source_up",
            GAUGE,
            (SOURCE,),
            "",
            "1 when the newest reading of the source succeeded.",
            "from the newest reading; source = scheme, host and path",
        ),
        Metric(
            "inferometer_source_read_seconds",
            GAUGE,
            (SOURCE,),
            "seconds",
            "How long the newest reading took.",
            "measured",
        ),
        Metric(
            "inferometer_source_last_success_timestamp_seconds",
            GAUGE,
            (SOURCE,),
            "seconds",
            "Unix time of the newest reading that succeeded.",
            "measured",
        ),
        Metric(
            "inferometer_source_errors_total",
            COUNTER,
            (SOURCE, REASON),
            "errors",
            "Readings that failed, by reason.",
            "counted",
        ),
        Metric(
            "inferometer_resets_total",
            COUNTER,
            (SOURCE,),
            "resets",
            "Counter resets seen, one per restart of an engine or reload of a driver.",
            "counted",
        ),
        Metric(
            "inferometer_spans_total",
            COUNTER,
            (SPAN_OUTCOME,),
            "spans",
            "Trace spans received, by what became of them.",
            "counted since the start; accepted and skewed ones are requests, each once",
        ),
        Metric(
            "inferometer_config_last_reload_successful",
            GAUGE,
            (),
            "",
            "1 when the newest configuration was accepted, 0 while an older one runs in its place.",
            "from the newest reload",
        ),
        Metric(
            "inferometer_series_dropped_total",
            COUNTER,
            (LIMIT,),
            "series",
            "Series, GPUs and pods left out because a limit of the configuration was reached, at each reading.",
            "counted at every reading that had to leave some out; limit = the key under `limits`",
        ),
        Metric(
            "inferometer_http_connections",
            GAUGE,
            (SERVER,),
            "connections",
            "Connections that are open: to the agent's own pages, and from exporters of OTLP over HTTP.",
            "counted",
        ),
        Metric(
            "inferometer_http_connections_refused_total",
            COUNTER,
            (SERVER, REFUSAL),
            "connections",
            "Connections that were ended or refused because they held up others.",
            "counted since the start; none that only rested between two requests",
        ),
        Metric(
            "inferometer_event_loop_lag_seconds",
            GAUGE,
            (),
            "seconds",
            "How late the agent's newest tick came.",
            "tick seen - tick due",
        ),
        Metric(
            "inferometer_build_info",
            INFO,
            (VERSION,),
            "",
            "Version of the agent.",
            "constant 1",
        ),
    ),
)
