"""What counts: first readings, restarts, and series that fall, come or go (design: first reading, restart)."""

from itertools import accumulate

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.interval.marks import Marks
from inferometer.model import Histogram, Shape
from readings import EDGES, INF, Follower, no_page, observed, page

T = 1000.0  # the agent begins to watch
SEEN = {"prompt_tokens": 70, "finished_ok": 3}


@pytest.mark.parametrize(
    ("before", "rest", "counted"),
    [
        pytest.param([], {"start": T - 1}, 0, id="an older process is the baseline"),
        pytest.param([], {"start": T}, 70, id="a process as old as the watch counts from zero"),
        pytest.param([], {"start": T + 3}, 70, id="a younger process counts from zero"),
        pytest.param([], {"created": T - 1}, 0, id="older by _created"),
        pytest.param([], {"created": T + 3}, 70, id="younger by _created"),
        pytest.param([], {"start": T - 1, "created": T + 3}, 0, id="the start time has the first word"),
        pytest.param([], {}, 0, id="nothing tells the age: baseline"),
        pytest.param(["refused"], {}, 70, id="it refused before: it cannot have served"),
        pytest.param(["refused", "timeout"], {}, 70, id="it refused, then did not answer while it loaded"),
        pytest.param(["timeout"], {}, 0, id="no answer proves nothing"),
        pytest.param(["refused"], {"start": T - 1}, 0, id="a known start time outweighs the refusal"),
        pytest.param(["truncated"], {"start": T - 1}, 0, id="half a page is no reading"),
    ],
)
def test_the_first_complete_page_counts_only_for_a_process_younger_than_the_watch(before, rest, counted):
    follower = Follower()
    follower.at(T)
    follower.read(*(no_page(T + 1 + n, error) for n, error in enumerate(before)), page(T + 10, SEEN, **rest))
    assert follower.tokens("input_uncached") == counted
    assert follower.outcome("ok") == (3 if counted else 0)
    assert follower.total("resets") == 0


def test_the_age_of_a_process_is_compared_on_the_wall_clock():
    follower = Follower(ahead=1e9)
    follower.at(T)
    follower.read(page(T + 10, SEEN, start=1e9 + T + 5))
    assert follower.tokens() == 70


def test_half_a_page_between_two_whole_ones_changes_nothing():
    follower = Follower()
    follower.read(page(T, SEEN, start=1), no_page(T + 1, "truncated"), page(T + 2, {"prompt_tokens": 75}, start=1))
    assert follower.tokens() == 5


@pytest.mark.parametrize("name", ["output_tokens", ("output_tokens", "other"), ("prompt_tokens", "m", "lora")])
def test_a_new_series_on_a_known_process_counts_from_zero(name):
    follower = Follower()
    follower.read(page(T, SEEN, start=1), page(T + 5, SEEN | {name: 12}, start=1))
    assert follower.tokens() == 12


@pytest.mark.parametrize(("back_at", "counted"), [(70, 0), (80, 10), (8, 8)])
def test_a_series_that_leaves_the_page_and_returns_goes_on_from_where_it_was(back_at, counted):
    follower = Follower()
    rest = {"finished_ok": 3}
    pages = (SEEN, rest, rest, SEEN | {"prompt_tokens": back_at})
    follower.read(*(page(T + n, counters, start=1) for n, counters in enumerate(pages)))
    assert follower.tokens() == counted


OLD, NEW = {"prompt_tokens": 70, "output_tokens": 9}, {"prompt_tokens": 6, "output_tokens": 11}


@pytest.mark.parametrize(
    ("before", "after", "new", "counted", "resets"),
    [
        pytest.param({"start": 1}, {"start": 60}, NEW, 17, 1, id="the start time rose"),
        pytest.param({"start": 1}, {"start": 60}, {"prompt_tokens": 500}, 500, 1, id="though nothing fell"),
        pytest.param({"start": 1}, {"start": 1.9}, NEW, 6 + 2, 0, id="a start time may jitter"),
        pytest.param({"start": 1}, {"start": 1}, NEW, 6 + 2, 0, id="same process: what falls is reset alone"),
        pytest.param({"created": 1}, {"created": 60}, NEW, 17, 1, id="_created rose"),
        pytest.param({"created": 1}, {"created": 1}, NEW, 6 + 2, 0, id="same _created"),
        pytest.param({"start": 1, "created": 2}, {"start": 1, "created": 60}, NEW, 17, 1, id="_created alone rose"),
        pytest.param({}, {}, NEW, 17, 1, id="neither is known and prompt tokens fell"),
        pytest.param({}, {}, {"output_tokens": 8, "prompt_tokens": 70}, 78, 1, id="... output tokens fell"),
        pytest.param({}, {"start": 60}, NEW, 17, 1, id="one page has no start time"),
        pytest.param({"start": 1}, {}, NEW, 17, 1, id="... or the other"),
    ],
)
def test_a_restart_counts_the_whole_page_once(before, after, new, counted, resets):
    follower = Follower()
    follower.read(page(T, OLD, **before), page(T + 5, new, **after), page(T + 10, new, **after))
    assert (follower.tokens(), follower.total("resets")) == (counted, resets)


@pytest.mark.parametrize("name", ["finished_ok", "finished_error", "finished_aborted"])
def test_on_a_page_without_ages_a_falling_finished_counter_is_a_restart(name):
    follower = Follower()
    follower.read(page(T, OLD | {name: 5}), page(T + 5, OLD | {name: 4}))
    assert (follower.tokens(), follower.total("resets")) == (79, 1)


@pytest.mark.parametrize("name", ["rejected", "cached_tokens", "http_ended", "reasoning_tokens"])
def test_any_other_falling_counter_is_reset_alone(name):
    follower = Follower()
    follower.read(page(T, OLD | {name: 5}), page(T + 5, OLD | {name: 4}))
    assert follower.tokens("output") == follower.total("resets") == 0


def test_a_restart_in_the_middle_of_a_window_loses_nothing():
    """9.0 M → 9.6 M → restart → 0.2 M → 0.5 M are 1.1 M tokens (formulas R0.4)."""
    follower = Follower()
    values = ((9.0e6, 1), (9.6e6, 1), (0.2e6, 1100), (0.5e6, 1100))
    follower.read(*(page(T + n, {"prompt_tokens": v}, start=s) for n, (v, s) in enumerate(values)))
    assert follower.tokens() == pytest.approx(1.1e6, rel=1e-9)


def test_a_restart_counts_histograms_whole_too():
    follower = Follower()
    old, new = {"ttft": [0.2] * 5, "e2e": [0.2]}, {"ttft": [0.2] * 7, "e2e": [0.6, 0.7]}
    follower.read(page(T, OLD, seen=old, start=1), page(T + 5, NEW, seen=new, start=60))
    assert (follower.observations("ttft"), follower.observations("e2e")) == (7, 2)


@pytest.mark.parametrize(
    ("new", "added"),
    [
        pytest.param(observed([0.05, 0.2, 0.2, 0.7]), (0, 1, 2, 2), id="buckets that grow are subtracted"),
        pytest.param(Histogram(EDGES, (1.0, 0.0, 5.0, 5.0)), (1, 0, 5, 5), id="one fallen bucket resets it whole"),
        pytest.param(observed([0.05] * 3, (0.15, INF)), (3, 3), id="another layout starts again"),
    ],
)
def test_a_histogram_counts_as_one_thing(new, added):
    marks = Marks()
    marks.change(page(T, seen={"ttft": [0.05, 0.2]}))
    assert marks.change(page(T + 1, seen={"ttft": new})).histograms["ttft", "m"].counts == added


def test_several_series_of_a_signal_are_told_apart_and_summed():
    """One API server's counter falls and another's rises by more: nothing is lost between them."""
    follower = Follower()
    one, two = ("prompt_tokens", "m", "pid 1"), ("prompt_tokens", "m", "pid 2")
    follower.read(page(T, {one: 100, two: 100}, start=1), page(T + 5, {one: 10, two: 150}, start=1))
    assert follower.tokens() == 60


def test_an_address_that_leads_to_several_processes_by_turns_counts_none_of_them_twice():
    """A load balancer before two processes: the newer one counts once from zero, an older one never again from zero."""
    follower = Follower()
    older, newer = page(T, {"prompt_tokens": 1e6}, start=1), page(T, {"prompt_tokens": 500}, start=60)
    for n in range(20):
        follower.read(*(_moved(p, T + 10 * n + m) for m, p in enumerate((older, older, newer, newer))))
    assert follower.tokens() == 500
    assert follower.total("resets") == 39  # people see that something is wrong


def test_an_engine_whose_clock_was_set_back_counts_on_from_its_first_page():
    follower = Follower()
    values = ((100, 900), (40, 60), (45, 60), (48, 60))
    follower.read(*(page(T + n, {"prompt_tokens": v}, start=s) for n, (v, s) in enumerate(values)))
    assert follower.tokens() == 8


def test_an_observation_that_moves_to_another_bucket_is_none():
    """Both totals rose, but less is left of what lay between them than before: nothing was observed there."""
    follower = Follower()
    moved = [Histogram((0.5, INF), counts, total) for counts, total in (((1, 18), 9), ((18, 18), 5), ((18, 20), 8))]
    follower.read(*(page(T + n, SEEN, start=1, seen={"ttft": one}) for n, one in enumerate(moved)))
    seen = [change.latencies["ttft"] for change in follower.changes()]
    assert [(one.counts, one.sum) for one in seen] == [((0, 0), 0), ((0, 0), 0), ((0, 2), 0)]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=5),  # growth, page by page, of three series
        min_size=1,
        max_size=5,  # processes
    ),
    st.booleans(),
)
def test_every_token_that_a_page_shows_is_counted_once(processes, known_before):
    follower = Follower()
    follower.at(T)
    at, expected = T, 0
    for number, growths in enumerate(processes):
        start = T - 1 if known_before and number == 0 else at + 2
        levels = [0, 0, 0]
        for growth in growths:
            at += 5
            levels = [level + more for level, more in zip(levels, growth, strict=True)]
            series = {("prompt_tokens", "m", str(n)): level for n, level in enumerate(levels)}
            follower.read(page(at, series, start=start))
        expected += sum(levels) - (sum(growths[0]) if known_before and number == 0 else 0)
    assert follower.tokens() == expected
    assert follower.total("resets") == len(processes) - 1


STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(-3, 20), min_size=4, max_size=4),  # by how much counters rise, or fall
        st.lists(st.integers(-1, 5), min_size=6, max_size=6),  # and the buckets of two histograms
        st.sets(st.integers(0, 5), max_size=2),  # series that are not on the page
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_readings_are_compared_in_one_sweep_as_one_series_after_the_other(steps):
    """Marks that go over to names before every page say the same; so do those that go through a ledger."""
    quick, careful, kept = Marks(), Marks(), Marks()
    counts, buckets = [0.0] * 4, [0.0] * 6
    for number, (rises, observed_now, away) in enumerate(steps):
        counts = [max(0.0, count + rise) for count, rise in zip(counts, rises, strict=True)]
        buckets = [max(0.0, count + more) for count, more in zip(buckets, observed_now, strict=True)]
        prompts = [("prompt_tokens", "m", "a"), ("prompt_tokens", "m", "b")]
        names = [*prompts, ("output_tokens", "m", "a", "team"), "finished_ok"]
        counters = {name: counts[n] for n, name in enumerate(names) if n not in away}
        seen = {
            name: Histogram((0.5, 1.0, INF), tuple(accumulate(buckets[n : n + 3])), counts[0])
            for n, name in ((0, "ttft"), (3, "e2e"))
            if 4 + n // 3 not in away
        }
        signal = page(T + number, counters, seen=seen)
        careful.spell_out()
        expected = careful.change(signal)
        assert quick.change(signal) == expected
        assert kept.change(signal) == expected
        assert quick.levels == careful.levels
        shape = kept.shape
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=Marks)
        kept.spell_out(Shape.decoded(shape.encoded()))


def _moved(signal, at):
    return page(at, {"prompt_tokens": next(iter(signal.counters.values()))}, start=signal.process_start)
