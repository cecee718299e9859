"""/api/v1/snapshot says what the accounts say, by label name, in valid JSON."""

from __future__ import annotations

import json
import math

import pytest
from inferometer.exposition.api import snapshot_json
from inferometer.model import EngineView, Gpu, Histogram, Snapshot, SourceView

INF = float("inf")
SNAPSHOT = Snapshot(
    1.8e9,
    totals={
        ("inferometer_cost_total", ("chat", "gpu", "busy")): 3.0,
        ("inferometer_cost_total", ("chat", "gpu", "idle")): 1.0,
        ("inferometer_cost_total", ("chat", "electricity", "busy")): 0.5,
        ("inferometer_tokens_total", ("chat", "e1", "m", "output")): 10.0,
        ("inferometer_tokens_total", ("chat", "e2", "m", "output")): 20.0,
        ("inferometer_slo_met_requests_lower_total", ("chat", "m", "ttft", "histogram")): 7.0,
        ("inferometer_slo_met_requests_lower_total", ("chat", "m", "e2e", "histogram")): 9.0,
        ("inferometer_resets_total", ("e1",)): 2.0,
    },
    histograms={("inferometer_ttft_seconds", ("chat", "e1", "m")): Histogram((0.5, INF), (1.0, 2.0), 3.0)},
    values={
        ("inferometer_cost_per_million_tokens", ("chat", "all", "allocation", "5m")): 0.38,
        ("inferometer_busy_ratio", ("chat", "5m")): 0.75,
        ("inferometer_slo_threshold_seconds", ("chat", "ttft")): 0.5,
        ("inferometer_price_missing", ("batch",)): 1.0,
        ("inferometer_unheard_of", ("chat",)): 1.0,
    },
    engines=(
        EngineView("chat", "e1", up=True, state="busy", gauges={("running", "m"): 2.0}, edges={"ttft": (0.5, INF)}),
    ),
    gpus=(Gpu("GPU-1", 0, "H100", power_watts=300.0),),
    sources=(SourceView("http://e1/metrics", up=True, errors={"http": 1}),),
    hints=("No price is configured.",),
    currency="EUR",
)


def strict(body):
    """Python reads NaN and Infinity, browsers do not."""

    def refuse(word):
        pytest.fail(f"{word} is not JSON")

    return json.loads(body, parse_constant=refuse)


def test_a_workload_has_its_counters_summed_by_each_closed_label():
    totals = strict(snapshot_json(SNAPSHOT))["workloads"]["chat"]["totals"]
    assert totals["cost"] == {
        "total": 4.5,
        "component": {"gpu": 4.0, "electricity": 0.5},
        "state": {"busy": 3.5, "idle": 1.0},
    }
    assert totals["tokens"] == {"total": 30.0, "type": {"output": 30.0}}


def test_what_overlaps_is_not_added_up():
    met = strict(snapshot_json(SNAPSHOT))["workloads"]["chat"]["totals"]["slo_met_requests_lower"]
    assert met == {"slo": {"ttft": 7.0, "e2e": 9.0}}


def test_a_workload_has_its_gauges_by_window():
    workloads = strict(snapshot_json(SNAPSHOT))["workloads"]
    assert workloads["chat"]["windows"] == {
        "5m": {"cost_per_million_tokens": {"all": {"allocation": 0.38}}, "busy_ratio": 0.75}
    }
    assert workloads["chat"]["now"] == {"slo_threshold_seconds": {"ttft": 0.5}}
    assert workloads["batch"] == {"totals": {}, "now": {"price_missing": 1.0}, "windows": {}}


def test_every_declared_series_is_listed_under_its_metric():
    metrics = strict(snapshot_json(SNAPSHOT))["metrics"]
    assert metrics["inferometer_resets_total"] == [{"labels": {"source": "e1"}, "value": 2.0}]
    assert metrics["inferometer_engine_requests"] == [
        {"labels": {"workload": "chat", "engine": "e1", "model": "m", "state": "running"}, "value": 2.0}
    ]
    assert metrics["inferometer_ttft_seconds"] == [
        {
            "labels": {"workload": "chat", "engine": "e1", "model": "m"},
            "count": 2.0,
            "sum": 3.0,
            "buckets": [["0.5", 1.0], ["+Inf", 2.0]],
        }
    ]
    assert "inferometer_unheard_of" not in metrics


def test_the_structured_parts_are_lists_for_people():
    body = strict(snapshot_json(SNAPSHOT))
    assert (body["wall"], body["currency"], body["hints"]) == (1.8e9, "EUR", ["No price is configured."])
    engine, gpu, source = body["engines"][0], body["gpus"][0], body["sources"][0]
    assert engine["gauges"] == [{"signal": "running", "model": "m", "value": 2.0}]
    assert engine["edges"] == {"ttft": ["0.5", "+Inf"]}
    assert (gpu["uuid"], gpu["power_watts"], gpu["energy_joules"]) == ("GPU-1", 300.0, None)
    assert source["errors"] == {"http": 1}


def test_the_series_can_be_left_out():
    assert "metrics" not in strict(snapshot_json(SNAPSHOT, metrics=False))


@pytest.mark.parametrize("value", [math.nan, INF, -INF])
def test_numbers_that_json_lacks_are_null(value):
    snapshot = Snapshot(
        0.0,
        totals={("inferometer_cost_total", ("chat", "gpu", "busy")): value},
        values={("inferometer_busy_ratio", ("chat", "5m")): value},
        gpus=(Gpu("GPU-1", 0, power_watts=value),),
    )
    body = strict(snapshot_json(snapshot))
    assert body["workloads"]["chat"]["windows"]["5m"]["busy_ratio"] is None
    assert body["workloads"]["chat"]["totals"]["cost"]["total"] is None
    assert body["metrics"]["inferometer_busy_ratio"][0]["value"] is None
    assert body["gpus"][0]["power_watts"] is None
