"""The laws of the totals, on any sequence of pages, restarts, resets, gaps and deaths of the agent.

The world below keeps its own account of what was held, metered and shown; it reads nothing back from the agent.
All times are multiples of 1/8 s, so that sums of them are exact in floats.
"""

from __future__ import annotations

import math
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.economics import Policy, Slo, Windows, ratios, settle
from inferometer.economics.prices import Electricity, Owned, Rented, Step, Training, held
from inferometer.exposition import catalog
from inferometer.interval import Hold, Meter, Watch, Watched
from inferometer.model import Account, Batch, EngineSignal, Gpu, GpuReading, Histogram, Interval, Key
from readings import signal_of

START = 1_774_745_000.0  # unix seconds: 17 min before Berlin's clock jumps
INF = float("inf")
LAYOUTS = ((0.1, 0.5, INF), (0.5, 2.0, INF))
HELD = {"a": {"a0": 2.0, "a1": 0.5}, "b": {"b0": 1.0}, "c": {"": 4.0}}
SHARES = {"GPU-0": {"a": 1.0, "c": 0.5}, "GPU-1": {"a": 1.0, "b": 0.25}}


@dataclass(frozen=True)
class Shape:
    """How workload a serves: the roles of its engines; ``phased``: engines whose pages have busy seconds by phase."""

    roles: tuple[str, str] = ("both", "both")
    phased: frozenset[str] = frozenset()

    def watches(self) -> tuple[Watch, ...]:
        a0, a1 = (Watched(f"a{i}", (2.0, 0.5)[i], role=role) for i, role in enumerate(self.roles))
        return (
            Watch("a", (a0, a1), holds=(Hold("GPU-0", 1.0), Hold("GPU-1", 1.0))),
            Watch("b", (Watched("b0", 1.0),), holds=(Hold("GPU-1", 0.25),)),
            Watch("c", (), gpus=4.0, holds=(Hold("GPU-0", 0.5),)),
        )

    def counts(self, name: str) -> tuple[bool, bool]:
        """Whether an engine's page is the one that counts input, and output (design §5, role)."""
        role = self.roles[int(name[1])] if name[0] == "a" else "both"
        if name[0] == "a" and "frontend" in self.roles:
            return (role == "frontend",) * 2
        return role != "decode", role != "prefill"


@dataclass
class Engine:
    """A server and its counters. ``tells``: its page has the start time of its process; ``phased``: see Shape."""

    born: float
    tells: bool
    phased: bool = False
    tokens: int = 0
    finished: int = 0
    layout: int = 0
    slow: int = 0

    def restart(self, now: float) -> None:
        self.born, self.tokens, self.finished, self.slow, self.layout = now, 0, 0, 0, 1 - self.layout

    def page(self, name: str, at: float) -> EngineSignal:
        """Two prompt tokens, one of them cached, for each output token."""
        model = f"model-{name}"
        counters = {"prompt_tokens": 2 * self.tokens, "cached_tokens": self.tokens, "output_tokens": self.tokens}
        counters["finished_output_tokens"] = self.tokens // 2
        if self.phased:
            counters |= {"finished": self.finished, "finished_aborted": self.finished // 3}
            counters |= {"prefill_seconds": self.tokens / 64, "decode_seconds": self.tokens / 16}
        else:
            counters["finished_ok"] = self.finished
        counts = (float(self.tokens // 4), float(self.tokens // 4), float(self.tokens // 4 + self.slow))
        return signal_of(
            name,
            at,
            process_start=self.born if self.tells else None,
            counters={Key(signal, model, signal): float(value) for signal, value in counters.items()},
            histograms={Key("ttft", model, "ttft"): Histogram(LAYOUTS[self.layout], counts, counts[2] / 4)},
            gauges={("running", model): float(self.tokens % 2)},
            vital=(float(self.tokens),),
            phase_groups=2 * self.phased,
        )


@dataclass
class Witness:
    """What readings have shown so far: joules by workload, tokens by engine."""

    counters: dict[str, float] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=lambda: dict.fromkeys(HELD, 0.0))
    pages: dict[str, tuple[float, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def see_meters(self, meters: dict[str, float]) -> None:
        for uuid, value in meters.items():
            old = self.counters.get(uuid, value)
            for workload, share in SHARES[uuid].items():
                self.joules[workload] += share * (value - old if value >= old else value)
            self.counters[uuid] = value

    def see_page(self, name: str, engine: Engine) -> None:
        born, before = self.pages.get(name, (engine.born, engine.tokens))
        is_new = engine.born != born if engine.tells else engine.tokens < before
        self.tokens[name] += engine.tokens if is_new else engine.tokens - before
        self.pages[name] = (engine.born, engine.tokens)


class World:
    """Engines, GPUs and an agent that may be killed between any two commits."""

    def __init__(self, policies: dict[str, Policy], shape: Shape) -> None:
        self.shape = shape
        self.wall, self.ahead = START, 0.0
        self.policies = policies
        self.engines = {
            name: Engine(START - 60, tells=name != "a1", phased=name in shape.phased, tokens=8)
            for name in ("a0", "a1", "b0")
        }
        self.meters = {"GPU-0": 5e6, "GPU-1": 7e6}
        self.witness, self.committed = Witness(), Witness()
        self.totals: dict[Account, float] = defaultdict(float)
        self.marks: dict[str, bytes] = {}
        self.intervals: list[Interval] = []
        self.smallest, self.faults = 0.0, set[str]()
        self.windows = Windows((60.0, 3600.0))
        self.meter = Meter(self.shape.watches(), 5.0)
        for seconds in (0.0, 1.0):
            self.batch(seconds, dict.fromkeys(self.engines, "page"), reads_gpus=True, killed=False)

    def batch(self, seconds: float, actions: dict[str, str], *, reads_gpus: bool, killed: bool) -> None:
        """Time passes, things happen, one batch arrives; a killed agent dies before it commits."""
        self.wall += seconds
        at = self.wall - self.ahead
        signals: list[EngineSignal | GpuReading] = []
        if reads_gpus:
            gpus = tuple(Gpu(uuid, i, energy_joules=joules) for i, (uuid, joules) in enumerate(self.meters.items()))
            signals.append(GpuReading("nvml", at, gpus=gpus))
            self.witness.see_meters(self.meters)
        for name, action in actions.items():
            engine = self.engines[name]
            if action == "restart":
                engine.restart(self.wall)
            elif action == "slip" and engine.tells:
                engine.finished //= 2
            if action in {"timeout", "refused"}:
                signals.append(EngineSignal(name, at, action))
            else:
                signals.append(engine.page(name, at))
                self.witness.see_page(name, engine)
        self.meter.add(Batch(at, self.wall), signals)
        intervals = self.meter.due(at)
        if killed:
            self.rise_again(1.0, self.ahead)
        elif intervals:
            self.commit(intervals)

    def rise_again(self, away: float, ahead: float) -> None:
        """What was not committed is gone; a new agent on a clock of its own goes on from the marks."""
        self.wall += away
        self.ahead = ahead
        self.witness = deepcopy(self.committed)
        self.meter = Meter(self.shape.watches(), 5.0)
        self.meter.restore(self.marks, ahead)

    def commit(self, intervals: list[Interval]) -> None:
        entries = [settle(interval, self.policies[interval.workload]) for interval in intervals]
        self.marks.update(self.meter.marks())
        self.committed = deepcopy(self.witness)
        self.intervals += intervals
        for entry in entries:
            for account, amount in entry.amounts.items():
                self.totals[account] += amount
            amounts = [number for h in entry.histograms.values() for number in (*h.counts, h.sum)]
            self.smallest = min(self.smallest, *entry.amounts.values(), *amounts)
            self.faults |= {catalog.fault(account) for account in (*entry.amounts, *entry.histograms)}
        self.windows.post(entries)
        self.windows.keep()
        for workload, window, seconds, grown in self.windows.changes():
            found = ratios(workload, window, seconds, grown)
            self.faults |= {catalog.fault(account) for account in found}
            assert all(math.isfinite(value) for value in found.values())

    def finish(self) -> None:
        """Every engine answers once more, then the account is closed."""
        self.batch(1.0, dict.fromkeys(self.engines, "page"), reads_gpus=True, killed=False)
        self.commit(self.meter.finish(self.wall - self.ahead))

    def sum(self, name: str, *labels: str) -> float:
        """The sum over a metric's accounts whose labels begin with these."""
        name = f"inferometer_{name}_total"
        return math.fsum(v for (n, values), v in self.totals.items() if n == name and values[: len(labels)] == labels)


EIGHTH = 0.125
ACTIONS = st.sampled_from(("page", "page", "page", "timeout", "refused", "restart", "slip"))
PAUSES = st.sampled_from((0, 1, 8, 40, 40, 40, 79, 81, 400, 8 * 1000)).map(lambda eighths: eighths * EIGHTH)
BATCH = st.fixed_dictionaries(
    {
        "pause": PAUSES,
        "grow": st.lists(st.integers(0, 50), min_size=3, max_size=3),
        "actions": st.dictionaries(st.sampled_from(("a0", "a1", "b0")), ACTIONS, max_size=3),
        "watts": st.integers(0, 700),
        "driver_reloads": st.sampled_from((False, False, False, True)),
        "reads_gpus": st.booleans(),
        "killed": st.sampled_from((False, False, False, False, True)),
    }
)
AWAY = st.fixed_dictionaries(
    {
        "away": st.integers(1, 8 * 5000).map(lambda quarters: quarters * 2 * EIGHTH),
        "ahead": st.integers(-8 * 10**6, 8 * 10**6).map(lambda eighths: eighths * EIGHTH),
        "reborn": st.sets(st.sampled_from(("a0", "a1", "b0"))),
    }
)
RATES = st.floats(0.01, 50)
NEAR = st.integers(104, 104 + 60)  # the minutes after START on Berlin's clock, most of them skipped by its jump
RENTED = st.dictionaries(st.one_of(NEAR, st.integers(0, 1439)), RATES, min_size=1, max_size=4).map(
    lambda rates: Rented(tuple(Step(minute, rates[minute]) for minute in sorted(rates)), ZoneInfo("Europe/Berlin"))
)
OWNED = st.builds(Owned, server=st.floats(1e3, 1e6), gpus=st.just(8), years=st.floats(1, 6), metered=st.booleans(),
                  software=st.floats(0, 1e5), hosting=st.floats(0, 1e5), other=st.floats(0, 1e5))  # fmt: skip
POLICY = st.fixed_dictionaries(
    {
        "price": st.one_of(RENTED, OWNED),
        "electricity": st.one_of(st.none(), st.builds(Electricity, st.floats(0.01, 1), st.floats(1, 2))),
        "training": st.one_of(st.none(), st.builds(Training, st.floats(1, 1e5), st.floats(86_400, 1e7))),
        "slo": st.sampled_from((None, Slo({"ttft": 0.5}), Slo({"ttft": 0.3, "e2e": 1.0}))),
        "rates": st.sampled_from((None, (20_000.0, 2_500.0))),
    }
)
ROLE = st.sampled_from(("both", "prefill", "decode", "frontend"))
SHAPE = st.builds(Shape, st.tuples(ROLE, ROLE), st.frozensets(st.sampled_from(("a0", "a1", "b0"))))


def lived(policies: dict[str, Policy], events: list[dict[str, object]], shape: Shape = Shape()) -> World:
    """A world after these events and a last round of pages."""
    world = World(policies, shape)
    for event in events:
        if "away" in event:
            for name in event["reborn"]:
                world.engines[name].restart(world.wall + event["away"] / 2)
            world.rise_again(event["away"], event["ahead"])
            continue
        for engine, amount in zip(world.engines.values(), event["grow"], strict=True):
            engine.tokens, engine.finished = engine.tokens + 4 * amount, engine.finished + amount
            engine.slow += amount // 3
        for uuid in world.meters:
            world.meters[uuid] = (0.0 if event["driver_reloads"] else world.meters[uuid]) + event["watts"] * event[
                "pause"
            ]
        pause = max(event["pause"], 2.0) if "restart" in event["actions"].values() else event["pause"]
        world.batch(pause, event["actions"], reads_gpus=event["reads_gpus"], killed=event["killed"])
    world.finish()
    return world


def stretches(world: World, workload: str, engine: str) -> tuple[float, list[tuple[float, float]]]:
    """When an engine's account begins, and its lost stretches as (end, seconds); what is settled must leave no hole."""
    until, lost = START, []
    for interval in world.intervals:
        if (interval.workload, interval.engine) == (workload, engine):
            hole = interval.until - interval.seconds - until
            if hole:
                assert interval.unaccounted_seconds == hole * interval.gpus
                lost.append((interval.until - interval.seconds, hole))
            until = interval.until
    assert until == world.wall
    return START, lost


def owed(world: World, workload: str) -> float:
    """Price × time held, and the tariff × metered facility energy, by the world's own account."""
    policy = world.policies[workload]
    money = []
    for engine, gpus in HELD[workload].items():
        start, lost = stretches(world, workload, engine)
        paid = sum(held(policy.price, world.wall, world.wall - start).values())
        money.append(gpus * (paid - math.fsum(sum(held(policy.price, *stretch).values()) for stretch in lost)))
        if policy.training is not None:
            seconds = world.wall - start - math.fsum(seconds for _, seconds in lost)
            part = gpus / sum(HELD[workload].values())
            money.append(policy.training.amount / policy.training.seconds * seconds * part)
    if isinstance(policy.price, Owned) and policy.price.metered and policy.electricity is not None:
        power = policy.electricity
        money.append(world.witness.joules[workload] / 3.6e6 * power.pue * power.per_kwh)
    return math.fsum(money)


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.lists(POLICY, min_size=3, max_size=3), st.lists(st.one_of(BATCH, BATCH, BATCH, AWAY), max_size=25), SHAPE)
def test_laws_of_the_totals(policies: list[dict[str, object]], events: list[dict[str, object]], shape: Shape) -> None:
    """Money, time, joules and tokens: each counted once, whatever happens to engines, GPUs and the agent."""
    world = lived({name: Policy(name, **policy) for name, policy in zip(HELD, policies, strict=True)}, events, shape)
    assert world.smallest >= 0
    assert world.faults <= {""}
    for workload, engines in HELD.items():
        bill = world.sum("cost", workload)
        assert bill == about(owed(world, workload))
        assert world.sum("token_cost", workload) == about(bill)
        assert world.sum("energy_joules", workload, "gpu") == about(world.witness.joules[workload])
        settled = {engine: math.fsum(i.seconds for i in world.intervals if (i.workload, i.engine) == (workload, engine))
                   for engine in engines}  # fmt: skip
        assert world.sum("gpu_seconds", workload) == about(math.fsum(g * settled[e] for e, g in engines.items()))
        lost = {e: math.fsum(seconds for _, seconds in stretches(world, workload, e)[1]) for e in engines}
        assert world.sum("unaccounted_gpu_seconds", workload) == about(
            math.fsum(g * lost[e] for e, g in engines.items())
        )
        accounted = world.meter.settled_until()[workload] - world.meter.watched_since[workload]
        assert [settled[engine] + lost[engine] for engine in engines] == [about(accounted)] * len(engines)
    for name in world.engines:
        counts_input, counts_output = shape.counts(name)
        for kind in ("input_uncached", "input_cached", "output"):
            counted = world.sum("tokens", name[0], name, f"model-{name}", kind)
            due = counts_output if kind == "output" else counts_input
            assert counted == world.witness.tokens[name] * due, (name, kind)
        if not counts_output:
            assert world.sum("requests", name[0], name) == 0
            assert world.sum("slo_requests", name[0], f"model-{name}") == 0


def test_the_world_is_not_always_quiet() -> None:
    """The laws above are tested on something: a life with a loss, a restart, a reset and joules of every workload."""
    policy = {name: Policy(name, Rented((Step(0, 1.0),)), slo=Slo({"ttft": 0.5})) for name in HELD}
    quiet = {"pause": 5.0, "grow": [9, 9, 9], "actions": dict.fromkeys(("a0", "a1", "b0"), "page"), "watts": 300,
             "driver_reloads": False, "reads_gpus": True, "killed": False}  # fmt: skip
    away = {"away": 4000.0, "ahead": 77.0, "reborn": {"b0"}}
    shape = Shape(("prefill", "decode"), frozenset({"b0"}))
    events = [quiet, quiet, away, {**quiet, "driver_reloads": True}, {**quiet, "killed": True}, quiet]
    world = lived(policy, events, shape)
    assert world.sum("unaccounted_gpu_seconds", "b") == 2000
    assert world.sum("unaccounted_gpu_seconds", "c") == 4 * (4000 + 5 - 900)
    assert world.sum("resets", "b0") == 1
    assert world.sum("slo_requests") > 0
    assert min(world.witness.joules.values()) > 0
    assert world.sum("gpu_seconds", "a", "a0", "busy") > 0
    assert 0 < world.sum("gpu_seconds", "b", "b0", "idle") < world.sum("gpu_seconds", "b", "b0")
    methods = {
        (labels[0], labels[-1]) for (name, labels), money in world.totals.items() if "token_cost" in name and money
    }
    assert methods >= {("a", "pool"), ("b", "gpu_time"), ("c", "none")}
