"""Joules: every one that a counter shows once, to the workload and engine that hold the GPU."""

import pytest
from readings import Follower, gpus, no_page, page, watch

T = 1000.0
ALL = {"uuids": "ab"}


def joules(readings, *watches, engine=None, workload=None):
    """What is charged after these readings, each as the counters of some GPUs."""
    follower = Follower(*(watches or (watch("e", **ALL),)))
    for n, counters in enumerate(readings):
        follower.at(T + n, gpus(T + n, **counters), page(T + n, engine="e"), page(T + n, engine="f"))
    follower.finish(T + len(readings))
    return follower.total("joules", engine=engine, workload=workload)


@pytest.mark.parametrize(
    ("readings", "charged"),
    [
        pytest.param([{"a": 500}], 0, id="the first reading is the baseline"),
        pytest.param([{"a": 500}, {"a": 700}, {"a": 720}], 220, id="differences"),
        pytest.param([{"a": 500}, {"a": 30}, {"a": 50}], 50, id="a counter that fell was reset"),
        pytest.param([{"a": 500}, {"a": None}, {"a": 560}], 60, id="a reading without energy"),
        pytest.param([{"a": 500}, {}, {"a": 560}], 60, id="a GPU that is away for a while"),
        pytest.param([{"a": 500}, {"a": 510, "b": 900}, {"a": 511, "b": 930}], 41, id="a GPU that comes later"),
    ],
)
def test_joules_are_what_the_counters_gained(readings, charged):
    assert joules(readings) == charged


def test_a_driver_that_does_not_answer_is_no_reset():
    assert joules([{"a": 500}, {}, {}, {"a": 501}]) == 1


@pytest.mark.parametrize(("uuids", "charged"), [("", 0), ("a", 10), ("ab", 110)])
def test_a_workload_gets_the_joules_of_its_own_gpus(uuids, charged):
    assert joules([{"a": 0, "b": 0}, {"a": 10, "b": 100}], watch("e", uuids=uuids)) == charged


def test_workloads_that_share_a_gpu_get_their_shares_of_it():
    watches = [watch(e, workload=w, share=s, uuids="a") for e, w, s in (("e", "v", 0.25), ("f", "w", 0.75))]
    readings = [{"a": 0}, {"a": 100}]
    assert [joules(readings, *watches, workload=name) for name in "vw"] == [25, 75]


@pytest.mark.parametrize(
    ("held", "shares"), [((3, 1), (75, 25)), ((1, 1), (50, 50)), ((0, 0), (50, 50)), ((0, 2), (0, 100))]
)
def test_the_engines_of_a_workload_divide_its_joules_by_the_gpus_they_hold(held, shares):
    both = watch("e", "f", **ALL)
    engines = tuple(type(e)(e.engine, n) for e, n in zip(both.engines, held, strict=True))
    both = type(both)("w", engines, holds=both.holds)
    assert tuple(joules([{"a": 0}, {"a": 100}], both, engine=name) for name in "ef") == shares


def test_a_workload_without_engines_has_joules_all_the_same():
    assert joules([{"a": 0}, {"a": 100}], watch(**ALL)) == 100


def test_joules_wait_for_their_engine_while_it_is_down():
    follower = Follower(watch("e", **ALL), interval=5)
    follower.at(T, gpus(T, a=0), page(T))
    follower.at(T + 5, gpus(T + 5, a=100), no_page(T + 5))
    assert follower.total("joules") == 0
    follower.at(T + 11, gpus(T + 11, a=130), no_page(T + 11))
    assert follower.total("joules") == 130


def test_joules_that_wait_survive_the_agent():
    """Engine f is settled and committed while e, which shares the reading, is not yet."""
    both = watch("e", "f", **ALL)
    follower = Follower(both)
    follower.at(T, gpus(T, a=0), page(T), page(T, engine="f"))
    follower.at(T + 5, gpus(T + 5, a=100), page(T + 5, engine="f"))
    later = follower.restarted(both)
    later.at(T + 6, gpus(T + 6, a=110), page(T + 6), page(T + 6, engine="f"))
    assert (follower.total("joules"), later.total("joules")) == (50, 60)


def test_joules_of_the_agents_absence_come_from_the_counters():
    follower = Follower(watch("e", **ALL))
    follower.at(T, gpus(T, a=100), page(T, start=1))
    follower.at(T + 5, page(T + 5, start=1))
    later = follower.restarted(watch("e", **ALL))
    later.at(T + 9000, gpus(T + 9000, a=5100), page(T + 9000, start=1))
    assert later.total("joules") == 5000
