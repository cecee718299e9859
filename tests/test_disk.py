"""A disk that refuses is a source that is down, on the page and in the log; the agent goes on and loses nothing."""

from __future__ import annotations

import asyncio

from inferometer import config
from inferometer.app.agent import Agent
from inferometer.exposition.gauges import numbers


def test_a_disk_that_refuses_shows_on_the_page(tmp_path):
    """A workload without engines has money to post at every tick; the disk refuses for a while."""
    flags = {
        "storage.path": str(tmp_path / "ledger"),
        "web.listen-address": "127.0.0.1:0",
        "interval": "100ms",
        "gpus": "1",
        "price.gpu-hour": "3600",
    }
    up, errors = ("inferometer_source_up", ("ledger",)), ("inferometer_source_errors_total", ("ledger", "write"))

    async def scenario() -> None:
        agent, stop = Agent(lambda: config.load(None, flags, {}), {}), asyncio.Event()
        running = asyncio.create_task(agent.run(stop))

        async def until(value: float) -> dict:
            async with asyncio.timeout(20):
                while True:
                    snapshot = agent.snapshot()
                    if snapshot is not None and numbers(snapshot).get(up) == value and snapshot.totals:
                        return numbers(snapshot)
                    await asyncio.sleep(0.05)

        before = await until(1.0)
        assert errors not in before
        agent._ledger._database.execute("PRAGMA query_only = ON")
        during = await until(0.0)
        assert during[errors] >= 1
        agent._ledger._database.execute("PRAGMA query_only = OFF")
        await until(1.0)
        stop.set()
        await running
        cost = sum(v for (name, _), v in agent._ledger.state.totals.items() if name == "inferometer_cost_total")
        held = agent._meter.settled_until()["default"] - agent._meter.watched_since["default"]
        assert abs(cost - held) < 1e-5, "what waited was posted, once"

    asyncio.run(scenario())
