"""What is neither configured nor discovered leaves /metrics after an hour, and after a day nothing of it is kept."""

from __future__ import annotations

import asyncio
import logging

import pytest
from chaos.answers import Answer
from chaos.little import Little
from chaos.rig import Rig
from chaos.timeline import Timeline
from inferometer.ledger import journal
from live import Page

START = 1_800_000_000.0
HOUR = 3600.0


class Town:
    """Engines of two workloads under a config that may leave some of them out."""

    def __init__(self, folder):
        self.clock, self.path = Timeline(START), folder / "agent.yaml"
        self.servers = {port: Little(START + 1) for port in (1, 2, 3)}
        self.configure(a=(1, 2), b=(3,))
        self.flags = {"storage.path": str(folder / "ledger")}

    def configure(self, **workloads):
        text = "interval: 5s\nwindows: [1m]\nprices: {default: {gpu_hour: 3.6}}\ngpu: {sources: [nvml]}\nworkloads:\n"
        for name, ports in workloads.items():
            engines = ", ".join(f'{{url: "http://h:{port}/metrics"}}' for port in ports)
            text += f"  - {{name: {name}, gpus: 1, engines: [{engines}]}}\n"
        self.path.write_text(text)

    async def get(self, url, _request, limit, *_tls):
        return Answer(self.servers[url.port].page()).given(limit)

    def rig(self):
        return Rig(self.path, self.clock, self, **self.flags)

    async def beat(self, rig, seconds=5.0, serve=0):
        for server in self.servers.values():
            server.serve("small", serve)
        self.clock.now += seconds
        await rig.beat()
        return Page(rig.metrics())


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def output(page, engine):
    return page.sum("inferometer_tokens_total", engine=engine, type="output")


async def gone(town, rig, seconds):
    """Engine 2 and workload b leave for so long."""
    town.configure(a=(1,))
    await rig.agent.reload()
    page = await town.beat(rig)
    for _ in range(20):
        page = await town.beat(rig, seconds / 20, serve=1)
    town.configure(a=(1, 2), b=(3,))
    return page


def test_after_an_hour_an_engine_and_a_workload_leave_the_page_and_may_return(tmp_path):
    async def live():
        town = Town(tmp_path)
        async with town.rig() as rig:
            await town.beat(rig)
            for _ in range(10):
                page = await town.beat(rig, serve=1)
            assert output(page, "h:2") == output(page, "h:3") == 120 * 10
            assert page.rows("inferometer_tokens_per_second", workload="b")
            page = await gone(town, rig, 0.9 * HOUR)
            assert output(page, "h:2") == output(page, "h:3") == 120 * 10
            await rig.agent.reload()
            await town.beat(rig)
            page = await gone(town, rig, 2 * HOUR)
            for labels in ({"workload": "b"}, {"engine": "h:2"}, {"source": "http://h:2/metrics"}):
                assert [row.name for row in page.samples if labels.items() <= row.labels.items()] == []
            assert output(page, "h:1") == 120 * (10 + 20 + 20)
            await rig.agent.reload()
            page = await town.beat(rig)
            assert output(page, "h:2") == output(page, "h:1"), "its counters go on"

    asyncio.run(live())


@pytest.mark.parametrize("again", [False, True], ids=["one agent", "an agent that is started anew meanwhile"])
def test_after_a_day_it_is_forgotten_and_what_it_had_counted_is_not_counted_again(tmp_path, again):
    async def live():
        town = Town(tmp_path)
        async with town.rig() as rig:
            await town.beat(rig)
            for _ in range(10):
                await town.beat(rig, serve=1)
            assert {"h:2", "h:3"} <= rig.agent._ledger.state.marks.keys()
            await gone(town, rig, 30 * HOUR)
            state, database = rig.agent._ledger.state, rig.agent._ledger._database
            for known in (state, journal.load(database)[0]):
                assert {"h:2", "h:3"}.isdisjoint(known.marks.keys())
                kept = [labels for _, labels in (*known.totals, *known.histograms) if "h:2" in labels]
                assert kept == []
            if again:
                await rig.again()
                await town.beat(rig)
            else:
                await rig.agent.reload()
            page = await town.beat(rig)
            assert output(page, "h:2") == 0, "its first page is a baseline: it may have been counted"
            page = await town.beat(rig, serve=2)
            assert output(page, "h:2") == output(page, "h:3") == 240
            town.servers[2] = Little(town.clock.now + 1)
            page = await town.beat(rig, serve=3)
            assert output(page, "h:2") == 240 + 360, "a process that is younger counts from zero"

    asyncio.run(live())


def test_the_marks_of_an_agent_that_was_away_for_days_wait_for_their_engines(tmp_path):
    async def live():
        town = Town(tmp_path)
        async with town.rig() as rig:
            await town.beat(rig)
            await town.beat(rig, serve=1)
            town.clock.now += 72 * HOUR
            await rig.again()
            page = await town.beat(rig, serve=5)
            assert output(page, "h:2") == 120 * 6

    asyncio.run(live())
