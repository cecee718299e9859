"""A thousand engines at one moment: they take turns with everybody else of the loop, and share what is the same."""

from __future__ import annotations

import asyncio
import gc
import random

from inferometer import adapters, pipeline
from inferometer.adapters import uses
from inferometer.adapters.uses import Uses
from inferometer.app.gaps import Gaps
from inferometer.app.publisher import Publisher
from inferometer.interval import Meter
from inferometer.ledger import Ledger
from inferometer.model import Batch, EngineView, Entry, Page, Series
from inferometer.sources.turns import Turns
from readings import no_page, page, watch

INF = float("inf")
LIMITS = {"chat": {"ttft": 0.4, "e2e": 2.0}}


# -- turns


async def drawn(turns, names):
    """Who had a turn in each turn of the loop, until all had one."""
    by_turn, had = [], []

    async def one(name):
        await turns.mine()
        had.append(name)

    waiting = [asyncio.create_task(one(name)) for name in names]
    while not all(task.done() for task in waiting):
        await asyncio.sleep(0)
        by_turn.append(tuple(had))
        had.clear()
    return [some for some in by_turn if some]


def test_a_few_have_their_turn_at_each_turn_of_the_loop_and_who_came_first_goes_first():
    by_turn = asyncio.run(drawn(Turns(at_once=3), range(20)))
    assert [name for some in by_turn for name in some] == list(range(20))
    assert max(map(len, by_turn)) <= 3


def test_who_is_alone_does_not_wait():
    async def talk():
        turns = Turns(at_once=1)
        for _ in range(3):
            asked = turns.mine()
            try:
                asked.send(None)
            except StopIteration:
                pass
            else:
                raise AssertionError("it waited")
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(talk())


def test_who_gave_up_takes_nobodys_turn():
    async def talk():
        turns, had = Turns(at_once=1), []

        async def one(name):
            await turns.mine()
            had.append(name)

        tasks = [asyncio.create_task(one(name)) for name in range(5)]
        await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return had

    assert asyncio.run(talk()) == [0, 4]


# -- the pipeline


class Counting:
    """A meter and a ledger that keep what they are given."""

    has_new_spans = False

    def __init__(self):
        self.parts, self.posted = [], []

    def add(self, batch, signals):
        self.parts.append((batch.at, batch.wall, tuple(signals)))

    def due(self, _at):
        return list(range(100))

    def marks(self):
        return {}

    async def post(self, entries, _marks):
        self.posted += entries
        return True


def carried(batch, monkeypatch):
    """The stages after one batch, how often others had a turn, and how many steps of publishing were made."""
    monkeypatch.setattr(pipeline, "_SLICE_SECONDS", 0.0)
    stages, steps = Counting(), []

    def publish(whole, entries, committed):
        assert (whole, entries, committed) == (batch, list(range(100)), True)
        for number in range(50):
            steps.append(number)
            yield

    async def run():
        async def batches():
            yield batch

        work = asyncio.ensure_future(
            pipeline.run(batches(), lambda part: part.samples, stages, lambda interval: interval, stages, publish)
        )
        turns = 0
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        await work
        return turns

    return stages, asyncio.run(run()), len(steps)


def test_a_large_batch_goes_through_in_parts_and_the_loop_goes_on(monkeypatch):
    samples = tuple(Page(f"e{number}", 5.0) for number in range(301))
    stages, turns, steps = carried(Batch(5.0, 1005.0, samples), monkeypatch)
    assert tuple(sample for _, _, part in stages.parts for sample in part) == samples
    assert {(at, wall) for at, wall, _ in stages.parts} == {(5.0, 1005.0)}
    assert (stages.posted, steps) == (list(range(100)), 50)
    assert turns > 150


def test_a_tick_is_one_part(monkeypatch):
    stages, _, _ = carried(Batch(5.0, 1005.0), monkeypatch)
    assert stages.parts == [(5.0, 1005.0, ())]


def test_a_batch_in_parts_is_settled_as_a_whole_one_is():
    """Whatever the meter is given at one moment, it may as well be given piece by piece."""
    rng = random.Random(5)
    names = [f"e{number}" for number in range(9)]
    watches = [watch(*names[:5], workload="a"), watch(*names[5:], workload="b")]
    whole, parts = Meter(watches, 5.0), Meter(watches, 5.0)
    tokens = dict.fromkeys(names, 0)
    for at in (0.0, 5.0, 10.0, 15.0, 31.0, 36.0, 5000.0, 5005.0):
        signals = []
        for name in rng.sample(names, len(names)):
            tokens[name] += rng.randrange(100)
            counters = {"output_tokens": tokens[name], "prompt_tokens": 2 * tokens[name], "finished": tokens[name] // 9}
            signals.append(no_page(at, engine=name) if rng.random() < 0.2 else page(at, counters, engine=name))
        batch = Batch(at, at + 1e9, tuple(signals))
        whole.add(batch, signals)
        for part in pipeline._parts(batch):
            parts.add(part, part.samples)
        assert parts.due(at) == whole.due(at)
        assert parts.marks() == whole.marks()
        assert (parts.views(), parts.watched_since) == (whole.views(), whole.watched_since)


def test_an_engine_that_is_watched_between_two_parts_is_begun_with_the_next():
    meter = Meter([watch("e0")], 5.0)
    first, second = Batch(0.0, 1e9, (page(0.0, engine="e0"),)), Batch(0.0, 1e9, (page(0.0, engine="e1"),))
    meter.add(first, first.samples)
    meter.watch([watch("e0"), watch("e1", workload="late")], 5.0)
    meter.add(second, second.samples)
    assert [view.up for view in meter.views()] == [True, True]
    assert meter.watched_since == {"w": 1e9, "late": 1e9}


def test_a_snapshot_that_is_composed_step_by_step_is_there_with_the_last_step_and_not_before():
    """Whatever is asked between two steps is answered by the snapshot before."""

    def published():
        meter = Meter([watch("e0"), watch("e1", workload="b")], 5.0)
        meter.add(Batch(5.0, 1005.0), [page(5.0, {"output_tokens": 9}, engine="e0")])
        return Publisher(meter, Ledger(None, "USD")), meter.due(5.0)

    stepwise, _ = published()
    entries = [Entry("w", 1005.0, {("inferometer_cost_total", ("w", "gpu", "busy")): 1.0}) for _ in range(9)]
    steps = stepwise.steps(Batch(5.0, 1005.0), entries)
    seen = [stepwise.snapshot for _ in steps]
    at_once, _ = published()
    at_once(Batch(5.0, 1005.0), entries)
    assert len(seen) > len(entries)
    assert set(seen) == {None}
    assert stepwise.snapshot == at_once.snapshot


# -- what is shared and what is remembered


def test_engines_of_one_workload_share_what_their_series_are_good_for():
    vllm, models, others = adapters.builtin()["vllm"], adapters.Models(), adapters.Models()
    series = Series("vllm:prompt_tokens_total", (("model_name", "m"),))
    one, two, other = Uses(vllm, None, models), Uses(vllm, None, models), Uses(vllm, None, others)
    assert one.of(series)
    assert one.of(series) is two.of(series)
    assert one.of(series) is not other.of(series)
    assert one.of(series) == other.of(series)


def test_what_series_are_good_for_is_forgotten_with_the_last_engine():
    gc.collect()
    before = len(uses._shared)
    engines = [Uses(adapters.builtin()["vllm"], None, adapters.Models()) for _ in range(5)]
    assert len(uses._shared) == before + 5
    engines.clear()
    gc.collect()
    assert len(uses._shared) == before


def gap(values, engine, slo):
    return values.get(("inferometer_slo_bucket_gap_seconds", ("chat", engine, slo)))


def test_gaps_follow_edges_and_thresholds_and_forget_engines_that_left():
    gaps, edges = Gaps(), {"ttft": (0.25, 0.5, INF), "e2e": (1.0, INF)}
    one, two = EngineView("chat", "e1", up=True, edges=edges), EngineView("chat", "e2", up=True, edges=edges)
    values = gaps.values([one, two], LIMITS)
    assert (gap(values, "e1", "ttft"), gap(values, "e2", "ttft")) == (0.25, 0.25)
    assert gap(values, "e1", "e2e") is None, "beyond the last edge nothing is known"
    assert gap(gaps.values([one], {"chat": {"ttft": 0.5}}), "e1", "ttft") == 0.0
    finer = EngineView("chat", "e1", up=True, edges={"ttft": (0.3, 0.5, INF)})
    values = gaps.values([finer], LIMITS)
    assert gap(values, "e1", "ttft") == 0.5 - 0.3
    assert gap(values, "e2", "ttft") is None
    assert gaps._known.keys() == {("chat", "e1")}
    assert gaps.values([finer], {}) == {}
