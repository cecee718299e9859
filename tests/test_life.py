"""Start, reload and stop at the worst of times: with everything down, under load, again and again.

``INFEROMETER_LOAD=10000`` (``make load``) reloads 1,000 times and stops under load 20 times.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest
from crowd import Slow
from exports import add_span, export, post, some_id
from fakenvml import Driver, build
from inferometer import config
from inferometer.app.agent import Agent as Running
from live import Agent, Engines, eventually, free_port, inferometer_says

FULL = int(os.environ.get("INFEROMETER_LOAD", "0")) >= 10_000
RELOADS = 1_000 if FULL else 50
STOPS = 20 if FULL else 1
STOP_SECONDS = 20.0  # promised: 2; a busy machine is no failure
TOKENS = "inferometer_tokens_total"
SPANS = "inferometer_spans_total"


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    with Engines(tmp_path_factory.mktemp("life") / "log", count=2, load=15) as engines:
        yield engines


# -- start


def silent(server):
    """Accept and say nothing, until the socket is closed."""
    kept = []
    try:
        while True:
            kept.append(server.accept()[0])
    except OSError:
        for one in kept:
            one.close()


@pytest.fixture
def mute():
    """A server that accepts connections and never says anything."""
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=silent, args=(server,))
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def everything_down(tmp_path, mute):
    """A configuration in which nothing that is read can be read."""
    token = tmp_path / "token"
    token.write_text("secret")
    dead = f"http://127.0.0.1:{free_port()}"
    path = tmp_path / "down.yaml"
    engines = f"{{url: '{dead}/metrics', name: dead}}, {{url: '{mute}/metrics', name: mute}}"
    path.write_text(
        f"interval: 500ms\n"
        f"workloads: [{{name: w, engines: [{engines}]}}]\n"
        f"prices: {{default: {{from: {{opencost: '{mute}', node: n}}}}}}\n"
        f"gpu: {{sources: [nvml, dcgm], dcgm_url: '{dead}/metrics', pod_resources: {tmp_path}/no.sock}}\n"
        f"kubernetes: {{api_url: 'https://127.0.0.1:{free_port()}', token_file: {token}}}\n"
        f"host: {{rapl: {tmp_path}/nothing}}\n"
    )
    return path


def test_it_starts_with_every_source_down_and_says_which(tmp_path, mute):
    """The page is there, every source is down by name, and it stops as it should."""
    with Agent(tmp_path / "log", "--config.file", everything_down(tmp_path, mute)) as agent:
        agent.until(lambda page: len(page.rows("inferometer_source_up")) >= 6)
        page = agent.until(lambda page: page.rows("inferometer_source_errors_total", reason="timeout"))
        up = {row.labels["source"]: row.value for row in page.rows("inferometer_source_up")}
        assert not any(up.values()), up
        assert agent.get("/-/healthy")[0] == 200
        assert "Traceback" not in agent.log
        began = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    code, out, said = inferometer_says("run", "--gpus", "1", "--storage.path", tmp_path / "file" / "ledger")
    (line,) = [line for line in said.splitlines() if not line.startswith("ts=")]
    assert (code, out) == (2, "")
    assert line == f"inferometer: {tmp_path}/file/ledger: Not a directory; check --storage.path and its owner"


def test_a_second_agent_is_refused_and_a_stale_lock_is_none(tmp_path):
    """What a SIGKILL leaves behind stops nobody; who lives does."""
    folder = tmp_path / "ledger"
    flags = ("--gpus", "1", "--price.gpu-hour", "1", "--interval", "200ms", "--storage.path", folder)
    sentence = "another agent is using this ledger; stop it or give this one its own --storage.path"
    with Agent(tmp_path / "log", *flags) as agent:
        agent.ready()
    assert agent.process.returncode == -signal.SIGKILL
    assert (folder / "lock").exists()
    with Agent(tmp_path / "log", *flags) as agent:
        agent.ready()
        code, _, said = inferometer_says("run", *flags, "--web.listen-address", "127.0.0.1:0")
        assert (code, said.splitlines()[-1]) == (2, f"inferometer: {folder}: {sentence}")


@pytest.mark.parametrize("delay", [0.05, 0.4, 0.8, 1.2])
def test_a_signal_while_it_starts_ends_it(tmp_path, mute, delay):
    """Whatever it waits for at that moment, a price that does not come among it."""
    with Agent(tmp_path / "log", "--config.file", everything_down(tmp_path, mute)) as agent:
        time.sleep(delay)
        began = time.monotonic()
        code = agent.stop()
        assert time.monotonic() - began < STOP_SECONDS
        assert code == 0 or (code == -signal.SIGTERM and not agent.log), "before it could listen to signals"
        assert "Traceback" not in agent.log


def test_to_interrupt_twice_is_to_interrupt(tmp_path, busy):
    flags = ("--engine.url", busy.urls[0], "--gpus", "1", "--storage.path", tmp_path / "ledger")
    with Agent(tmp_path / "log", *flags) as agent:
        agent.ready()
        agent.process.send_signal(signal.SIGINT)
        agent.process.send_signal(signal.SIGINT)
        assert agent.process.wait(30) == 0
        assert "Traceback" not in agent.log
        assert agent.log.count("msg=stopped") == 1


# -- stop


class Exporter(threading.Thread):
    """Sends batches of spans and remembers those that were acknowledged."""

    def __init__(self, url):
        super().__init__()
        self.url, self.over, self.acknowledged = url, threading.Event(), []

    def run(self):
        while not self.over.is_set():
            ids = [some_id() for _ in range(20)]
            if sent(self.url, ids) == 200:
                self.acknowledged += ids
            else:
                self.over.wait(0.05)


def sent(url, ids):
    """The status of an export of spans of these ids; 0 without an answer."""
    body = export(0)
    for one in ids:
        add_span(body, ids=one)
    try:
        return post(url, body.SerializeToString(), seconds=5).status
    except (OSError, HTTPException):
        return 0


@pytest.mark.parametrize("again", range(STOPS))
def test_sigterm_under_load_of_every_kind_commits_and_ends(tmp_path, busy, again):
    """Spans, slow clients, an engine and a driver that hang: exit code 0, and nothing acknowledged is lost."""
    build(tmp_path / "driver")
    driver = Driver(tmp_path / "driver", gpus=2)
    port = free_port()
    path = tmp_path / "agent.yaml"
    engines = ", ".join(f"{{url: '{url}'}}" for url in busy.urls)
    path.write_text(
        f"interval: 200ms\nworkloads: [{{name: w, gpus: all, engines: [{engines}]}}]\n"
        f"prices: {{default: {{gpu_hour: 3600}}}}\notlp: {{http: '127.0.0.1:{port}'}}\n"
        f"storage: {{path: {tmp_path}/ledger}}\n"
    )
    url = f"http://127.0.0.1:{port}/v1/traces"
    with Agent(tmp_path / "log", "--config.file", path, **driver.environ) as agent:
        agent.until(lambda page: page.sum(TOKENS, type="output"))
        exporters = [Exporter(url) for _ in range(3)]
        with Slow(tmp_path / "slow", "127.0.0.1", int(agent.url.rpartition(":")[2]), 50, 50), driver.hanging():
            busy.control(1, "hang", 5)
            for exporter in exporters:
                exporter.start()
            eventually(lambda: all(len(exporter.acknowledged) > 100 for exporter in exporters))
            time.sleep(0.1 * again)
            shown, began = agent.page(), time.monotonic()
            assert agent.stop() == 0, agent.log
            took = time.monotonic() - began
            sys.stdout.write(f"\nstopped within {took:.2f} s")
            assert took < STOP_SECONDS
        for exporter in exporters:
            exporter.over.set()
            exporter.join()
        assert "Traceback" not in agent.log
    with Agent(tmp_path / "log", "--config.file", path, **driver.environ) as agent:
        page = agent.until(lambda page: page.rows(SPANS))
        assert page.sum(TOKENS) >= shown.sum(TOKENS)
        assert page.sum("inferometer_cost_total") >= shown.sum("inferometer_cost_total")
        ids = [one for exporter in exporters for one in exporter.acknowledged]
        for start in range(0, len(ids), 1000):
            assert eventually(lambda some=ids[start : start + 1000]: sent(url, some) == 200)
        page = agent.until(lambda page: page.sum(SPANS) >= len(ids))
        assert page.sum(SPANS, outcome="duplicate") == len(ids), "all of them had been kept"


# -- reload


def test_reloads_leave_nothing_behind(tmp_path, busy):
    """Good and bad files by turns under load: no task, file or memory more than before; counters only rise."""
    path = tmp_path / "agent.yaml"

    def write(number):
        engines = ", ".join(f"{{url: '{url}'}}" for url in busy.urls[: 1 + number % 4 // 2])
        bad = "wokloads: 1\n" if number % 2 else ""
        path.write_text(
            f"{bad}interval: 200ms\nweb: {{listen_address: '127.0.0.1:0'}}\n"
            f"workloads: [{{name: w, gpus: 2, engines: [{engines}], slo: {{ttft: {100 + number % 7}ms}}}}]\n"
            f"prices: {{default: {{gpu_hour: {1 + number % 3}}}}}\n"
        )

    async def scenario():
        agent, stop = Running(lambda: config.load(str(path), {}, {}), {}), asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        await asyncio.to_thread(eventually, agent.snapshot)
        levels, last = [], {}
        for number in range(RELOADS):
            write(number)
            ok, said = await agent.reload()
            assert ok is (number % 2 == 0), said
            assert agent._reload_ok is ok
            await asyncio.sleep(0.02)
            totals = dict(agent.snapshot().totals)
            assert all(totals.get(account, 0.0) >= value for account, value in last.items())
            last = totals
            if number % (RELOADS // 5) == RELOADS // 5 - 1:
                await asyncio.sleep(0.5)
                gc.collect()
                levels.append((len(asyncio.all_tasks()), files(), megabytes()))
        stop.set()
        await running
        return levels

    write(0)
    levels = asyncio.run(scenario())
    sys.stdout.write(f"\n{RELOADS} reloads: tasks, files, megabytes at five moments: {levels}\n")
    tasks, opened, memory = zip(*levels, strict=True)
    assert max(tasks) <= tasks[0] + 3, levels
    assert max(opened) <= opened[0] + 5, levels
    assert memory[-1] <= memory[0] + (10 if FULL else 5), levels


def files():
    return len([*Path("/proc/self/fd").iterdir()])


def megabytes():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
