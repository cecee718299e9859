"""Any pages in any order, from the text to the money: no number is negative or none, and every cent is accounted for."""

from __future__ import annotations

import math
from collections import defaultdict

from fuzz.draw import Draw
from fuzz.engines import ADAPTERS, Engine
from fuzz.messages import READER, export
from inferometer import adapters
from inferometer.economics import Policy, Slo, settle
from inferometer.economics.prices import Rented, Step
from inferometer.interval import Hold, Meter, Watch, Watched
from inferometer.model import Batch, Gpu, GpuReading, Page, Request, Traced
from inferometer.sources.otlp.decode import decode
from inferometer.sources.page import PageParser

LENGTH = 200
RATE = 3.6
START = 1000.0
SLO = {"ttft": 0.5, "tpot": 0.05, "e2e": 10.0}
POLICY = Policy("w", Rented((Step(0, RATE),)), slo=Slo(SLO))
WATCH = Watch("w", (Watched("e", 2.0), Watched("f", 1.0, traced=True)), holds=(Hold("GPU-0", 1.0),), limits={"": SLO})
WANTED = adapters.wanted(ADAPTERS)


def seeds():
    """Decisions of all kinds, and mostly pages that grow."""
    yield bytes(range(256)) * 2
    yield bytes([0, 0, 1, 2, 9, 3, 9]) * 60
    yield bytes([3, 5, 40, 1, 2]) * 50


def check(data):
    """A scene of up to twenty batches."""
    scene = Scene(Draw(data))
    scene.play()
    if faults := Meter((WATCH,), 5.0).restore(scene.marks, 0.0):
        raise AssertionError(faults)
    scene.settle(scene.meter.finish(scene.at))
    conserved(scene.sums, scene.at - START, held=3.0)


class Scene:
    """Two engines, a GPU and the meter; ``sums``: all that was settled; ``marks``: what a ledger would have."""

    def __init__(self, draw, meter=None) -> None:
        self.draw, self.at = draw, START
        self.meter = meter or Meter((WATCH,), 5.0)
        self.sums, self.marks = defaultdict(float), {}
        self.engines = {"e": Engine(), "f": Engine(2000.0)}
        self._parsers = {name: PageParser(WANTED) for name in self.engines}
        self._translators = {name: adapters.Translator(name, ADAPTERS) for name in self.engines}
        self.step([])

    def play(self, most=20):
        """Batches as the draw has them."""
        for _ in range(most):
            if not self.draw.more:
                break
            self.at += self.draw.below(16) / 2 if self.draw.byte() & 15 else 2000.0
            self.step(self._signals())

    def step(self, signals):
        """One batch."""
        self.meter.add(Batch(self.at, self.at), signals)
        self.settle(self.meter.due(self.at))
        self.marks |= self.meter.marks()

    def settle(self, intervals):
        """Settle and add up."""
        for interval in intervals:
            entry = settle(interval, POLICY)
            for account, amount in entry.amounts.items():
                if not 0 <= amount < math.inf:
                    raise AssertionError((account, amount))
                self.sums[account] += amount
            for account, histogram in entry.histograms.items():
                counts = histogram.counts
                if (
                    list(counts) != sorted(counts)
                    or not all(0 <= c < math.inf for c in counts)
                    or not 0 <= histogram.sum < math.inf
                ):
                    raise AssertionError((account, histogram))

    def _signals(self):
        draw = self.draw
        name, kind = draw.choose(("e", "f")), draw.below(10)
        if kind == 0:
            return []
        if kind == 1:
            return [self._translators[name](Page(name, self.at, draw.choose(("refused", "timeout", "truncated"))))]
        if kind == 2:
            joules, watts = (draw.choose((0.0, 1.0, 1e14, float(draw.below(65536)))) for _ in range(2))
            return [GpuReading("nvml", self.at, gpus=(Gpu("GPU-0", 0, energy_joules=joules, power_watts=watts),))]
        if kind == 3:
            found = decode(export(draw), lambda _: READER, self.at).requests
            return [Traced(name, self.at, tuple(request for _, request in found if isinstance(request, Request)))]
        for _ in range(draw.below(4)):
            self.engines[name].turn(draw)
        page = self._parsers[name].parse(self.engines[name].page().encode())
        return [self._translators[name](Page(name, self.at, "", page.layout, page.values, page.malformed))]


def conserved(sums, seconds, held):
    """Time held = the clock's; money = time x price = what tokens and idleness cost."""
    found = defaultdict(float)
    for (name, _), amount in sums.items():
        found[name] += amount
    time = found["inferometer_gpu_seconds_total"] + found["inferometer_unaccounted_gpu_seconds_total"]
    money = found["inferometer_cost_total"]
    pairs = (
        (time, seconds * held),
        (money, found["inferometer_gpu_seconds_total"] * RATE / 3600),
        (money, found["inferometer_token_cost_total"]),
    )
    for ours, theirs in pairs:
        if not math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9):
            raise AssertionError(pairs)
