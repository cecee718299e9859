"""Time: every second of an engine is settled once, whatever answers, whoever was away (design: accrual, agent away)."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.interval import Meter, Watch
from inferometer.model import Batch, Key, Shape
from readings import Follower, gpus, no_page, page, watch

T = 1000.0
HOUR = 3600.0
OLD = {"start": 1.0}
SEEN = {"prompt_tokens": 70, "finished_ok": 2}


# -- accrual


def test_time_counts_from_the_first_tick_though_the_engine_never_answers():
    follower = Follower()
    follower.at(T)
    for n in range(1, 5):
        follower.at(T + n, no_page(T + n))
    assert (follower.seconds("unknown"), follower.seconds()) == (4, 4)


def test_a_workload_without_engines_holds_its_gpus_from_tick_to_tick():
    follower = Follower(Watch("w", (), gpus=8))
    for n in range(4):
        follower.at(T + n)
    assert [(i.engine, i.seconds, i.gpus, i.part) for i in follower.given] == [("", 1, 8, 1)] * 3


def test_an_interval_says_what_is_held_and_until_when_on_the_wall_clock():
    follower = Follower(watch("e", held=3), watch("f", workload="v", held=1), ahead=1e9)
    follower.at(T)
    interval = follower.read(page(T + 2))[0]
    assert (interval.workload, interval.engine, interval.gpus, interval.until) == ("w", "e", 3, 1e9 + T + 2)
    assert follower.meter.settled_until() == {"w": 1e9 + T + 2, "v": 1e9 + T + 2}


@pytest.mark.parametrize(("held", "parts"), [((3, 1), (0.75, 0.25)), ((0, 0), (0.5, 0.5))])
def test_the_parts_of_a_workloads_engines_add_up_to_one(held, parts):
    engines = tuple(type(e)(e.engine, n) for e, n in zip(watch("e", "f").engines, held, strict=True))
    follower = Follower(Watch("w", engines))
    follower.at(T)
    assert tuple(i.part for i in follower.at(T + 1, page(T + 1), page(T + 1, engine="f"))) == parts


def test_a_workload_is_settled_as_far_as_its_slowest_engine():
    follower = Follower(watch("e", "f"))
    follower.at(T, page(T), page(T, engine="f"))
    follower.at(T + 5, page(T + 5))
    assert follower.meter.settled_until() == {"w": T}


def test_a_page_older_than_what_is_settled_adds_its_tokens_and_no_time():
    follower = Follower(interval=1)
    follower.at(T, page(T, {"prompt_tokens": 1}, **OLD))
    follower.at(T + 4)
    follower.at(T + 4.1, page(T + 3, {"prompt_tokens": 9}, **OLD))
    assert (follower.seconds(), follower.tokens()) == (4, 8)
    follower.at(T + 5, page(T + 5, {"prompt_tokens": 9}, **OLD))
    assert follower.seconds() == 5


def test_a_step_of_the_wall_clock_moves_no_time():
    follower = Follower()
    follower.at(T, page(T))
    follower.ahead = 7200
    follower.read(page(T + 5))
    follower.ahead = -7200
    follower.read(page(T + 10))
    assert [(i.seconds, i.until) for i in follower.given[1:]] == [(5, T + 7205), (5, T - 7190)]


def test_the_recordings_end_settles_the_rest():
    follower = Follower()
    follower.at(T)
    follower.read(page(T + 1, running=1))
    follower.finish(T + 4)
    assert (follower.seconds("busy"), follower.seconds()) == (4, 4)


def test_strangers_are_not_counted():
    follower = Follower()
    follower.at(T, page(T, engine="stranger"))
    follower.finish(T + 1)
    assert {i.engine for i in follower.given} == {"e"}


def test_every_model_opens_its_accounts_with_the_first_page_of_a_process_that_is_older():
    follower = Follower()
    (interval,) = follower.read(page(T, {"prompt_tokens": 5, ("prompt_tokens", "other"): 5}, **OLD))
    assert set(interval.models) == {"m", "other"}
    assert follower.tokens() == 0


# -- the agent was away


def away(gap, *signals, read=(), ahead=0.0, later_ahead=None, interval=5):
    """What a second life of the agent settles, ``gap`` seconds after the first one's last page at T + 5."""
    follower = Follower(interval=interval, ahead=ahead)
    follower.at(T, page(T, **OLD))
    follower.read(*(read or (page(T + 5, **OLD),)))
    later = follower.restarted(ahead=later_ahead)
    later.at(T + 5 + gap, *signals)
    return later


@pytest.mark.parametrize(
    ("gap", "signal", "charged", "unaccounted"),
    [
        pytest.param(9, lambda at: page(at, **OLD), 9, 0, id="a short gap"),
        pytest.param(HOUR, lambda at: page(at, **OLD), HOUR, 0, id="the same process: the whole gap"),
        pytest.param(HOUR, lambda at: page(at, start=at - 60), 60, HOUR - 60, id="from the process's start on"),
        pytest.param(HOUR, lambda at: page(at, created=at - 60), 60, HOUR - 60, id="... by _created"),
        pytest.param(HOUR, lambda at: page(at, start=at + 9), 0, HOUR, id="... which may seem to lie ahead"),
        pytest.param(HOUR, page, 900, HOUR - 900, id="a page without a start time: 15 min"),
        pytest.param(HOUR, no_page, 900, HOUR - 900, id="no answer: 15 min"),
        pytest.param(899, no_page, 899, 0, id="no answer within 15 min"),
    ],
)
def test_the_agents_absence_is_charged_while_the_gpus_were_provably_held(gap, signal, charged, unaccounted):
    later = away(gap, signal(T + 5 + gap))
    assert (later.seconds(), later.total("unaccounted_seconds")) == (charged, unaccounted)
    assert later.seconds("unknown") == (later.seconds() if gap > 10 else 0)


def test_one_slow_page_is_no_proof_that_nobody_is_there():
    """Only a refusal is at once; else an engine has two intervals, and its page proves the whole gap then."""
    later = away(HOUR, no_page(T + 5 + HOUR, "timeout"))
    assert (later.given, later.meter.settled()) == ([], False)
    later.read(page(T + 10 + HOUR, **OLD))
    assert (later.seconds(), later.total("unaccounted_seconds")) == (HOUR + 5, 0)
    silent = away(HOUR, no_page(T + 5 + HOUR, "truncated"))
    silent.read(no_page(T + 16 + HOUR, "truncated"))
    assert (silent.seconds(), silent.total("unaccounted_seconds")) == (900, HOUR + 11 - 900)


def test_a_gap_is_charged_for_the_gpus_that_were_held_before_it():
    """GPUs are known again later than the first page, and what nobody holds is known with them."""
    whole, nobody = watch("e", held=2.0), Watch("(unattributed)", (), 1.0)
    follower = Follower(whole, nobody)
    follower.read(page(T, **OLD))
    follower.at(T + 5)
    later = follower.restarted(watch("e", held=0.0))
    later.read(page(T + 605, **OLD))
    later.meter.watch((whole, nobody), 5.0)
    later.at(T + 606)
    held = {
        name: sum(i.seconds * i.gpus for i in later.given if i.workload == name) for name in ("w", "(unattributed)")
    }
    assert held == {"w": 2 * 605, "(unattributed)": 601}


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        ("f", b"\x81\xa1x\x01"),
        ("f\n", b""),  # its numbers without what they are numbers of
        ("f\n", Shape.of([Key("prompt_tokens", "m", "x"), Key("output_tokens", "m", "y")], ()).encoded()),
        ("gpus", -1.0),
    ],
)
def test_a_mark_that_cannot_be_understood_costs_its_engine_alone(part, mark):
    both = (watch("e"), watch("f", workload="v"))
    follower = Follower(*both)
    follower.at(T, page(T, **OLD), page(T, engine="f", **OLD))
    if part == "gpus":
        part, mark = "f", msgspec.msgpack.encode(msgspec.msgpack.decode(follower.committed["f"]) | {"gpus": mark})
    follower.committed[part] = mark
    later = Follower(*both)
    (fault,) = later.meter.restore(follower.committed, 0.0)
    assert fault.startswith("f: ")
    later.at(T + 60, page(T + 60, **OLD), page(T + 60, engine="f", **OLD))
    assert (later.seconds(engine="e"), later.seconds(engine="f")) == (60, 0)


def test_unaccounted_time_counts_every_gpu():
    follower = Follower(watch("e", held=8))
    follower.read(page(T, **OLD))
    later = follower.restarted(watch("e", held=8))
    later.at(T + HOUR, no_page(T + HOUR))
    assert later.total("unaccounted_seconds") == 8 * (HOUR - 900)


def test_15_minutes_are_counted_from_the_last_reading_not_from_the_agents_end():
    """The engine was down for 10 min already when the agent went away."""
    follower = Follower()
    follower.read(page(T, **OLD))
    follower.at(T + 600, no_page(T + 600))
    later = follower.restarted()
    later.at(T + HOUR, no_page(T + HOUR))
    assert (later.seconds(), later.total("unaccounted_seconds")) == (300, HOUR - 900)


def test_an_engine_that_never_answered_was_held_for_15_minutes_more():
    follower = Follower()
    follower.at(T)
    follower.at(T + 5)
    later = follower.restarted()
    later.at(T + 5 + HOUR, no_page(T + 5 + HOUR))
    assert (later.seconds(), later.total("unaccounted_seconds")) == (900, HOUR - 900)


def test_a_workload_without_engines_was_held_for_15_minutes_more():
    alone = Watch("w", (), gpus=2)
    follower = Follower(alone)
    follower.at(T)
    follower.at(T + 5)
    later = follower.restarted(alone)
    assert not later.meter.settled()
    later.at(T + 5 + HOUR)
    assert later.meter.settled()
    assert (later.seconds(), later.total("unaccounted_seconds")) == (900, 2 * (HOUR - 900))


def test_nothing_is_settled_until_an_engine_answers_or_refuses_and_the_agent_is_not_ready():
    later = away(HOUR)
    later.at(T + HOUR + 10)
    assert (later.given, later.meter.settled()) == ([], False)
    later.read(page(T + HOUR + 15, **OLD))
    assert (later.seconds(), later.meter.settled()) == (HOUR + 10, True)


def test_a_gap_that_was_settled_is_not_settled_again_when_the_agent_is_killed_at_once():
    later = away(HOUR, no_page(T + 5 + HOUR))
    third = later.restarted()
    third.at(T + 5 + HOUR + 1, no_page(T + 5 + HOUR + 1))
    assert third.total("unaccounted_seconds") + third.seconds() <= 1


@pytest.mark.parametrize(("start", "tokens", "resets"), [(1.0, 30, 0), (T + 2000, 100, 1)])
def test_tokens_of_the_agents_absence_come_from_the_counters(start, tokens, resets):
    before = page(T + 5, {"prompt_tokens": 70}, **OLD)
    later = away(HOUR, page(T + 5 + HOUR, {"prompt_tokens": 100}, start=start), read=(before,))
    assert (later.tokens(), later.total("resets")) == (tokens, resets)


def test_an_engine_is_young_by_the_time_since_which_any_life_of_the_agent_watched():
    follower = Follower()
    follower.at(T)
    follower.at(T + 5)
    later = follower.restarted()
    later.at(T + HOUR, page(T + HOUR, {"prompt_tokens": 70}, start=T + 60))
    assert later.tokens() == 70


@pytest.mark.parametrize("later_ahead", [0.0, 500.0, -500.0])
def test_a_gap_is_measured_on_the_wall_clock_when_the_steady_one_began_anew(later_ahead):
    """The machine was rebooted: the same wall time is another steady time."""
    now = T + 5 + HOUR - later_ahead
    later = away(HOUR - later_ahead, page(now, start=T + 5 + HOUR - 60), later_ahead=later_ahead)
    assert (later.seconds(), later.total("unaccounted_seconds")) == (60, HOUR - 60)


@pytest.mark.parametrize(("seconds", "state"), [(6, "busy"), (10, "stalled")])
def test_a_stall_is_timed_across_the_agents_lives(seconds, state):
    stuck = {"start": 1.0, "running": 1, "vital": (1.0,)}
    later = away(seconds, read=(page(T + 5, **stuck),), later_ahead=-5e3)
    (interval,) = later.read(page(T + 5 + seconds + 5e3, **stuck))
    assert interval.state == state


def test_a_wall_clock_that_was_set_back_takes_nothing_away():
    later = away(-HOUR, page(T + 5 - HOUR, **OLD))
    later.at(T + 6, page(T + 6, **OLD))
    assert (later.seconds(), later.total("unaccounted_seconds")) == (1, 0)


# -- another configuration


def test_an_engine_that_stays_over_a_reload_keeps_its_state():
    follower = Follower()
    follower.read(page(T, {"prompt_tokens": 5}, **OLD))
    follower.meter.watch([watch("e", "f", held=2)], 1.0)
    given = follower.at(T + 4, page(T + 4, {"prompt_tokens": 9}, **OLD))
    assert [(i.seconds, i.gpus, i.state) for i in given] == [(4, 2, "unknown")]  # two intervals are 2 s now
    assert follower.tokens() == 4


def test_an_engine_that_is_added_begins_with_the_next_batch():
    follower = Follower()
    follower.at(T)
    follower.meter.watch([watch("e", "f")], 5.0)
    follower.at(T + 10)
    follower.at(T + 12, page(T + 12, {"prompt_tokens": 5}, engine="f", **OLD))
    assert (follower.seconds(engine="f"), follower.tokens()) == (2, 0)


def test_an_engine_that_is_removed_is_settled_up_to_the_last_batch():
    both = watch("e", "f", uuids="a")
    follower = Follower(both)
    counters = {"finished_ok": 2}
    follower.at(T, page(T, **OLD), page(T, engine="f", **OLD), gpus(T, a=0))
    follower.at(T + 5, page(T + 5, counters, running=1, seen={"ttft": [0.2] * 3}, **OLD))
    follower.at(T + 7, gpus(T + 7, a=100))
    follower.meter.watch([watch("f", uuids="a")], 5.0)
    follower.at(T + 8)
    assert (follower.seconds(engine="e"), follower.total("joules", engine="e")) == (7, 50)
    assert [stratum.finished for stratum in follower.strata] == [2]
    assert [view.engine for view in follower.meter.views()] == ["f"]


def test_a_workload_that_is_removed_leaves_nothing_to_settle():
    """Its prices are gone with it."""
    follower = Follower(watch("e"), watch("f", workload="v"))
    follower.at(T, page(T), page(T, engine="f"))
    follower.meter.watch([watch("e")], 5.0)
    assert {interval.workload for interval in follower.at(T + 20)} == {"w"}


@pytest.mark.parametrize("how", ["reload", "reload after a restart", "restart"])
def test_an_engine_that_returns_goes_on_with_its_counters_but_not_with_its_time(how):
    """Its tokens are counted once; the hour outside the workload is not the workload's."""
    both, without = watch("e", "f"), watch("f")
    first = Follower(both)
    first.at(T)
    first.read(page(T + 5, SEEN, start=T + 1, seen={"ttft": [0.2] * 3}, running=1))
    first.meter.watch([without], 5.0)
    first.at(T + 10)
    last = {"reload": first, "restart": first.restarted(both)}.get(how) or first.restarted(without)
    last.meter.watch([both], 5.0)
    last.at(T + HOUR)
    more = {"prompt_tokens": 75, "finished_ok": 3}
    last.read(page(T + HOUR + 5, more, start=T + 1, seen={"ttft": [0.2] * 3}))
    whole = Follower()
    whole.given = first.given + (last.given if last is not first else [])
    assert (whole.tokens(), whole.outcome("ok"), whole.seconds(engine="e")) == (75, 3, 5 + 5)
    assert [(s.finished, s.in_flight) for s in whole.strata] == [(2, 0), (1, 1)]


def test_an_engine_that_a_life_went_without_does_not_pay_for_the_time_since():
    """Killed before it could commit that the engine was taken out; then one life without it, and one with it."""
    both, without = watch("e", "f"), watch("f")
    first = Follower(both)
    first.at(T)
    first.read(page(T + 5, SEEN, start=T + 1), page(T + 5, engine="f", start=T + 1))
    second = first.restarted(without)
    second.at(T + 10, page(T + 10, engine="f", start=T + 1))
    third = second.restarted(both)
    third.at(T + HOUR, page(T + HOUR, {"prompt_tokens": 75}, start=T + 1))
    third.at(T + HOUR + 5, page(T + HOUR + 5, {"prompt_tokens": 80}, start=T + 1))
    assert (third.seconds(engine="e"), third.tokens()) == (5, 10)


def test_a_meter_that_follows_nobody_settles_nothing():
    meter = Meter([], 5.0)
    assert (meter.finish(T), meter.settled(), meter.settled_until(), meter.pending()) == ([], True, {}, {})


# -- the marks


@st.composite
def lives(draw):
    """Batches of two engines and a GPU, with restarts, gaps and failures; every number only grows in a process."""
    batches, at = [], T
    state = {name: {"start": 1.0, "prompt": 5, "ok": 0, "first": 0} for name in "ef"}
    joules = 0
    for _ in range(draw(st.integers(2, 14))):
        at += draw(st.sampled_from([0.5, 2.0, 4.0, 12.0, 70.0]))
        signals = []
        for name, engine in state.items():
            kind = draw(st.sampled_from(["page", "page", "page", "none", "failed", "restart"])) if batches else "page"
            if kind == "restart":
                engine |= {"start": at - 0.25, "prompt": 0, "ok": 0, "first": 0}
            if kind in {"page", "restart"}:
                engine["prompt"] += draw(st.integers(0, 20))
                engine["first"] += draw(st.integers(0, 3))
                engine["ok"] = draw(st.integers(engine["ok"], engine["first"]))
                running = draw(st.integers(0, engine["first"] - engine["ok"]))
                signals.append(_shown(at, name, engine, running))
            elif kind == "failed":
                signals.append(no_page(at, engine=name))
        if not batches or draw(st.booleans()):
            joules += draw(st.integers(0, 99))
            signals.append(gpus(at, a=joules))
        batches.append((at, signals))
    return batches


def _shown(at, name, engine, running):
    counters = {"prompt_tokens": engine["prompt"], "output_tokens": 3 * engine["first"], "finished_ok": engine["ok"],
                "finished_output_tokens": 3 * engine["ok"], "cached_tokens": engine["prompt"] // 2}  # fmt: skip
    seen = {"ttft": [0.2] * engine["first"], "e2e": [0.7] * engine["ok"]}
    return page(at, counters, engine=name, seen=seen, running=running, start=engine["start"])


BOTH = watch("e", "f", uuids="a")


def _amounts(followers):
    """All that a row of meters gave: by engine what it did, and the strata in order."""
    given = [interval for follower in followers for interval in follower.given]
    sums = {}
    for i in given:
        for name in "ef":
            if i.engine == name:
                row = {"held": i.seconds + i.unaccounted_seconds, "resets": i.resets, "joules": i.joules()}
                for model, change in i.models.items():
                    row |= {(model, kind): n for kind, n in (change.tokens | change.outcomes).items()}
                    row |= {(model, "wasted"): change.wasted}
                    row |= {(model, latency): h.total for latency, h in change.latencies.items()}
                for key, value in row.items():
                    sums[name, key] = sums.get((name, key), 0.0) + value
    strata = {name: [_of(s) for i in given if i.engine == name for s in i.strata] for name in "ef"}
    return {key: pytest.approx(value, abs=1e-6) for key, value in sums.items() if value}, strata


def _of(stratum):
    return (stratum.finished, stratum.vanished, stratum.in_flight, stratum.carried, stratum.latencies)


@settings(max_examples=60, deadline=None)
@given(lives(), st.data())
def test_a_meter_restored_after_any_batch_goes_on_as_if_nothing_had_been(batches, data):
    undisturbed = Follower(BOTH)
    ahead = [0.0]
    followers = [Follower(BOTH)]
    for at, signals in batches:
        undisturbed.at(at, *signals)
        shift = ahead[-1]
        followers[-1].at(at - shift, *(_earlier(signal, shift) for signal in signals))
        if data.draw(st.booleans()):
            ahead.append(data.draw(st.sampled_from([0.0, 300.0, -1e6])))
            followers.append(followers[-1].restarted(BOTH, ahead=ahead[-1]))
    end = batches[-1][0] + 1
    last = [gpus(end, a=9999), *(page(end, engine=name, start=1e5) for name in "ef")]  # everybody answers once more
    undisturbed.at(end, *last)
    followers[-1].at(end - ahead[-1], *(_earlier(signal, ahead[-1]) for signal in last))
    assert _amounts(followers) == _amounts([undisturbed])


def _earlier(signal, seconds):
    fields = {name: getattr(signal, name) for name in type(signal).__struct_fields__}
    return type(signal)(**(fields | {"at": signal.at - seconds}))


def test_marks_are_those_of_the_engines_that_changed():
    """And which series an engine has is a mark of its own, as often as these are others."""
    meter = Meter([watch("e", "f")], 5.0)
    for at, signals, changed in (
        (T, [page(T), page(T, engine="f")], {"e", "e\n", "f", "f\n"}),
        (T + 1, [page(T + 1)], {"e"}),
        (T + 2, [page(T + 2, {"prompt_tokens": 1, "output_tokens": 1})], {"e", "e\n"}),
        (T + 3, [page(T + 3, {"prompt_tokens": 2, "output_tokens": 2}), page(T + 3, engine="f")], {"e", "f"}),
    ):
        meter.add(Batch(at, at), signals)
        meter.due(at)
        assert set(meter.marks()) == {"", *changed}
    assert set(meter.marks()) == {""}
    meter.watch([watch("f")], 5.0)
    assert meter.marks().keys() >= {"e", "e\n"}
