"""Readings of engines in one line each, and a meter that remembers all that it gave."""

from bisect import bisect_left
from itertools import accumulate

from inferometer.interval import Hold, Meter, Watch, Watched
from inferometer.model import Batch, EngineSignal, Gpu, GpuReading, Histogram, Key, Page, Traits, shaped

INF = float("inf")
EDGES = (0.1, 0.5, 1.0, INF)


def page(at, counters=None, *, engine="e", running=0, waiting=0, fds=None, seen=None, vital=None, **rest):
    """A page that was read whole.

    ``counters``: values by signal, or by (signal, model) or (signal, model, raw series). ``seen``: histograms likewise,
    each as a Histogram or as the observed seconds. ``vital`` changes with every page unless it is given.
    """
    gauges = {("running", "m"): float(running), ("waiting", "m"): float(waiting)}
    if fds is not None:
        gauges["open_fds", ""] = float(fds)
    if "cached_in_prompt" in rest or "single_token_has_tpot" in rest:
        names = ("cached_in_prompt", "single_token_has_tpot")
        rest["traits"] = Traits(**{name: rest.pop(name) for name in names if name in rest})
    return signal_of(
        engine,
        at,
        kind="vllm",
        process_start=rest.pop("start", None),
        counters={_key(name): float(value) for name, value in (counters or {"prompt_tokens": 0}).items()},
        histograms={_key(name): value if isinstance(value, Histogram) else observed(value)
                    for name, value in (seen or {}).items()},
        gauges=gauges | rest.pop("gauges", {}),
        vital=(at,) if vital is None else vital,
        **rest,
    )  # fmt: skip


def signal_of(engine, at, counters=None, histograms=None, **rest):
    """A signal with these counters and histograms."""
    shape, numbers = shaped(counters or {}, histograms or {})
    return EngineSignal(engine, at, shape=shape, numbers=numbers, **rest)


def scraped(source, at, series):
    """A page as it was read, out of its series with their values."""
    layout, values = zip(*series, strict=True) if series else ((), ())
    return Page(source, at, layout=layout, values=values)


def no_page(at, error="refused", engine="e"):
    """A reading that failed."""
    return EngineSignal(engine, at, error)


def observed(seconds, edges=EDGES):
    """The histogram of these observations."""
    counts = [0] * len(edges)
    for value in seconds:
        counts[bisect_left(edges, value)] += 1
    return Histogram(edges, tuple(map(float, accumulate(counts))), float(sum(seconds)))


def gpus(at, **joules):
    """A reading of GPUs by UUID; None where a GPU gives no energy."""
    return GpuReading("nvml", at, gpus=tuple(Gpu(uuid, 0, energy_joules=value) for uuid, value in joules.items()))


def watch(*engines, workload="w", held=1.0, uuids=(), share=1.0, **rest):
    """A workload whose engines hold ``held`` GPUs each, and a share of these GPUs' joules."""
    holds = tuple(Hold(uuid, share) for uuid in uuids)
    return Watch(workload, tuple(Watched(engine, held) for engine in engines), holds=holds, **rest)


class Follower:
    """A meter with everything it gave, and the marks that a ledger would have.

    ``ahead``: seconds by which the wall clock is ahead of the steady one.
    """

    def __init__(self, *watches, interval=5.0, ahead=0.0):
        self.meter = Meter(watches or (watch("e"),), interval)
        self.ahead = ahead
        self.given = []
        self.committed = {}

    def at(self, at, *signals):
        """One batch at this time; without signals it is a tick of the clock. Returns what it settled."""
        self.meter.add(Batch(at, at + self.ahead), signals)
        return self._take(self.meter.due(at))

    def read(self, *signals):
        """One batch per signal, at its own time. Returns what they settled."""
        return [interval for signal in signals for interval in self.at(signal.at, signal)]

    def finish(self, at):
        return self._take(self.meter.finish(at))

    def restarted(self, *watches, ahead=None):
        """The meter of the agent's next life, from the marks that this one committed."""
        later = Follower(*(watches or (watch("e"),)), interval=self.meter._interval)
        later.ahead = self.ahead if ahead is None else ahead
        later.committed = dict(self.committed)
        later.meter.restore(later.committed, later.ahead)
        return later

    def changes(self, model=None):
        return [change for i in self.given for name, change in i.models.items() if model in {None, name}]

    def tokens(self, kind=None, model=None):
        """Tokens of a type, or of all."""
        return sum(n for c in self.changes(model) for name, n in c.tokens.items() if kind in {None, name})

    def outcome(self, name, model=None):
        return sum(c.outcomes.get(name, 0.0) for c in self.changes(model))

    def wasted(self):
        return sum(c.wasted for c in self.changes())

    def observations(self, latency):
        return sum(c.latencies[latency].total for c in self.changes() if latency in c.latencies)

    def seconds(self, state=None, engine=None):
        return sum(i.seconds for i in self.given if state in {None, i.state} and engine in {None, i.engine})

    def total(self, name, workload=None, engine=None):
        """The sum of a field of the intervals, resets or unaccounted_seconds, or of their joules."""
        chosen = [i for i in self.given if workload in {None, i.workload} and engine in {None, i.engine}]
        return sum(i.joules() if name == "joules" else getattr(i, name) for i in chosen)

    def energy(self, workload=None):
        """Joules by component, state and method."""
        sums = {}
        for i in self.given:
            for where, joules in i.energy.items() if workload in {None, i.workload} else ():
                sums[where] = sums.get(where, 0.0) + joules
        return {where: joules for where, joules in sums.items() if joules}

    @property
    def strata(self):
        return [stratum for i in self.given for stratum in i.strata]

    def _take(self, intervals):
        self.given += intervals
        if intervals:
            self.committed |= self.meter.marks()
        return intervals


def _key(name):
    signal, *rest = (name,) if isinstance(name, str) else name
    model = rest[0] if rest else "m"
    return Key(signal, model, rest[1] if len(rest) > 1 else f"{signal}/{model}", *rest[2:])
