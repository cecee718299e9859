"""The board: the numbers of /metrics in the words of people, money per hour, and how each was made."""

from __future__ import annotations

import json

import pytest
from inferometer.exposition.board import board, columns, encode, windows
from inferometer.exposition.feed import Feed
from inferometer.exposition.provenance import provenance
from inferometer.exposition.spending import Spending
from inferometer.model import EngineView, Gpu, Snapshot

START = 1.8e9
COST, SETTLED = "inferometer_cost_total", "inferometer_settled_until_timestamp_seconds"


def gauge(name, *labels):
    return (f"inferometer_{name}", ("chat", *labels))


def snapshot(at=0.0, busy=0.0, idle=0.0, **more):
    values = {
        gauge("tokens_per_second", "output", "5m"): 20.0,
        gauge("tokens_per_second", "output", "1m"): 30.0,
        gauge("tokens_per_second", "input_cached", "1m"): 12.0,
        gauge("cost_per_million_tokens", "all", "allocation", "1m"): 0.5,
        gauge("cost_per_million_tokens", "all", "usage", "1m"): 0.4,
        gauge("energy_per_token_joules", "all", "gpu", "1m"): 0.2,
        gauge("energy_per_token_joules", "all", "facility", "1m"): 0.3,
        gauge("gpu_hourly_price"): 2.5,
        gauge("gpu_share_ratio", "GPU-1", "", "exclusive"): 1.0,
        (SETTLED, ("chat",)): START + at,
        **more.pop("values", {}),
    }
    totals = {
        (COST, ("chat", "gpu", "busy")): busy,
        (COST, ("chat", "gpu", "idle")): idle,
        **more.pop("totals", {}),
    }
    engines = more.pop("engines", (EngineView("chat", "e:1", up=True, kind="vllm"),))
    return Snapshot(START + at, totals=totals, values=values, engines=engines, **more)


def made(*snapshots):
    spending = Spending()
    for one in snapshots:
        spending.see(one, windows(one))
    return json.loads(encode(board(snapshots[-1], spending, 5.0)))


def test_windows_stand_from_short_to_long():
    assert windows(snapshot()) == {"1m": 60.0, "5m": 300.0}


def test_numbers_are_those_of_the_gauges():
    """The whole bill, not its busy part; the GPUs, not the facility; all types of tokens; no zero for nothing."""
    (row,) = made(snapshot())["workloads"]
    assert row["windows"]["1m"] == {"tokens_per_second": 42.0, "cost_per_million_all": 0.5, "joules_per_token": 0.2}
    assert row["windows"]["5m"] == {"tokens_per_second": 20.0}
    assert row["engines"] == [{"name": "e:1", "up": True, "state": "unknown", "kind": "vllm"}]


def test_money_per_hour_is_what_the_cost_counter_grew_by():
    """Also where no token moved, so that idle money shows; over settled time, not over the time since the last look."""
    one = made(snapshot(0, 10.0, 5.0), snapshot(60, 10.0, 5.0), snapshot(120, 10.3, 5.2))["workloads"][0]["windows"]
    assert one["1m"]["money_per_hour"] == pytest.approx(0.5 * 60)
    assert one["1m"]["idle_ratio"] == pytest.approx(0.4)
    assert one["5m"]["money_per_hour"] == pytest.approx(0.5 * 30)


def test_no_money_is_not_a_rate():
    """Nothing before a second look, no idle share of nothing, nothing after a step back."""
    assert "money_per_hour" not in made(snapshot(0, 1.0))["workloads"][0]["windows"]["1m"]
    still = made(snapshot(0, 1.0), snapshot(30, 1.0))["workloads"][0]["windows"]["1m"]
    assert still["money_per_hour"] == 0
    assert "idle_ratio" not in still
    fallen = made(snapshot(0, 9.0), snapshot(30, 1.0))["workloads"][0]["windows"]["1m"]
    assert "money_per_hour" not in fallen


def test_gpus_show_their_best_activity_and_who_holds_them():
    gpus = (
        Gpu("GPU-1", 0, "H100", power_watts=300.0, utilization_ratio=1.0, sm_active_ratio=0.4),
        Gpu("GPU-2", 1, "H100", up=False, power_watts=300.0, utilization_ratio=1.0),
    )
    first, second = made(snapshot(gpus=gpus))["gpus"]
    assert (first["power_watts"], first["activity_ratio"], first["workloads"]) == (300.0, 0.4, ["chat"])
    assert "multiprocessor" in first["activity_of"]
    assert (second["power_watts"], second["activity_ratio"], second["workloads"]) == (None, None, [])


JOULES = "inferometer_energy_joules_total"
JUDGED = ("inferometer_slo_requests_total", ("chat", "m", "histogram"))
OBJECTIVE = {gauge("slo_objective_ratio"): 0.95}
HOW = [
    ("cost", {}, None, "measured", "seen on 1 GPU,"),
    ("cost", {"values": {gauge("price_missing"): 1.0}}, None, "missing", "--price.gpu-hour 2.50"),
    ("joules", {}, None, "missing", "no GPU of this workload"),
    ("joules", {"totals": {(JOULES, ("chat", "gpu", "active", "counter")): 5.0}}, 1.0, "measured", "energy counters"),
    ("joules", {"totals": {(JOULES, ("chat", "gpu", "active", "samples")): 5.0}}, 1.0, "measured", "samples"),
    ("joules", {"totals": {(JOULES, ("chat", "gpu", "active", "counter")): 5.0}}, 0.5, "estimated", "for 50% of"),
    ("goodput", {}, None, "missing", "--slo.ttft 500ms"),
    ("goodput", {"values": OBJECTIVE, "totals": {JUDGED: 4.0}}, None, "bounded", "the truth is in the band"),
    ("goodput", {"values": OBJECTIVE}, None, "bounded", "No stretch of requests has ended yet"),
    (
        "goodput",
        {"values": OBJECTIVE, "totals": {(JUDGED[0], ("chat", "m", "trace")): 4.0}},
        None,
        "measured",
        "its own trace",
    ),
    ("tokens", {}, None, "measured", "by the engines themselves"),
]


def known(one):
    return {**one.values, **one.totals}


@pytest.mark.parametrize(("number", "more", "coverage", "how", "why"), HOW)
def test_every_number_says_how_it_was_made(number, more, coverage, how, why):
    found = provenance(known(snapshot(**more)), "USD", coverage)[number]
    assert found.how == how
    assert why in found.why


def test_money_for_gpus_that_nobody_saw_is_assumed():
    unseen = {account: value for account, value in known(snapshot()).items() if "share" not in account[0]}
    assert provenance(unseen, "USD", None)["cost"].how == "assumed"


def test_the_history_takes_the_shortest_window():
    found = columns(made(snapshot(gpus=(Gpu("GPU-1", 0, power_watts=7.0),))))
    assert found["workloads"]["chat"]["cost_per_million_all"] == 0.5
    assert found["gpus"]["GPU-1"]["power_watts"] == 7.0


def test_the_feed_takes_a_point_when_it_is_due_and_looks_once_a_second():
    feed = Feed()
    for at in (0.0, 0.1, 1.0, 4.9, 5.95, 6.0, 20.0, 21.0, 22.0):
        feed.publish(snapshot(at))
    assert json.loads(feed.history(0))["at"] == [START + 5.95, START + 21], "not before there was time for a ratio"
    assert json.loads(feed.board(snapshot(22), 5.0))["history_until"] == START + 21


def test_a_snapshot_without_windows_is_no_point():
    """Before the first interval is settled there is nothing to draw."""
    feed = Feed()
    feed.publish(Snapshot(START))
    assert json.loads(feed.history(0))["at"] == []
    assert json.loads(feed.board(Snapshot(START), 5.0))["windows"] == []
