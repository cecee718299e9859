"""The last hour: its points, its bounds, and what a clock or a workload that leaves does to it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from inferometer.exposition import history
from inferometer.exposition.board import GPU_COLUMNS, WORKLOAD_COLUMNS
from inferometer.exposition.events import MOST_CLIENTS
from inferometer.exposition.history import EVERY_SECONDS, POINTS, History

START = 1.8e9


def made(columns=("a", "b")):
    return History({"workloads": columns, "gpus": ("power_watts",)})


def body(ring, since=0.0):
    return json.loads(ring.body(since))


def test_an_empty_hour_has_no_points():
    assert body(made()) == {"every_seconds": 15, "points": 240, "at": [], "workloads": {}, "gpus": {}}


def test_points_come_back_as_they_went_in():
    """A value that is not there is null, and a row that came later has nulls before it."""
    ring = made()
    ring.add(START, {"workloads": {"chat": {"a": 1.5, "b": None, "other": 3}}, "gpus": {}})
    ring.add(START + 15, {"workloads": {"chat": {"a": 2}, "batch": {"b": 4}}, "gpus": {"G": {"power_watts": 70}}})
    found = body(ring)
    assert found["at"] == [START, START + 15]
    assert found["workloads"] == {
        "chat": {"a": [1.5, 2], "b": [None, None]},
        "batch": {"a": [None, None], "b": [None, 4]},
    }
    assert found["gpus"] == {"G": {"power_watts": [None, 70]}}
    assert body(ring, START)["workloads"]["chat"]["a"] == [2]


def test_a_point_is_due_every_fifteen_seconds():
    ring = made()
    assert ring.due(START)
    ring.add(START, {})
    assert not ring.due(START + EVERY_SECONDS - 0.1)
    assert ring.due(START + EVERY_SECONDS)
    assert ring.due(START - 1), "a clock that was set back must not stop the hour until it has caught up"


def test_the_hour_goes_round():
    """The newest 240 points are kept, in order, and no value of the round before shines through."""
    ring = made()
    for n in range(POINTS + 7):
        ring.add(START + 15 * n, {"workloads": {"chat": {"a": float(n)} if n % 2 else {}}})
    found = body(ring)
    assert found["at"] == [START + 15 * n for n in range(7, POINTS + 7)]
    assert found["workloads"]["chat"]["a"] == [float(n) if n % 2 else None for n in range(7, POINTS + 7)]
    assert ring.until == START + 15 * (POINTS + 6)


def test_a_clock_set_back_starts_the_hour_anew():
    ring = made()
    ring.add(START, {"workloads": {"chat": {"a": 1.0}}})
    ring.add(START - 3600, {"workloads": {"chat": {"a": 2.0}}})
    assert body(ring)["at"] == [START - 3600]
    assert body(ring)["workloads"]["chat"]["a"] == [2.0]


def test_rows_that_are_gone_leave_after_an_hour():
    ring = made()
    ring.add(START, {"workloads": {"gone": {"a": 1.0}, "stays": {"a": 1.0}}})
    for n in range(1, POINTS):
        ring.add(START + 15 * n, {"workloads": {"stays": {"a": 1.0}}})
    assert body(ring)["workloads"]["gone"]["a"] == [1.0] + [None] * (POINTS - 1)
    ring.add(START + 15 * POINTS, {"workloads": {"stays": {"a": 1.0}}})
    assert set(body(ring)["workloads"]) == {"stays"}


def test_memory_is_bounded(monkeypatch):
    """Rows beyond the limit are left out, and a row takes 8 bytes a point and column, with little around."""
    monkeypatch.setattr(history, "MOST_ROWS", 3)
    ring = made(tuple("abcdefgh"))
    for n in range(2):
        ring.add(START + 15 * n, {"workloads": {f"w{k}": {"a": 1.0} for k in range(10)}})
    assert set(body(ring)["workloads"]) == {"w0", "w1", "w2"}
    rings = ring._tables["workloads"].rows["w0"].rings.values()
    assert sum(map(sys.getsizeof, rings)) < 8 * POINTS * 8 + 8 * 100


def test_the_readme_states_the_bounds():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    per_workload, per_gpu = (math.ceil(8 * POINTS * len(columns) / 1000) for columns in (WORKLOAD_COLUMNS, GPU_COLUMNS))
    assert f"at most {MOST_CLIENTS} clients" in readme
    assert f"{POINTS} points in memory, {per_workload} kB a workload and {per_gpu} kB a GPU" in readme
    assert f"at most {history.MOST_ROWS} of each" in readme
