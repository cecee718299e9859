"""Wall clocks that are set, calendars and time zones: steady time counts, and money follows the local clock."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from chaos.answers import Answer
from chaos.laws import Laws
from chaos.little import Little
from chaos.rig import Rig
from chaos.timeline import Timeline
from inferometer.economics import Hours
from inferometer.economics.budget import Budget, bounds
from inferometer.economics.prices import Rented, Step, held
from inferometer.ledger import Ledger
from inferometer.model import Entry, Export, Request
from live import Page

START = 1_800_000_000.0
HOUR = 3600.0
COST = ("inferometer_cost_total", ("w", "gpu", "busy"))
ZONES = (
    "UTC", "Europe/Dublin", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham", "Africa/Casablanca", "America/Havana", "Asia/Beirut", "Antarctica/Troll",
)  # fmt: skip
CONFIG = """
interval: 5s
windows: [1m, 5m]
prices: {default: {gpu_hour: 3.6}}
gpu: {sources: [nvml]}
otlp: {}
workloads: [{name: w, gpus: 1, slo: {ttft: 1s}, engines: [{url: "http://h:1/metrics"}]}]
"""


class Town:
    """One engine that serves 5 requests in each reading."""

    def __init__(self, folder):
        (folder / "agent.yaml").write_text(CONFIG)
        self.clock, self.server, self.laws = Timeline(START), Little(START + 1), Laws()
        self.rig = Rig(folder / "agent.yaml", self.clock, self, **{"storage.path": str(folder / "ledger")})

    async def get(self, _url, _request, limit, *_tls):
        return Answer(self.server.page()).given(limit)

    async def beat(self, *more, serve=5):
        self.clock.now += 5.0
        self.server.serve("small", serve)
        await self.rig.beat(*more)
        self.laws.see(self.rig.agent.snapshot())
        return Page(self.rig.metrics())


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", ["steps of an hour", "slews", "years"])
def test_a_wall_clock_that_is_set_changes_no_count_and_no_rate(tmp_path, kind):
    """Forth and back: tokens, money and rates go on by steady time, and the two stamps tell how much money there is."""
    rng = random.Random(kind)

    async def live():
        town = Town(tmp_path)
        async with town.rig:
            await town.beat(serve=0)
            for number in range(60):
                if kind == "slews":
                    town.clock.offset += rng.uniform(-0.0025, 0.0025)
                elif number % 6 == 5:
                    town.clock.offset = rng.choice((-1, 0, 1)) * (HOUR if kind == "steps of an hour" else 5e7)
                page = await town.beat()
                assert page.sum("inferometer_tokens_total", type="output") == town.server.output_tokens
                cost = page.sum("inferometer_cost_total")
                assert cost == pytest.approx((town.clock.now - START - 5) / 1000, rel=1e-9)
                stamps = ("settled_until", "accounting_start")
                until, since = (page.sum(f"inferometer_{name}_timestamp_seconds") for name in stamps)
                assert cost == pytest.approx((until - since) / 1000, abs=1e-5 if kind == "slews" else 1e-8)
                for window in ("1m", "5m"):
                    rate = page.sum("inferometer_tokens_per_second", type="output", window=window)
                    assert number < 1 or rate == pytest.approx(120)
            town.clock.offset = 0.0
            town.server = Little(town.clock.wall() + 1)
            page = await town.beat()
            assert page.sum("inferometer_tokens_total", type="output") == 120 * 5 * 61, "it is younger than the agent"
            assert not town.laws.broken

    asyncio.run(live())


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_spans_that_are_sent_again_after_the_clock_was_set_count_once(tmp_path, step):
    async def live():
        town = Town(tmp_path)
        async with town.rig:
            await town.beat(serve=0)
            now = town.clock.wall()
            span = Request(bytes(range(24)), now - 3, now - 1, model="small", ttft=0.2, e2e=2.0)
            for _ in range(3):
                page = await town.beat(Export("otlp", town.clock.at(), requests=(({}, span),)))
                town.clock.offset += step
            counted = {row.labels["outcome"]: row.value for row in page.rows("inferometer_spans_total")}
            assert (counted["accepted"] + counted["skewed"], counted["duplicate"]) == (1, 2)

    asyncio.run(live())


def test_a_clock_that_is_years_ahead_for_hours_costs_no_history(tmp_path):
    wall = [START]
    ledger, hours = Ledger(tmp_path, "USD", wall=lambda: wall[0]), Hours(31 * 24 * HOUR)

    def post(at):
        wall[0] = at
        entry = Entry("w", at, {COST: 1.0})
        asyncio.run(ledger.post([entry], {}))
        hours.post([entry])

    for number in range(200):
        post(START + number * HOUR)
    for number in range(3):
        post(START + 3e8 + number * HOUR)
    post(START + 203 * HOUR)
    kept = ledger.past(0.0, {"w"})
    ledger.close()
    assert len(kept) >= 204 - 2 * 3
    assert hours.since("w", START - HOUR).money == 204


@pytest.mark.parametrize("zone", ZONES)
def test_a_tariff_follows_the_local_clock_through_every_change_of_the_year(zone):
    """Against the clock read minute by minute; however the year is cut, the parts add up to the whole."""
    there, rng = ZoneInfo(zone), random.Random(zone)
    steps = {0: 1.0, 95: 2.0, 150: 4.0, 8 * 60 + 30: 8.0, 23 * 60 + 15: 16.0}
    price = Rented(tuple(Step(minute, rate) for minute, rate in steps.items()), there)
    begin = datetime(2028, 1, 1, tzinfo=UTC).timestamp()  # a leap year
    for day in (0, 58, 59, 60, *_changes(there, begin), 365):
        start = begin + day * 86_400.0
        owed = math.fsum(_rate(steps, start + 60 * minute, there) / 60 for minute in range(1440))
        cuts = sorted(rng.uniform(0, 86_400.0) for _ in range(50))
        parts = [held(price, start + b, b - a)["gpu"] for a, b in zip([0.0, *cuts], [*cuts, 86_400.0], strict=True)]
        assert math.fsum(parts) == pytest.approx(owed, rel=1e-9), (zone, day)


def _changes(zone, begin):
    """The days of the year on which the zone changes its offset."""
    offsets = [datetime.fromtimestamp(begin + day * 86_400.0, zone).utcoffset() for day in range(366)]
    return [day for day in range(365) if offsets[day] != offsets[day + 1]]


def _rate(steps, at, zone):
    local = datetime.fromtimestamp(at, zone)
    minute = local.hour * 60 + local.minute
    return steps[max(step for step in steps if step <= minute)]


@pytest.mark.parametrize("zone", ZONES[::2])
@pytest.mark.parametrize("period", ["day", "week", "month", 30 * 86_400.0])
def test_a_budget_has_what_was_spent_since_its_local_period_began(zone, period):
    """One money a second through a leap year: what is spent is the time since the period's start."""
    there = ZoneInfo(zone)
    budget, hours = Budget(1.0, period, there), Hours(62 * 86_400.0)
    begin = datetime(2027, 11, 20, tzinfo=UTC).timestamp()
    looks = {int(moment.timestamp()) for moment in _moments(there)}
    for number in range(120 * 24 * 4):
        at = begin + number * 900.0
        hours.post([Entry("w", at + 899.0, {COST: 900.0})])
        now = at + 900.0
        if now in looks:
            start = bounds(budget, now)[0]
            spent = hours.since("w", start, now).money
            assert spent == pytest.approx(now - start, rel=1e-9), (zone, period, now)
            if isinstance(period, str):
                local = datetime.fromtimestamp(start, there)
                assert (local.minute, local.hour) == (0, 0) or local.utcoffset() != (
                    local - timedelta(hours=2)
                ).utcoffset()


def _moments(zone):
    """Quarters of an hour around days that calendars stumble over."""
    for month, day in ((12, 31), (1, 1), (1, 31), (2, 1), (2, 28), (2, 29), (3, 1), (3, 12), (3, 13)):
        year = 2027 if month == 12 else 2028
        for hour, minute in ((0, 15), (0, 45), (1, 0), (12, 30), (23, 45)):
            yield datetime(year, month, day, hour, minute, tzinfo=zone)
