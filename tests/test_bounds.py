"""Goodput bounds hold on thousands of random workloads whose every request is known (formulas §7.4).

The truth of every posted increment lies within its bounds, and cutting a run into strata costs no more than what is
in flight where it is cut.
"""

import random
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

import pytest
from inferometer.economics.goodput import judge
from inferometer.interval import Meter, Watch, Watched
from inferometer.interval.marks import merge
from inferometer.model import Batch, EngineSignal, Histogram, Key, Stratum, Traits

BLOCKS, RUNS_PER_BLOCK = 20, 100
INF = float("inf")
EDGES = {  # vLLM's
    "ttft": (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
             80.0, 160.0, 640.0, 2560.0, INF),
    "tpot": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
             80.0, INF),
    "e2e": (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
            960.0, 1920.0, 7680.0, INF),
}  # fmt: skip
THRESHOLDS = {  # on edges and off
    "ttft": (0.25, 0.5, 1.0, 0.3, 0.66),
    "tpot": (0.05, 0.025, 0.1, 0.04),
    "e2e": (2.0, 5.0, 10.0, 3.3, 7.0),
}
FINISHED = ("ok", "error", "aborted")


@dataclass
class Request:
    """One request; times on the wall clock, latencies in seconds as its client saw them.

    ``waits``: from when to when it does not run, at its start and, when it is preempted, once more.
    """

    arrived: float
    waits: list[tuple[float, float]]
    end: float
    tokens: int
    outcome: str
    ttft: float
    e2e: float

    @property
    def tpot(self):
        return (self.e2e - self.ttft) / (self.tokens - 1) if self.tokens > 1 else 0.0

    def met(self, slo, limit):
        return self.outcome == "ok" and getattr(self, slo) <= limit


@dataclass
class Process:
    """One life of an engine: nothing of it is on any page after ``dies``."""

    born: float
    dies: float
    requests: list[Request] = field(default_factory=list)

    def finished(self):
        """The requests with an outcome, in the order of their ends: strata use them up in that order."""
        return sorted((r for r in self.requests if r.outcome in FINISHED), key=lambda r: r.end)


def workload(rng):
    """One to three engines, each as its processes, and the length in seconds."""
    seconds = rng.choice((20.0, 60.0, 150.0, 400.0))
    engines = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        processes, born = [], -rng.uniform(0, 30)
        for dies in [*sorted(rng.uniform(0, seconds) for _ in range(rng.choice((0, 0, 1, 2)))), INF]:
            processes.append(Process(born, dies))
            born = dies + rng.uniform(0.5, 3)
        rate, load, pauses = rng.choice((0.1, 0.5, 1.0, 4.0)), rng.uniform(0.3, 4), rng.random() < 0.5
        leaving = rng.choice((0, 6, 50))
        for process in processes:
            at = process.born
            while (at := at + rng.expovariate(rate)) < min(process.dies, seconds):
                if not (pauses and int(at / 10) % 2):
                    process.requests.append(request(rng, at, load, leaving))
        engines.append(processes)
    return engines, seconds


def request(rng, at, load, leaving):
    """A request that arrives at ``at``; its client leaves with a weight of ``leaving`` against 94."""
    queued = rng.choice((0.0, rng.expovariate(5 / load)))
    ttft = queued + rng.lognormvariate(-1.5, 1.0) * load
    tokens = rng.choice((1, rng.randint(2, 200)))
    e2e = ttft + (tokens - 1) * rng.lognormvariate(-3.2, 0.6) * load / 2
    outcome = rng.choices((*FINISHED, "vanished"), (90, 2, 2, leaving))[0]
    if outcome == "vanished":  # perhaps before the first token
        e2e = rng.uniform(0, e2e)
    waits = [(at, at + queued)]
    if ttft < e2e and rng.random() < 0.03:
        preempted = at + rng.uniform(ttft, e2e)
        waits.append((preempted, preempted + rng.uniform(0, 3)))
    return Request(at, waits, at + e2e, tokens, outcome, ttft, e2e)


class Pages:
    """The pages of one process, asked for in the order of time.

    ``failed_show``: failed requests leave latencies as well; ``traits`` tell whether those of one token leave a TPOT.
    """

    def __init__(self, process, engine, traits, *, failed_show):
        self._process, self._engine, self._traits = process, engine, traits
        self._now = dict.fromkeys(("running", "waiting", "http_ended", "parents_finished", *FINISHED), 0)
        self._seen = {name: [0] * len(edges) for name, edges in EDGES.items()}
        self._events = []
        for r in process.requests:
            self._happens(r, failed_show=failed_show)
        self._events.sort(reverse=True, key=lambda event: event[0])

    def _happens(self, r, *, failed_show):
        for since, until in r.waits:
            start = [("waiting", 1)] if since == r.arrived else [("waiting", 1), ("running", -1)]
            self._events.append((since, start, []))
            self._events.append((min(until, r.end), [("waiting", -1), ("running", 1)], []))
        if r.ttft <= r.e2e:
            self._events.append((r.arrived + r.ttft, [], [("ttft", r.ttft)]))
        changes, shows = [("running", -1), ("http_ended", 1)], []
        if r.outcome in FINISHED:
            changes += [(r.outcome, 1), ("parents_finished", 1)]
        if r.outcome == "ok" or (failed_show and r.outcome in FINISHED):
            shows.append(("e2e", r.e2e))
            if r.tokens > 1 or self._traits.single_token_has_tpot:
                shows.append(("tpot", r.tpot))
        self._events.append((r.end, changes, shows))

    def __call__(self, at):
        """The page at an instant."""
        now = self._now
        while self._events and self._events[-1][0] <= at:
            _, changes, shows = self._events.pop()
            for name, change in changes:
                now[name] += change
            for name, value in shows:
                self._seen[name][bisect_left(EDGES[name], value)] += 1
        counters = {f"finished_{name}": now[name] for name in FINISHED}
        counters |= {name: now[name] for name in ("http_ended", "parents_finished")}
        return EngineSignal(
            self._engine,
            at,
            process_start=self._process.born,
            counters={KEYS[name]: float(value) for name, value in counters.items()},
            histograms={
                KEYS[name]: Histogram(EDGES[name], tuple(map(float, accumulate(counts))))
                for name, counts in self._seen.items()
            },
            gauges={(name, "m"): float(now[name]) for name in ("running", "waiting")},
            vital=(at,),
            traits=self._traits,
        )


KEYS = {
    name: Key(name, "m", name)
    for name in (*(f"finished_{outcome}" for outcome in FINISHED), "http_ended", "parents_finished", *EDGES)
}


@dataclass
class Run:
    """What came of one workload: its SLO, and by process the posted strata with the requests that finished in each.

    ``unused``: by process the finished requests that no stratum has yet.
    """

    slo: dict[str, float]
    unused: dict[int, list[Request]]
    posted: dict[int, list[tuple[Stratum, list[Request]]]] = field(default_factory=dict)

    def take(self, process, stratum):
        """Give a stratum the next finished requests of its process."""
        unused, count = self.unused[id(process)], int(stratum.finished)
        self.posted.setdefault(id(process), []).append((stratum, unused[:count]))
        self.unused[id(process)] = unused[count:]


def run(seed):
    """Read a random workload through the meter."""
    rng = random.Random(seed)
    engines, seconds = workload(rng)
    slo = {name: rng.choice(values) for name, values in THRESHOLDS.items() if rng.random() < 0.8} or {"ttft": 0.5}
    result = Run(slo, {id(process): process.finished() for processes in engines for process in processes})
    for first, *_ in engines:  # what ended before the first page is not the agent's
        result.unused[id(first)] = [r for r in first.finished() if r.end > 0]
    names = {f"e{i}": processes for i, processes in enumerate(engines)}
    for interval in intervals(rng, names, seconds):
        for stratum in interval.strata:
            result.take(_alive(names[interval.engine], stratum.began), stratum)
    return result


def intervals(rng, names, seconds):
    """All that a meter makes of the engines' pages, read at random times."""
    traits, failed_show = Traits(single_token_has_tpot=rng.random() < 0.7), rng.random() < 0.7
    pages = {id(p): Pages(p, name, traits, failed_show=failed_show) for name, life in names.items() for p in life}
    meter = Meter([Watch("w", tuple(Watched(name, 1.0) for name in names))], 5.0)
    at, step = 0.0, rng.choice([step for step in (0.2, 1.0, 5.0, 15.0) if seconds / step <= 150])
    while at < seconds:
        alive = {name: _alive(life, at) for name, life in names.items()}
        meter.add(Batch(at, at), [pages[id(p)](at) if p else EngineSignal(n, at, "refused") for n, p in alive.items()])
        yield from meter.due(at)
        at += rng.uniform(0.5, 1.5) * step
    yield from meter.finish(at)


def _alive(processes, at):
    return next((p for p in processes if p.born <= at < p.dies), None)


def whole(strata):
    """The strata of one process as one."""
    first = strata[0]
    one = Stratum("m", first.began, in_flight=first.in_flight, carried=first.carried,
                  single_token_has_tpot=first.single_token_has_tpot)  # fmt: skip
    for stratum in strata:
        one.ok += stratum.ok
        one.failed += stratum.failed
        one.rejected += stratum.rejected
        one.vanished += stratum.vanished
        for name, observed in stratum.latencies.items():
            merge(one.latencies, name, observed)
    return one


def width(stratum, slo):
    good = judge(stratum, slo).good
    return good.upper - good.lower


def check_bounds(stratum, requests, slo):
    """The truth of one increment lies within its bounds: of every SLO, and of all together."""
    verdict = judge(stratum, slo)
    assert len(requests) == stratum.finished
    good = sum(all(r.met(name, limit) for name, limit in slo.items()) for r in requests)
    assert verdict.good.lower <= good <= verdict.good.upper
    for name, limit in slo.items():
        met = sum(r.met(name, limit) for r in requests)
        assert verdict.met[name].lower <= met <= verdict.met[name].upper, name


def check_width(strata, slo):
    """Strata are together no wider than one over the whole process, but for what was in flight between them."""
    lost = sum(stratum.in_flight for stratum in strata[1:])
    ours, single = sum(width(stratum, slo) for stratum in strata), width(whole(strata), slo)
    assert ours <= single + 2 * lost
    return lost > 0, ours > single


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_posted_increment_holds_and_strata_cost_no_more_than_what_is_in_flight_between_them(block):
    posted = cut = 0
    for seed in range(block * RUNS_PER_BLOCK, (block + 1) * RUNS_PER_BLOCK):
        result = run(seed)
        for strata in result.posted.values():
            for stratum, requests in strata:
                check_bounds(stratum, requests, result.slo)
            check_width([stratum for stratum, _ in strata], result.slo)
            posted += len(strata)
            cut += len(strata) > 1
    assert posted > 3 * RUNS_PER_BLOCK  # the workloads are worth their name
    assert cut > RUNS_PER_BLOCK / 3
