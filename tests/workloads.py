"""Random workloads of which every request is known, and the pages of their engines."""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

from inferometer.model import Histogram, Key
from readings import signal_of

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

    ``ahead``: by how much its clock is. ``failed_show``: failed requests leave latencies as well; ``traits`` tell
    whether those of one token leave a TPOT.
    """

    def __init__(self, process, engine, traits, *, failed_show, ahead=0.0):
        self._process, self._engine, self._traits, self._ahead = process, engine, traits, ahead
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
        return signal_of(
            self._engine,
            at,
            process_start=self._process.born + self._ahead,
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


def alive(processes, at):
    """The process that serves at an instant."""
    return next((p for p in processes if p.born <= at < p.dies), None)
