"""A disk that refuses is a source that is down, on the page and in the log; the agent goes on and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3

import pytest
from fakedisk import FakeDisk, build
from inferometer import config
from inferometer.app.agent import Agent
from inferometer.exposition.gauges import numbers
from live import Agent as Process

LONG = "INFEROMETER_LONG" in os.environ
COST, UP = "inferometer_cost_total", "inferometer_source_up"
RUN = ("--interval", "100ms", "--gpus", "1", "--price.gpu-hour", "3600", "--engine.url", "http://127.0.0.1:9/metrics")


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


def long(cases, but):
    """All cases in the long run, these few in the short one."""
    return [case for case in cases if LONG or case in but]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def disk(library, tmp_path):
    """Whose root is the agent's ledger."""
    return FakeDisk(library, tmp_path / "ledger")


def agent_on(disk):
    """A whole agent; nothing answers it, so that there is money and nothing else to post at every tick."""
    return Process(disk.root.parent / "agent.log", *RUN, "--storage.path", disk.root, **disk.environ)


def reconciles(page):
    """Every second until now is paid for, once."""
    times = ("settled_until", "accounting_start")
    until, start = (page.sum(f"inferometer_{name}_timestamp_seconds") for name in times)
    assert page.sum(COST) == pytest.approx(until - start, abs=2e-6)


REFUSALS = {
    "full": lambda disk: disk.full(),
    "full in the midst of a write": lambda disk: disk.full(5_000),
    "read-only": lambda disk: disk.refuse(write=errno.EROFS, opening=errno.EROFS),
    "writes fail": lambda disk: disk.refuse(write=errno.EIO),
    "syncs fail": lambda disk: disk.refuse(sync=errno.EIO),
    "nothing can be opened": lambda disk: disk.refuse(opening=errno.EMFILE, sync=errno.EIO),
}


@pytest.mark.parametrize("how", long(REFUSALS, but=("full in the midst of a write",)))
def test_a_disk_that_refuses_for_a_while_costs_nothing(disk, how):
    """Totals stand still, all else goes on; a kill meanwhile takes nothing, and what waited is posted once."""
    with agent_on(disk) as agent:
        agent.until(lambda page: (page.sum(COST) or 0) > 0.2)
        REFUSALS[how](disk)
        page = agent.until(lambda page: page.sum(UP, source="ledger") == 0)
        stands = page.sum(COST)
        errors = page.sum("inferometer_source_errors_total", source="ledger")
        later = agent.until(lambda p: p.sum("inferometer_source_errors_total", source="ledger") >= errors + 3)
        assert (later.sum(COST), agent.get("/-/healthy")[0]) == (stands, 200)
        disk.mend()
        reconciles(agent.until(lambda page: page.sum(UP, source="ledger") == 1 and page.sum(COST) > stands))
        said = [line for line in agent.log.splitlines() if "cannot be written" in line]
        assert (len(said), str(disk.root) in said[0]) == (1, True)
        REFUSALS[how](disk)
        stands = agent.until(lambda page: page.sum(UP, source="ledger") == 0).sum(COST)
        agent.kill()
    disk.mend()
    with agent_on(disk) as agent:
        agent.ready()
        page = agent.until(lambda page: page.sum(COST) > stands)
        reconciles(page)
        assert page.sum("inferometer_ledgers_set_aside") == 0
        assert agent.stop() == 0


@pytest.mark.parametrize(("how", "is_new"), [("full", True), ("read-only", False)])
def test_a_disk_that_refuses_from_the_start_is_said_at_once(disk, how, is_new):
    """In one sentence that names the folder; a good ledger is neither set aside nor harmed."""
    if not is_new:
        with agent_on(disk) as agent:
            agent.until(lambda page: (page.sum(COST) or 0) > 0)
            agent.kill()
    REFUSALS[how](disk)
    with agent_on(disk) as agent:
        assert agent.process.wait(30) == 2
        assert f"inferometer: {disk.root}" in agent.log
        assert "check --storage.path" in agent.log
    disk.mend()
    with agent_on(disk) as agent:
        page = agent.until(lambda page: (page.sum(COST) or 0) > 0)
        reconciles(page)
        assert page.sum("inferometer_ledgers_set_aside") == 0


def test_a_disk_that_is_full_at_the_start_lets_an_old_ledger_be_read(disk):
    """The agent shows what it had, measures, and posts as soon as there is room."""
    with agent_on(disk) as agent:
        stands = agent.until(lambda page: (page.sum(COST) or 0) > 0).sum(COST)
        agent.kill()
    disk.full()
    with agent_on(disk) as agent:
        assert agent.until(lambda page: page.sum(UP, source="ledger") == 0).sum(COST) >= stands
        disk.mend()
        reconciles(agent.until(lambda page: page.sum(UP, source="ledger") == 1))


SPOILED = ("a newer schema", "a foreign database", "a symbolic link", "nothing in it", "garbage")


@pytest.mark.parametrize("what", long(SPOILED, but=("a foreign database",)))
def test_what_is_no_ledger_of_ours_is_set_aside_and_the_agent_measures(disk, what):
    """Nothing of it is lost; a log line and a gauge say so."""
    path = disk.root / "ledger.db"
    with agent_on(disk) as agent:
        agent.until(lambda page: (page.sum(COST) or 0) > 0)
        assert agent.stop() == 0
    kept = _spoil(path, what)
    with agent_on(disk) as agent:
        page = agent.until(lambda page: (page.sum(COST) or 0) > 0)
        reconciles(page)
        assert page.sum("inferometer_ledgers_set_aside") == 1
        (line,) = [line for line in agent.log.splitlines() if "set aside" in line]
        (aside,) = disk.root.glob("ledger.set-aside-*.db")
        assert f"kept_as={aside}" in line
        assert aside.read_bytes()[: len(kept)] == kept
        assert aside.is_symlink() == (what == "a symbolic link")


def _spoil(path, what):
    """Put something else in a ledger's place; returns what."""
    if what == "a symbolic link":
        path.rename(path.with_name("elsewhere.db"))
        path.symlink_to("elsewhere.db")
        path.write_bytes(b"no database" * 1000)
    elif what == "garbage":
        path.write_bytes(bytes(range(256)) * 100)
    elif what == "nothing in it":
        path.write_bytes(b"")
    else:
        if what == "a foreign database":
            path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE theirs (x)" if "foreign" in what else "PRAGMA user_version = 99")
    return path.read_bytes()
