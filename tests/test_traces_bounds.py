"""Spans and histograms together hold on random workloads: sampled, late, skewed, with restarts (design §7, traces).

Every finished request is judged once: by its span where there is one in time, within bounds where there is none.
"""

import random
from dataclasses import dataclass, field

import pytest
from inferometer.economics.goodput import exact, judge
from inferometer.interval import Meter, Watch, Watched
from inferometer.model import Batch, EngineSignal, Request, Traced, Traits
from workloads import FINISHED, THRESHOLDS, Pages, alive, workload

BLOCKS, RUNS_PER_BLOCK = 10, 40
LATEST_SECONDS = 60.0


@dataclass
class Side:
    """How the spans of one engine come: the share that does, how late, and by how much its clock is ahead."""

    share: float
    late: float
    ahead: float
    brief: bool


@dataclass
class Judged:
    """What was posted of one process so far."""

    traced: int = 0
    bounded: int = 0
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)

    def add(self, stratum, slo):
        verdicts = [judge(stratum, slo)]
        self.bounded += int(stratum.finished)
        if stratum.spans is not None:
            verdicts.append(exact(stratum.spans))
            self.traced += int(stratum.spans.requests)
        for verdict in verdicts:
            for name, bounds in {"good": verdict.good, **verdict.met}.items():
                assert 0 <= bounds.lower <= bounds.upper <= verdict.judged, name
                self.lower[name] = self.lower.get(name, 0) + bounds.lower
                self.upper[name] = self.upper.get(name, 0) + bounds.upper


def sides(rng, names):
    found = {}
    for name in names:
        ahead = rng.choice((0.0, 0.0, 0.0, rng.uniform(-0.3, 0.3), 3600.0, -3600.0))
        found[name] = Side(rng.choice((0.0, 0.1, 0.5, 0.9, 1.0, 1.0)), rng.choice((0.0, 5.0, 60.0)), ahead,
                           brief=rng.random() < 0.2)  # fmt: skip
    return found


def spans(rng, names, which, seconds):
    """(arrival, engine, span) of all that comes, in the order of arrival; some exporters stop half way."""
    found = []
    for name, processes in names.items():
        side = which[name]
        for number, r in enumerate(r for p in processes for r in p.finished() if r.end < p.dies):
            if rng.random() < side.share and not (side.brief and r.end > seconds / 2) and r.end > -LATEST_SECONDS:
                ended = r.end + side.ahead
                span = Request(number.to_bytes(24), r.arrived + side.ahead, ended, outcome=r.outcome, ttft=r.ttft,
                               e2e=r.e2e, output_tokens=float(r.tokens))  # fmt: skip
                found.append((r.end + min(rng.uniform(0, side.late), LATEST_SECONDS), name, span))
    return sorted(found, key=lambda one: one[0])


def batches(rng, names, which, seconds):
    """Pages at random times, and spans as they come between them."""
    traits, failed_show = Traits(single_token_has_tpot=rng.random() < 0.7), rng.random() < 0.7
    pages = {id(p): Pages(p, name, traits, failed_show=failed_show, ahead=which[name].ahead)
             for name, life in names.items() for p in life}  # fmt: skip
    due = spans(rng, names, which, seconds)
    at, step = 0.0, rng.choice([step for step in (0.2, 1.0, 5.0, 15.0) if seconds / step <= 150])
    end = seconds + 200
    while at < end:
        serving = {name: alive(life, at) for name, life in names.items()}
        yield at, [pages[id(p)](at) if p else EngineSignal(n, at, "refused") for n, p in serving.items()], serving
        following = at + rng.uniform(0.5, 1.5) * (step if at < seconds else 10.0)
        while due and due[0][0] <= following:
            arrived, name, span = due.pop(0)
            if arrived > at:
                yield arrived, [Traced(name, arrived, (span,))], {}
            elif arrived > 0:
                yield at, [Traced(name, at, (span,))], {}
        at = following


def truth(requests, slo):
    found = {"good": sum(all(r.met(name, limit) for name, limit in slo.items()) for r in requests)}
    return found | {name: sum(r.met(name, limit) for r in requests) for name, limit in slo.items()}


class Run:
    """One workload through the meter; what was posted is compared with the truth at every post."""

    def __init__(self, seed):
        rng = random.Random(seed)
        engines, seconds = workload(rng)
        self.slo = {n: rng.choice(values) for n, values in THRESHOLDS.items() if rng.random() < 0.8} or {"ttft": 0.5}
        self.names = {f"e{i}": processes for i, processes in enumerate(engines)}
        self.sides = sides(rng, self.names)
        watched = tuple(Watched(name, 1.0, traced=rng.random() < 0.8) for name in self.names)
        self.meter = Meter([Watch("w", watched, limits={"": self.slo})], 5.0)
        self.judged, self.shown, self.outcomes, self.vanished = {}, {}, 0, 0
        at = 0.0
        for at, signals, serving in batches(rng, self.names, self.sides, seconds):
            for name, process in serving.items():
                if process:
                    self.shown[id(process)] = (name, process, at)
            self.meter.add(Batch(at, at), signals)
            self.take(self.meter.due(at))
            if rng.random() < 0.01:
                self.restart()
        self.take(self.meter.finish(at))

    def restart(self):
        """The agent is restarted: what waits is in its marks."""
        marks = self.meter.marks()
        watches = {engine.watch.workload: engine.watch for engine in self.meter._engines.values()}
        self.all_marks = getattr(self, "all_marks", {}) | marks
        self.meter = Meter(watches.values(), 5.0)
        self.meter.restore(self.all_marks, 0.0)

    def take(self, intervals):
        if intervals:
            self.all_marks = getattr(self, "all_marks", {}) | self.meter.marks()
        for interval in intervals:
            for change in interval.models.values():
                self.outcomes += sum(change.outcomes.get(name, 0) for name in FINISHED)
                self.vanished += change.outcomes.get("vanished", 0)
            posted = {}
            for stratum in interval.strata:
                self.vanished -= stratum.vanished
                process = alive(self.names[interval.engine], stratum.began)
                self.judged.setdefault(id(process), Judged()).add(stratum, self.slo)
                posted[id(process)] = process
            for process in posted.values():
                self.check(interval.engine, process)

    def check(self, name, process):
        """The first so many finished requests are within what was posted for so many.

        Where a span near the edge of a stratum stood in for another request, either may be among the first.
        """
        judged, side = self.judged[id(process)], self.sides[name]
        young = process.born + side.ahead >= 0
        finished = [r for r in process.finished() if young or r.end > 0]
        found = truth(finished[: judged.traced + judged.bounded], self.slo)
        state = self.meter._engines[name].state
        models = state.traces.models.values()
        carried = sum(len(model.carry.ahead) for model in models)
        for what, count in found.items():
            assert judged.lower.get(what, 0) - carried <= count <= judged.upper.get(what, 0) + carried, (what, name)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_truth_is_within_what_spans_and_histograms_say_at_every_post(block):
    traced = bounded = 0
    for seed in range(block * RUNS_PER_BLOCK, (block + 1) * RUNS_PER_BLOCK):
        run = Run(seed)
        judged = sum(one.traced + one.bounded for one in run.judged.values())
        assert judged == run.outcomes, seed  # every finished request once
        assert run.vanished == 0
        traced += sum(one.traced for one in run.judged.values())
        bounded += sum(one.bounded for one in run.judged.values())
    assert traced > bounded / 4
