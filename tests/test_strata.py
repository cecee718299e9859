"""When a stratum ends, and what it knows about the requests that were in flight at its start (formulas §7.4)."""

import pytest
from inferometer.interval import strata
from inferometer.model import ModelChange, Stratum
from readings import INF, Follower, observed, page

T = 1000.0


@pytest.mark.parametrize(
    ("age", "began_with", "finished", "in_flight", "over"),
    [
        pytest.param(1, 5, 0, 0, True, id="nothing in flight"),
        pytest.param(1, 0, 100, 1, False, id="one in flight"),
        pytest.param(59, 1, 1000, 1, False, id="not yet 60 s old"),
        pytest.param(60, 3, 60, 3, True, id="60 s and 20 finished for each in flight"),
        pytest.param(60, 3, 59, 3, False, id="one too few"),
        pytest.param(60, 1, 59, 3, False, id="those in flight now blur the next stratum as much"),
        pytest.param(60, 3, 59, 1, False, id="those in flight at the start"),
        pytest.param(299, 9, 5, 9, False, id="not yet 5 min old"),
        pytest.param(300, 9, 5, 9, True, id="5 min"),
    ],
)
def test_a_stratum_ends_at_rest_or_when_the_edges_weigh_little_or_after_5_min(
    age, began_with, finished, in_flight, over
):
    stratum = Stratum("m", T, in_flight=began_with, ok=finished - 1, failed=1)
    assert strata.ended(stratum, T + age, in_flight) is over


def test_a_stratum_grows_by_what_finished_was_rejected_or_vanished():
    stratum = Stratum("m", T)
    outcomes = {"ok": 5, "error": 3, "aborted": 2, "rejected": 7, "vanished": 1}
    for _ in range(2):
        strata.grow(stratum, ModelChange(outcomes=outcomes, latencies={"ttft": observed([0.2, 0.7])}))
    assert (stratum.ok, stratum.failed, stratum.rejected, stratum.vanished) == (10, 10, 14, 2)
    assert (stratum.finished, stratum.judged) == (20, 36)
    assert stratum.latencies["ttft"] == observed([0.2, 0.7, 0.2, 0.7])


OTHER = observed([0.2], (0.3, INF))


@pytest.mark.parametrize(
    ("stratum", "carried"),
    [
        pytest.param(Stratum("m", T), None, id="no first token was seen"),
        pytest.param(Stratum("m", T, latencies={"ttft": observed([0.2])}), observed([0.2]), id="begun at rest"),
        pytest.param(Stratum("m", T, in_flight=2, latencies={"ttft": observed([0.2])}), None, id="begun in the dark"),
        pytest.param(
            Stratum("m", T, in_flight=2, carried=observed([0.7]), latencies={"ttft": observed([0.2])}),
            observed([0.7, 0.2]),
            id="some may be from before",
        ),
        pytest.param(
            Stratum("m", T, in_flight=2, carried=OTHER, latencies={"ttft": observed([0.2])}), None, id="another layout"
        ),
        pytest.param(Stratum("m", T, in_flight=2, carried=observed([0.7])), None, id="no first token since"),
    ],
)
def test_the_next_stratum_knows_which_first_tokens_those_in_flight_may_have_had(stratum, carried):
    stratum.single_token_has_tpot = False
    following = strata.following(stratum, T + 9, 4)
    assert (following.began, following.in_flight, following.carried) == (T + 9, 4, carried)
    assert (following.judged, following.latencies, following.single_token_has_tpot) == (0, {}, False)


# -- in an engine's pages


def told(at, ttfts, finished, start=1, **rest):
    counters = {"finished_ok": finished}
    return page(T + at, counters, seen={"ttft": [0.2] * ttfts, "e2e": [0.6] * finished}, start=start, **rest)


def ends(follower):
    """Finished, vanished and in flight at the start of each posted stratum."""
    return [(stratum.finished, stratum.vanished, stratum.in_flight) for stratum in follower.strata]


@pytest.mark.parametrize(
    ("pages", "posted"),
    [
        pytest.param([told(5, 3, 3)], [(3, 0, 0)], id="all done"),
        pytest.param([told(5, 3, 2, running=1)], [], id="one runs"),
        pytest.param([told(5, 3, 2, running=1), told(10, 3, 3)], [(3, 0, 0)], id="until it is done"),
        pytest.param([told(5, 3, 2), told(10, 5, 4)], [(2, 1, 0), (2, 0, 0)], id="one vanished"),
        pytest.param([told(5, 3, 2, waiting=1), told(10, 3, 3)], [(3, 0, 0)], id="a preempted one is in flight"),
        pytest.param([told(5, 0, 0, waiting=1), told(10, 0, 0)], [], id="nothing to judge"),
        pytest.param([told(5, 3, 1, running=2), told(10, 4, 4, start=60)], [(1, 0, 0), (4, 0, 0)], id="restart"),
        pytest.param([told(5, 9, 5, running=4), told(300, 9, 5, running=4), told(305, 9, 9)], [(5, 0, 0), (4, 0, 4)],
                     id="5 min"),
        pytest.param([told(30, 61, 60, running=1), told(60, 61, 60, running=1), told(70, 61, 61)],
                     [(60, 0, 0), (1, 0, 1)], id="60 s and many finished"),
        pytest.param([told(60, 61, 19, running=42), told(61, 61, 61)], [(61, 0, 0)], id="60 s and few finished"),
        pytest.param([told(t, 9, 5, waiting=1) for t in (5, 20, 35)], [(5, 4, 0)], id="vanished: not in flight"),
    ],
)  # fmt: skip
def test_strata_of_an_engine(pages, posted):
    follower = Follower()
    follower.read(told(0, 0, 0), *pages)
    assert ends(follower) == posted


def test_the_recordings_end_ends_every_stratum():
    follower = Follower(interval=5)
    follower.read(told(0, 0, 0), told(5, 3, 2, running=1))
    assert follower.meter.pending() == {"w": 2}
    follower.finish(T + 6)
    assert ends(follower) == [(2, 0, 0)]
    assert follower.meter.pending() == {"w": 0}


def test_what_is_in_flight_on_the_baseline_page_is_known_by_number_only():
    follower = Follower()
    follower.read(told(0, 9, 5, running=2), told(5, 9, 7))
    (stratum,) = follower.strata
    assert (stratum.finished, stratum.in_flight, stratum.carried) == (2, 4, None)


def test_a_stratum_without_anything_to_judge_leaves_no_first_token_behind():
    """One request runs for ten minutes: its first token is known to all strata in between."""
    follower = Follower()
    follower.read(told(0, 0, 0), *(told(n, 1, 0, running=1) for n in range(5, 605, 5)), told(605, 1, 1))
    (stratum,) = follower.strata
    assert (stratum.finished, stratum.in_flight) == (1, 1)
    assert stratum.carried is not None
    assert stratum.carried.total == 1


def test_every_model_has_its_own_strata():
    follower = Follower()
    pages = [({}, 0), ({("finished_ok", "a"): 2, ("finished_ok", "b"): 3}, 1)]
    seen = {("ttft", "a"): [0.2] * 2, ("ttft", "b"): [0.2] * 4}
    follower.read(*(
        page(T + n, {("finished_ok", m): 0 for m in "ab"} | c, seen=seen if n else {}, start=1,
             gauges={("running", "b"): float(r)})
        for n, (c, r) in enumerate(pages)
    ))  # fmt: skip
    assert [(stratum.model, stratum.finished) for stratum in follower.strata] == [("a", 2)]
    assert follower.meter.pending() == {"w": 3}
