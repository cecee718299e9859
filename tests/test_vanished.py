"""Clients that left and tokens that nobody got: what no counter says (design: vanished; tokens: wasted)."""

import pytest
from inferometer.interval.vanished import Floor
from readings import Follower, page

T = 1000.0


@pytest.mark.parametrize(
    ("readings", "certain"),
    [
        pytest.param([(0, 3, True)], 3, id="at rest it counts as it stands"),
        pytest.param([(0, 3, True), (5, 7, True), (10, 2, True)], 7, id="the largest at rest"),
        pytest.param([(0, 3, False)], 0, id="under load one reading proves nothing"),
        pytest.param([(0, 9, False), (15, 8, False), (29, 8, False)], 0, id="nor do 29 s"),
        pytest.param([(0, 9, False), (15, 5, False), (30, 8, False)], 5, id="the smallest of 30 s"),
        pytest.param([(t, 1 if t == 5 else 9, False) for t in range(36)], 1, id="a dip counts for 30 s"),
        pytest.param([(t, 1 if t == 5 else 9, False) for t in range(38)], 9, id="and then no more"),
        pytest.param([(0, 9, True), (5, 0, False), (40, 0, False)], 9, id="it never falls"),
        pytest.param([(0, 9, False), (600, 4, False)], 4, id="between distant readings the smaller one"),
        pytest.param([(0, -4, True)], 0, id="never below zero"),
    ],
)
def test_a_floor_is_what_the_difference_certainly_has_reached(readings, certain):
    floor = Floor()
    for at, difference, at_rest in readings:
        floor.see(T + at, difference, at_rest=at_rest)
    assert floor.certain == certain


def test_a_floor_remembers_no_more_than_its_30_seconds():
    floor = Floor()
    for at in range(1000):
        floor.see(T + at, 1, at_rest=False)
    assert len(floor.recent) <= 32


def shown(at, first_tokens=0, finished=0, *, calls=None, parents=0, rejected=0, more=None, **rest):
    """A page with so many first tokens, finished requests, HTTP calls that ended and parents that finished."""
    counters = {"finished_ok": finished, "parents_finished": parents, "rejected": rejected} | (more or {})
    counters["http_ended"] = parents + rejected if calls is None else calls
    return page(T + at, counters, seen={"ttft": [0.2] * first_tokens}, start=rest.pop("start", 1), **rest)


@pytest.mark.parametrize(
    ("pages", "vanished"),
    [
        pytest.param([shown(5, 40, 4)], 36, id="36 of 40 left after their first token"),
        pytest.param([shown(5, 40, 4, running=36)], 0, id="they may be running"),
        pytest.param([shown(5, 40, 4, running=30), shown(20, 40, 4, running=30)], 0, id="under load, 15 s"),
        pytest.param([shown(t, 40, 4, running=30) for t in (5, 20, 35)], 6, id="under load, 30 s"),
        pytest.param([shown(5, 40, 4), shown(10, 41, 41)], 36, id="what is posted stays"),
        pytest.param([shown(5, 40, 4), shown(10, 45, 7)], 38, id="and grows"),
        pytest.param([shown(5, calls=9, parents=4)], 5, id="calls that ended without a finished request"),
        pytest.param([shown(5, calls=9, parents=4, waiting=1)], 0, id="not while one waits"),
        pytest.param([shown(5, calls=9, parents=4, rejected=3)], 2, id="rejected calls did not vanish"),
        pytest.param([shown(5, 8, 4, calls=9, parents=3)], 6, id="the larger of both"),
        pytest.param([shown(5, 3, 3, calls=1, parents=3)], 0, id="n=3 is one call"),
        pytest.param([shown(5, calls=9, more={"parents_finished": 4, ("finished_ok", "other"): 0})], 0,
                     id="calls do not say for which of several models"),
    ],
)  # fmt: skip
def test_vanished_requests_are_what_the_counters_leave_over(pages, vanished):
    follower = Follower()
    follower.read(shown(0), *pages)
    assert follower.outcome("vanished", "m") == vanished
    assert follower.outcome("ok", "m") == pages[-1].counters[next(iter(pages[-1].counters))]


def test_with_several_models_first_tokens_tell_whose_clients_left():
    follower = Follower()
    counters = {("finished_ok", "a"): 2, ("finished_ok", "b"): 5}
    seen = {("ttft", "a"): [0.2] * 5, ("ttft", "b"): [0.2] * 6}
    follower.read(page(T, counters, start=1), page(T + 5, counters, seen=seen, start=1))
    assert (follower.outcome("vanished", "a"), follower.outcome("vanished", "b")) == (3, 1)


def test_calls_say_nothing_where_the_page_does_not_count_finished_parents():
    follower = Follower()
    follower.read(*(page(T + n, {"finished_ok": 9 * n, "http_ended": 9 * n}, start=1) for n in range(3)))
    assert follower.outcome("vanished") == 0


def test_who_left_before_the_first_reading_is_not_counted():
    follower = Follower()
    follower.read(shown(0, 40, 4), shown(5, 40, 4), shown(10, 43, 5))
    assert follower.outcome("vanished") == 2


def test_a_new_process_has_its_own_vanished_requests():
    follower = Follower()
    follower.read(shown(0), shown(5, 40, 4), shown(10, 3, 1, start=60), shown(15, 9, 4, start=60))
    assert follower.outcome("vanished") == 36 + 5


# -- wasted tokens


def told(at, output, finished_output, *, first_tokens=0, finished=0, **rest):
    counters = {"output_tokens": output, "finished_output_tokens": finished_output, "finished_ok": finished}
    return page(T + at, counters, seen={"ttft": [0.2] * first_tokens}, start=rest.pop("start", 1), **rest)


@pytest.mark.parametrize(
    ("pages", "wasted"),
    [
        pytest.param([told(5, 100, 60)], 40, id="at rest, output that no finished request has"),
        pytest.param([told(5, 100, 60, running=1)], 0, id="it may still be delivered"),
        pytest.param([told(5, 100, 60, waiting=1)], 0, id="... or wait for its turn again"),
        pytest.param([told(5, 100, 60, running=1), told(10, 130, 110)], 20, id="counted at the next rest"),
        pytest.param([told(5, 100, 60), told(10, 150, 100), told(15, 150, 100)], 50, id="counted once"),
        pytest.param([told(5, 100, 60), told(10, 100, 90)], 40, id="it never falls"),
        pytest.param([told(5, 100, 60, running=2), told(10, 0, 0, start=60)], 40, id="a dead process delivers no more"),
        pytest.param([told(5, 100, 60, running=2), told(10, 9, 2, start=60)], 47, id="... and the next one wastes too"),
        pytest.param([told(5, 100, 60, running=2), told(10, 9, 2, start=60, running=1)], 40, id="... unless it runs"),
    ],
)  # fmt: skip
def test_wasted_tokens_are_a_lower_bound(pages, wasted):
    follower = Follower()
    follower.read(told(0, 0, 0), *pages)
    assert follower.wasted() == wasted


def test_another_process_behind_the_same_address_is_no_death():
    follower = Follower()
    follower.read(told(0, 0, 0, start=60), told(5, 9, 9, start=1), told(10, 50, 9, running=2, start=1))
    follower.read(told(15, 100, 100, start=60))
    assert follower.wasted() == 0


@pytest.mark.parametrize(("running", "wasted"), [(0, 25), (1, 0)])
def test_what_was_wasted_before_the_first_rest_is_not_known(running, wasted):
    follower = Follower()
    follower.read(told(0, 100, 60, running=running), told(5, 165, 100))
    assert follower.wasted() == wasted


def test_without_output_by_request_nothing_is_called_wasted():
    follower = Follower()
    follower.read(page(T, {"output_tokens": 0}, start=1), page(T + 5, {"output_tokens": 100}, start=1))
    assert follower.wasted() == 0
