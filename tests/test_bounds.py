"""Goodput bounds hold on thousands of random workloads whose every request is known."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass, field

import pytest
from inferometer.economics.goodput import judge
from inferometer.interval import Meter, Watch, Watched
from inferometer.interval.marks import merge
from inferometer.model import Batch, EngineSignal, Histogram, Interval, Key, Stratum

INF = float("inf")
EDGES = {
    "ttft": (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, INF),
    "tpot": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, INF),
    "e2e": (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, INF),
}
THRESHOLDS = {"ttft": (0.25, 0.5, 1.0, 0.3, 0.66), "tpot": (0.05, 0.025, 0.1, 0.04), "e2e": (2.0, 5.0, 10.0, 3.3, 7.0)}


@dataclass
class Request:
    """One request as its client saw it; times on the wall clock."""

    scheduled: float
    first: float
    end: float
    tokens: int
    outcome: str
    ttft: float
    e2e: float

    @property
    def tpot(self) -> float:
        return (self.e2e - self.ttft) / (self.tokens - 1) if self.tokens > 1 else 0.0

    def good(self, slo: dict[str, float]) -> bool:
        met = {"ttft": self.ttft, "tpot": self.tpot, "e2e": self.e2e}
        return self.outcome == "ok" and all(met[name] <= limit for name, limit in slo.items())


@dataclass
class Process:
    """One life of an engine: nothing of it is on any page after ``dies``."""

    born: float
    dies: float
    requests: list[Request] = field(default_factory=list)


def workload(rng: random.Random) -> tuple[list[list[Process]], float]:
    """One to three engines with their requests; returns them and the length in seconds."""
    seconds = rng.choice((20.0, 60.0, 150.0, 400.0))
    engines = []
    for _ in range(rng.randint(1, 3)):
        deaths = sorted(rng.uniform(0, seconds) for _ in range(rng.choice((0, 0, 1, 2))))
        processes, born = [], -rng.uniform(0, 30)
        for dies in [*deaths, INF]:
            processes.append(Process(born, dies))
            born = dies + rng.uniform(0.5, 3)
        rate, busy = rng.choice((0.1, 0.5, 1.0, 4.0)), rng.uniform(0.3, 4)
        pauses = rng.random() < 0.5
        for process in processes:
            at = process.born
            while (at := at + rng.expovariate(rate)) < min(process.dies, seconds):
                if not (pauses and int(at / 10) % 2):
                    process.requests.append(request(rng, at, busy))
        engines.append(processes)
    return engines, seconds


def request(rng: random.Random, at: float, busy: float) -> Request:
    queued = rng.choice((0.0, rng.expovariate(5 / busy)))
    ttft = queued + rng.lognormvariate(-1.5, 1.0) * busy
    tokens = rng.choice((1, rng.randint(2, 200)))
    e2e = ttft + (tokens - 1) * rng.lognormvariate(-3.2, 0.6) * busy / 2
    outcome = rng.choices(("ok", "error", "aborted", "vanished"), (90, 2, 2, 6))[0]
    if outcome == "vanished":  # the client hangs up, perhaps before the first token
        e2e = rng.uniform(0, e2e)
    return Request(at + queued, at + ttft, at + e2e, tokens, outcome, ttft, e2e)


def page(process: Process, engine: str, at: float) -> EngineSignal:
    """What a vLLM of this process shows at an instant."""
    counters = dict.fromkeys(("finished_ok", "finished_error", "finished_aborted", "http_ended", "parents_finished"), 0)
    seen: dict[str, list[float]] = {"ttft": [], "tpot": [], "e2e": []}
    running = waiting = 0
    for r in process.requests:
        arrived = r.first - r.ttft
        vanished = r.outcome == "vanished"
        if r.first <= at and not (vanished and r.end < r.first):
            seen["ttft"].append(r.ttft)
        if arrived <= at < r.end:
            running += r.scheduled <= at
            waiting += r.scheduled > at
        if r.end <= at:
            counters["http_ended"] += 1
            if not vanished:
                counters["parents_finished"] += 1
                counters[f"finished_{r.outcome}"] += 1
                seen["tpot"].append(r.tpot)
                seen["e2e"].append(r.e2e)
    return EngineSignal(
        engine,
        at,
        kind="vllm",
        process_start=process.born,
        counters={Key(name, "m", name): float(value) for name, value in counters.items()},
        histograms={Key(name, "m", name): histogram(EDGES[name], values) for name, values in seen.items()},
        gauges={("running", "m"): float(running), ("waiting", "m"): float(waiting)},
        vital=(at,),
    )


def histogram(edges: tuple[float, ...], values: list[float]) -> Histogram:
    counts = [0] * len(edges)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    for i in range(1, len(counts)):
        counts[i] += counts[i - 1]
    return Histogram(edges, tuple(map(float, counts)), sum(values))


class Truth:
    """Finished requests of every process in the order of their ends: strata use them up in that order."""

    def __init__(self, engines: list[list[Process]]) -> None:
        self._ended = {
            id(process): sorted((r for r in process.requests if r.outcome != "vanished"), key=lambda r: r.end)
            for engine in engines
            for process in engine
        }
        for engine in engines:  # what ended before the first page is not the agent's
            self.used(engine[0], sum(r.end <= 0 for r in self._ended[id(engine[0])]))

    def used(self, process: Process, count: int) -> list[Request]:
        ended = self._ended[id(process)]
        self._ended[id(process)] = ended[count:]
        return ended[:count]


def run(rng: random.Random) -> tuple[dict[str, float], list[tuple[int, Stratum, int]]]:
    """Read a random workload: its SLO, and every posted stratum with its process and its truth."""
    engines, seconds = workload(rng)
    slo = {name: rng.choice(values) for name, values in THRESHOLDS.items() if rng.random() < 0.8} or {"ttft": 0.5}
    by_name = {f"e{i}": engine for i, engine in enumerate(engines)}
    meter = Meter([Watch("w", tuple(Watched(name, 1.0) for name in by_name))], 5.0)
    truth = Truth(engines)
    posted: list[tuple[int, Stratum, int]] = []

    def take(intervals: list[Interval]) -> None:
        for interval in intervals:
            for stratum in interval.strata:
                process = alive(by_name[interval.engine], stratum.began)
                ended = truth.used(process, int(stratum.finished))
                posted.append((id(process), stratum, sum(r.good(slo) for r in ended)))

    at, step = 0.0, rng.choice((0.2, 1.0, 5.0, 15.0))
    while at < seconds:
        processes = {name: alive(engine, at) for name, engine in by_name.items()}
        signals = [page(p, name, at) if p else EngineSignal(name, at, "refused") for name, p in processes.items()]
        meter.add(Batch(at, at), signals)
        take(meter.due(at))
        at += rng.uniform(0.5, 1.5) * step
    take(meter.finish(at))
    return slo, posted


def alive(engine: list[Process], at: float) -> Process | None:
    return next((p for p in engine if p.born <= at < p.dies), None)


def whole_run(strata: list[Stratum]) -> Stratum:
    """The strata of one process as one."""
    one = Stratum("m", strata[0].began, in_flight=strata[0].in_flight, carried=strata[0].carried)
    for stratum in strata:
        one.ok += stratum.ok
        one.failed += stratum.failed
        one.rejected += stratum.rejected
        one.vanished += stratum.vanished
        for name, observed in stratum.latencies.items():
            merge(one.latencies, name, observed)
    return one


if __name__ == "__main__":
    bad = wider = 0
    flights = 0; over=[]; SO=SW=0
    n = 0
    for seed in range(700):
        slo, posted = run(random.Random(seed))
        for _, stratum, truth in posted:
            n += 1
            good = judge(stratum, slo).good
            bad += not good.lower <= truth <= good.upper
        width = lambda s: (lambda g: g.upper - g.lower)(judge(s, slo).good)
        groups = {}
        for process, stratum, _ in posted:
            groups.setdefault(process, []).append(stratum)
        ours = sum(width(s) for _, s, _ in posted)
        ones = sum(width(whole_run(g)) for g in groups.values())
        fl = sum(s.in_flight for g in groups.values() for s in g[1:])
        flights += fl > 0
        if ours > ones + 1e-9:
            wider += 1
            over.append((ours-ones)/fl)
        SO+=ours; SW+=ones
        assert ours<=ones+2*fl, (seed,ours,ones,fl)
    print("strata", n, "bad", bad, "wider", wider, "with flight", flights, SO, SW, max(over))
