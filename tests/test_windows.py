"""Windows: what each sum grew by over the last minute, five minutes, hour."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics import Windows
from inferometer.model import Entry, Histogram

COST = ("inferometer_cost_total", ("w", "gpu", "busy"))


def fed(windows: Windows, times: list[float], amount: float = 1.0, workload: str = "w") -> None:
    """One entry of ``amount`` at each time."""
    for at in times:
        windows.post([Entry(workload, at, {(COST[0], (workload, *COST[1][1:])): amount})])
        windows.keep()


def grown(windows: Windows) -> dict[float, tuple[float, float]]:
    """By window: seconds covered and growth of the cost."""
    return {window: (seconds, change[COST]) for _, window, seconds, change in windows.changes()}


def test_each_window_covers_its_length() -> None:
    """With an entry a second, the growth over a window is its number of seconds."""
    windows = Windows((60.0, 300.0))
    fed(windows, [float(at) for at in range(1000)])
    assert grown(windows) == {60.0: (60.0, 60.0), 300.0: (pytest.approx(300.0, abs=5), pytest.approx(300.0, abs=5))}
    for seconds, amount in grown(windows).values():
        assert seconds == amount


def test_a_young_process_covers_what_it_has_seen() -> None:
    """The first entry is where a window begins: what it charged for lies before."""
    windows = Windows((3600.0,))
    fed(windows, [100.0])
    assert grown(windows) == {}
    fed(windows, [110.0, 120.0])
    assert grown(windows) == {3600.0: (20.0, 2.0)}


def test_a_window_forgets() -> None:
    """Growth that is older than the window is not in it."""
    windows = Windows((60.0,))
    fed(windows, [0.0, 1.0], amount=1000.0)
    fed(windows, [float(at) for at in range(2, 200)], amount=0.0)
    assert grown(windows)[60.0][1] == 0.0


def test_a_new_account_grew_from_zero() -> None:
    """An account that was opened inside the window has all of its amount as growth."""
    windows = Windows((60.0,))
    fed(windows, [0.0, 1.0])
    new = ("inferometer_cost_total", ("w", "training", "busy"))
    windows.post([Entry("w", 2.0, {new: 5.0})])
    windows.keep()
    ((_, _, _, change),) = windows.changes()
    assert change[new] == 5.0


def test_engines_are_added_up() -> None:
    """Ratios are a workload's: tokens of its engines are one sum, resets are nobody's ratio."""
    windows = Windows((60.0,))
    windows.post([Entry("w", 0.0)])
    windows.keep()
    for engine in ("a", "b"):
        tokens = ("inferometer_tokens_total", ("w", engine, "m", "output"))
        latency = {("inferometer_tpot_seconds", ("w", engine, "m")): Histogram((float("inf"),), (2.0,), 0.5)}
        windows.post([Entry("w", 10.0, {tokens: 7.0, ("inferometer_resets_total", (engine,)): 1.0}, latency)])
    ((workload, _, _, change),) = windows.changes()
    assert workload == "w"
    assert change == {
        ("inferometer_tokens_total", ("w", "m", "output")): 14.0,
        ("inferometer_tpot_seconds_sum", ("w", "m")): 1.0,
        ("inferometer_tpot_seconds_count", ("w", "m")): 4.0,
    }


def test_workloads_are_kept_apart() -> None:
    """One workload's silence does not stretch another's window."""
    windows = Windows((60.0,))
    fed(windows, [0.0, 10.0])
    fed(windows, [0.0, 50.0], workload="v")
    assert {workload: seconds for workload, _, seconds, _ in windows.changes()} == {"w": 10.0, "v": 50.0}


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=60))
def test_growth_and_seconds_are_of_the_same_stretch(gaps: list[int]) -> None:
    """Whatever the pace of the entries, a constant rate is found exactly, over at least the window once it is full."""
    windows, at = Windows((60.0, 600.0)), 0.0
    for gap in gaps:
        at += gap
        windows.post([Entry("w", at, {COST: 3.0 * gap})])
        windows.keep()
    for _, window, seconds, change in windows.changes():
        assert change[COST] == pytest.approx(3.0 * seconds, rel=1e-9)
        assert seconds >= min(window, at - gaps[0]) - window / 60


def test_an_engine_that_is_behind_does_not_turn_time_back() -> None:
    """Entries of one batch may end at different times; the window ends at the latest."""
    windows = Windows((60.0,))
    fed(windows, [0.0, 10.0, 9.5])
    assert grown(windows) == {60.0: (10.0, 2.0)}


def test_memory_is_bounded() -> None:
    """About sixty copies per window, however long it runs."""
    windows = Windows((60.0, 3600.0))
    fed(windows, [at / 2 for at in range(20_000)])
    assert max(len(past) for past in windows._past.values()) <= 63
