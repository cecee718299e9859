"""What an engine's time was: busy, idle, stalled or unknown; and what its requests and tokens became."""

import pytest
from readings import Follower, no_page, page

T = 1000.0
REST = (1.0, 2.0)


@pytest.mark.parametrize("name", ["prompt_tokens", "output_tokens", "finished_ok", "finished_error", "finished_aborted",
                                  "rejected"])  # fmt: skip
def test_time_is_busy_when_a_token_or_request_counter_moved(name):
    follower = Follower()
    follower.read(page(T, {name: 4}, start=1), page(T + 5, {name: 5}, start=1), page(T + 10, {name: 5}, start=1))
    assert (follower.seconds("busy"), follower.seconds("idle")) == (5, 5)


@pytest.mark.parametrize(("running", "busy"), [((0, 0), 0), ((1, 0), 5), ((0, 1), 5), ((1, 1), 5)])
def test_time_is_busy_when_requests_run_at_either_end(running, busy):
    follower = Follower()
    follower.read(*(page(T + 5 * n, running=r, start=1) for n, r in enumerate(running)))
    assert (follower.seconds("busy"), follower.seconds("idle")) == (busy, 5 - busy)


def test_other_counters_do_not_make_an_engine_busy():
    follower = Follower()
    quiet = {"prompt_tokens": 7, "http_ended": 1}
    follower.read(page(T, quiet, start=1), page(T + 5, quiet | {"http_ended": 9, "cached_tokens": 4}, start=1))
    assert follower.seconds("idle") == 5


@pytest.mark.parametrize(
    ("first", "stuck", "state"),
    [
        pytest.param({}, {"running": 1}, "stalled", id="it says that it runs"),
        pytest.param({}, {"waiting": 1}, "stalled", id="it says that requests wait"),
        pytest.param({"fds": 35}, {"fds": 64}, "stalled", id="connections pile up"),
        pytest.param({"fds": 35}, {"fds": 37}, "stalled", id="two more connections"),
        pytest.param({"fds": 35}, {"fds": 36}, "idle", id="one more file is no sign"),
        pytest.param({"fds": 35}, {"fds": 35}, "idle", id="an idle engine with steady files"),
        pytest.param({}, {"fds": 64}, "idle", id="no level at rest is known"),
        pytest.param({}, {}, "idle", id="nothing runs, nothing waits"),
    ],
)
def test_an_engine_that_shows_nothing_for_10_s_is_stalled_when_requests_pend(first, stuck, state):
    follower = Follower()
    follower.read(page(T, start=1, vital=REST, **first))
    before = follower.read(*(page(T + n, start=1, vital=REST, **stuck) for n in (3, 6, 9)))
    assert "stalled" not in {interval.state for interval in before}
    after = follower.read(*(page(T + n, start=1, vital=REST, **stuck) for n in (10, 12)))
    assert [interval.state for interval in after] == [state, state]


def test_the_level_of_open_files_at_rest_follows_the_engine():
    """Files that stay open while the engine works and rests are no pending requests; the level may fall as well."""
    follower = Follower()
    follower.read(page(T, start=1, fds=35, vital=(1,)), page(T + 5, start=1, fds=64, vital=(2,)))
    states = [i.state for i in follower.read(*(page(T + n, start=1, fds=64, vital=(2,)) for n in (10, 15, 20)))]
    assert states == ["idle"] * 3
    follower.read(page(T + 25, start=1, fds=40, vital=(2,)))
    assert follower.read(page(T + 30, start=1, fds=42, vital=(2,)))[0].state == "stalled"


def test_files_opened_while_requests_run_do_not_become_the_level_at_rest():
    follower = Follower()
    follower.read(page(T, start=1, fds=35, vital=(1,)), page(T + 5, start=1, fds=64, running=29, vital=(2,)))
    stuck = follower.read(*(page(T + n, start=1, fds=64, vital=(2,)) for n in (10, 15)))
    assert [interval.state for interval in stuck] == ["busy", "stalled"]


def test_one_moving_series_ends_a_stall():
    follower = Follower()
    follower.read(*(page(T + n, start=1, running=1, vital=REST) for n in (0, 10)))
    assert follower.given[-1].state == "stalled"
    assert follower.read(page(T + 15, start=1, running=1, vital=(1.0, 3.0)))[0].state == "busy"


def test_a_new_process_is_not_stalled_by_what_the_old_one_showed():
    follower = Follower()
    follower.read(*(page(T + n, start=1, fds=5, vital=REST) for n in (0, 10)))
    assert follower.read(page(T + 12, start=60, fds=99, waiting=1, vital=REST))[0].state != "stalled"


@pytest.mark.parametrize(("gap", "state"), [(10, "busy"), (10.1, "unknown")])
def test_time_between_readings_is_unknown_when_it_exceeds_two_intervals(gap, state):
    follower = Follower(interval=5)
    given = follower.read(page(T, start=1, running=1), page(T + gap, start=1, running=1))
    assert (given[-1].state, given[-1].seconds) == (state, pytest.approx(gap))


def test_an_engine_that_is_down_is_unknown_tick_by_tick_and_back_with_its_first_page():
    follower = Follower(interval=5)
    follower.read(page(T, start=1), no_page(T + 5), no_page(T + 10))
    assert follower.seconds() == 0  # two intervals may pass
    for at in (11, 15, 20):
        follower.at(T + at)
        assert follower.seconds("unknown") == at
    assert not follower.meter.views()[0].up
    follower.read(page(T + 22, start=1), page(T + 27, start=1))
    assert (follower.seconds("unknown"), follower.seconds("idle")) == (22, 5)
    assert follower.meter.views()[0].up


def test_every_outcome_has_its_name():
    follower = Follower()
    counters = {"prompt_tokens": 0, "finished_ok": 5, "finished_error": 3, "finished_aborted": 2, "rejected": 7}
    follower.read(page(T, start=1), page(T + 5, counters, seen={"ttft": [0.2] * 11}, start=1))
    names = ("ok", "error", "aborted", "rejected", "vanished")
    assert [follower.outcome(name) for name in names] == [5, 3, 2, 7, 1]


@pytest.mark.parametrize(
    ("pages", "tokens"),
    [
        pytest.param([(100, 30)], (70, 30), id="cached tokens are part of the prompt"),
        pytest.param([(0, 30), (100, 30)], (70, 30), id="cached tokens a page before their prompt"),
        pytest.param([(0, 30), (10, 30), (100, 45)], (55, 45), id="... over several pages"),
        pytest.param([(100, 0), (100, 30)], (100, 30), id="cached tokens after it were counted already"),
        pytest.param([(100, 0), (100, 30), (200, 30)], (170, 30), id="... and the next prompt makes up for them"),
    ],
)
def test_uncached_input_is_the_prompt_without_the_cached_tokens(pages, tokens):
    follower = Follower()
    counters = [{"prompt_tokens": 0}, *({"prompt_tokens": prompt, "cached_tokens": c} for prompt, c in pages)]
    follower.read(*(page(T + 5 * n, c, start=1) for n, c in enumerate(counters)))
    assert (follower.tokens("input_uncached"), follower.tokens("input_cached")) == tokens


def test_where_the_prompt_counter_leaves_cached_tokens_out_they_are_not_subtracted():
    follower = Follower()
    counters = {"prompt_tokens": 100, "cached_tokens": 30, "output_tokens": 8, "reasoning_tokens": 5}
    follower.read(*(page(T + n, c, start=1, cached_in_prompt=False) for n, c in enumerate(({}, counters))))
    assert [follower.tokens(kind) for kind in ("input_uncached", "input_cached", "output")] == [100, 30, 8]
    assert sum(change.reasoning for change in follower.changes()) == 5
