"""The agent's server under a crowd: everybody gets a whole page or a clean refusal, and engines are read on time.

``make load`` runs it in full size: ``INFEROMETER_LOAD=10000``.
"""

import asyncio
import contextlib
import os
import resource
import socket
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import inferometer
import pytest
from aiohttp import web
from crowd import REQUEST, Slow, raise_open_files, scrape_at_once
from inferometer.exposition import connections
from inferometer.exposition.body import Body
from inferometer.exposition.connections import MOST
from inferometer.exposition.listen import listen
from live import Agent, Process, eventually, fetch
from pacer import Pacer
from prometheus_client.parser import text_string_to_metric_families

SCRAPES = int(os.environ.get("INFEROMETER_LOAD", "300"))
SLOW = max(60, SCRAPES // 10)
INTERVAL_SECONDS = 0.5
LATE_SECONDS = 5.0  # far above what is seen; a busy machine is no failure
MOST_MEGABYTES = 64.0  # what 512 connections may add, with answers that nobody takes


def megabytes(agent):
    """Resident memory of the agent's process."""
    pages = int(Path(f"/proc/{agent.process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Whole:
    """Whether a page has its announced length and parses to its end; those that are the same are parsed once."""

    def __init__(self):
        self._seen = {}

    def __call__(self, head, body):
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if body not in self._seen:
            names = {family.name for family in text_string_to_metric_families(body.decode())}
            self._seen[body] = {"inferometer_tokens", "inferometer_build_info"} <= names
        return self._seen[body] and int(length.split(b":")[1]) == len(body)


@pytest.fixture
def pacer(tmp_path):
    with Pacer(tmp_path / "pacer") as pacer:
        yield pacer


def test_a_crowd_gets_whole_pages_beside_slow_clients(tmp_path, pacer):
    """Scrapes all at once, slowloris, and clients that read nothing: no page is late, none is half."""
    raise_open_files(2 * SCRAPES + 4 * SLOW + 1000)
    flags = ("--engine.url", pacer.url, "--gpus", "2", "--price.gpu-hour", "2", "--interval", f"{INTERVAL_SECONDS}s")
    with Agent(tmp_path / "log", *flags) as agent:
        agent.until(lambda page: page.sum("inferometer_tokens_total"))
        host, port = "127.0.0.1", int(agent.url.rpartition(":")[2])
        before, worst = megabytes(agent), [0.0]

        done = threading.Event()

        def watched():
            while not done.wait(0.1):
                worst[0] = max(worst[0], megabytes(agent))

        with Slow(tmp_path / "slow", host, port, SLOW, SLOW):
            time.sleep(1.0)
            watching = threading.Thread(target=watched)
            watching.start()
            outcome = scrape_at_once(host, port, SCRAPES, Whole())
            done.set()
            watching.join()
        latest, seconds, page = max(pacer.gaps()), sorted(outcome.seconds), agent.page()
        refused = page.rows("inferometer_http_connections_refused_total", server="web")
        ended = {row.labels["reason"]: int(row.value) for row in refused if row.value}
        sys.stdout.write(
            f"\n{SCRAPES} scrapes, {SLOW} slow senders, {SLOW} that read nothing: {dict(outcome.ends)};"
            f" p50 {seconds[len(seconds) // 2]:.2f} s, worst {seconds[-1]:.2f} s;"
            f" memory {before:.0f} MB, at most +{worst[0] - before:.0f} MB;"
            f" engine read every {INTERVAL_SECONDS} s, at the latest after {latest:.2f} s;"
            f" loop late by {page.sum('inferometer_event_loop_lag_seconds'):.2f} s; ended by the agent: {ended}\n"
        )
        assert not outcome.wrong
        assert set(outcome.ends) <= {"200", "503"}, outcome.ends
        assert outcome.ends["200"] >= SCRAPES * (0.01 if SCRAPES >= 10_000 else 0.9)
        assert worst[0] - before < MOST_MEGABYTES
        assert latest < INTERVAL_SECONDS + LATE_SECONDS
        assert not page.sum("inferometer_source_errors_total", source=pacer.url, reason="refused")
        assert "Traceback" not in agent.log
        assert agent.stop() == 0


# -- no file descriptors left


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def idle_connections(port, count):
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.0)
            client.connect_ex(("127.0.0.1", port))
        yield


def test_without_file_descriptors_it_waits_and_goes_on(tmp_path, pacer):
    """The limit falls to what is open: nothing is accepted, nothing spins, engines are read over what they have."""
    with Agent(tmp_path / "log", "--engine.url", pacer.url, "--gpus", "2", "--interval", "200ms") as agent:
        agent.until(lambda page: page.sum("inferometer_tokens_total"))
        process, port = agent.process, int(agent.url.rpartition(":")[2])
        open_files = len([*Path(f"/proc/{process.pid}/fd").iterdir()])
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files + 2, before[1]))
        with idle_connections(port, 100):
            agent.waits_for("no file descriptors are left")
            reads, used = len(pacer.gaps()), cpu_seconds(process)
            time.sleep(1.5)
            assert cpu_seconds(process) - used < 0.75, "it does not spin"
            eventually(lambda: len(pacer.gaps()) > reads + 3, "readings of the engine")
            assert process.poll() is None
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        page = agent.until(lambda page: page.sum("inferometer_http_connections_refused_total", reason="no_files"))
        assert not page.sum("inferometer_source_errors_total", source=pacer.url, reason="refused")
        assert "Traceback" not in agent.log
        assert agent.stop() == 0


def test_with_few_file_descriptors_it_serves_few_and_keeps_the_rest_for_engines(tmp_path, pacer):
    paths = f"{Path(inferometer.__file__).parents[1]}:{Path(__file__).parent}"
    run = ("limited", 96, "inferometer", "run", "--engine.url", pacer.url, "--interval", "200ms")
    listen = ("--web.listen-address", "127.0.0.1:0")
    with Process(tmp_path / "log", *run, *listen, PYTHONPATH=paths) as agent:
        url = agent.waits_for(r"listen=(\S+)")[1]
        eventually(lambda: "inferometer_tokens_total{" in fetch(f"{url}/metrics")[1], "a page")
        with idle_connections(int(url.rpartition(":")[2]), 100):
            reads = len(pacer.gaps())
            eventually(lambda: len(pacer.gaps()) > reads + 5, "readings of the engine")
        assert eventually(lambda: fetch(f"{url}/metrics")[0] == 200)
        assert "Traceback" not in agent.log
        assert "no file descriptors" not in agent.log
        assert agent.stop() == 0


@pytest.fixture
def hurried(monkeypatch):
    """Deadlines of half a second."""
    for name in ("_HEAD_SECONDS", "_STALL_SECONDS", "_WAIT_SECONDS", "_PARTING_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)


def visited(visit, most=MOST):
    """Serve pages of 1 MB, and ``visit`` them from a thread; the connections, and what the visit gave."""
    served = connections.Connections(most)

    async def page(_):
        return web.Response(body=Body(b"x" * 1_000_000, "text/plain"))

    async def both():
        app = web.Application()
        app.router.add_get("/metrics", page)
        listener = await listen(app, "127.0.0.1:0", connections=served)
        try:
            return served, await asyncio.to_thread(visit, ("127.0.0.1", listener.port), served)
        finally:
            await listener.close()

    return asyncio.run(both())


def connected(stack, address, sent=b""):
    client = stack.enter_context(socket.create_connection(address, 30))
    client.sendall(sent)
    return client


def test_connections_are_looked_after_while_there_are_any_and_nobody_wakes_up_for_none():
    def visit(address, served):
        looks = [served._look]
        with contextlib.ExitStack() as stack:
            connected(stack, address)
            eventually(lambda: served.open)
            looks.append(served._look)
        eventually(lambda: not served.open and served._look is None)
        with contextlib.ExitStack() as stack:
            connected(stack, address)
            eventually(lambda: served._look is not None)
            eventually(lambda: served.open)
        return looks

    _, (before, meanwhile) = visited(visit)
    assert before is None
    assert meanwhile is not None


@pytest.mark.usefixtures("hurried")
def test_a_slow_request_a_large_head_and_an_answer_nobody_takes_are_ended():
    """Each is told why, where there is still somebody to tell."""

    def visit(address, served):
        fields = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 4000) for n in range(12))
        with contextlib.ExitStack() as stack:
            slow = connected(stack, address, b"GET /metrics HTTP/1.1\r\nX: ")
            mute = connected(stack, address)
            large = connected(stack, address, b"GET /metrics HTTP/1.1\r\n" + fields)
            connected(stack, address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            said = [one.recv(100)[:13] for one in (large, slow, mute)]
            eventually(lambda: not served.open)
            return said

    served, said = visited(visit)
    assert said == [b"HTTP/1.1 431 ", b"HTTP/1.1 408 ", b"HTTP/1.1 408 "]
    assert {k: v for k, v in served.refusals.items() if v} == {"slow_request": 2, "large_head": 1, "slow_reader": 1}


@pytest.mark.usefixtures("hurried")
def test_who_waits_too_long_for_room_is_told_so(monkeypatch):
    """When all that are served take their answers, if slowly, nobody is closed for the next: it gets a 503."""
    monkeypatch.setattr(connections, "_SPARED_SECONDS", 1e9)
    monkeypatch.setattr(connections, "_STALL_SECONDS", 1e9)

    def visit(address, served):
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                connected(stack, address, REQUEST)
            eventually(lambda: len(served.open) == 2)
            late = connected(stack, address, REQUEST)
            return late.recv(100)[:13]

    served, said = visited(visit, most=2)
    assert said == b"HTTP/1.1 503 "
    assert served.refusals["full"] == 1


def test_an_answer_that_nobody_takes_holds_a_piece_and_no_copy():
    """A hundred clients ask for a megabyte each and read nothing: what is kept for them is far less."""

    def visit(address, served):
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                connected(stack, address, REQUEST)
            eventually(lambda: sum(one.stalled_since is not None for one in list(served.open)) > 90)
            return [one.transport.get_write_buffer_size() for one in list(served.open) if one.transport]

    _, waiting = visited(visit)
    assert max(waiting) <= 1 << 16


def test_connections_are_kept_and_those_that_rest_make_room(tmp_path, pacer):
    """One after the other on the same connection; when all are taken, whoever rests is closed for who asks."""
    with Agent(tmp_path / "log", "--engine.url", pacer.url, "--interval", "200ms") as agent:
        agent.until(lambda page: page.sum("inferometer_tokens_total"))
        host, port = "127.0.0.1", int(agent.url.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            kept = HTTPConnection(host, port, timeout=30)
            stack.callback(kept.close)
            for _ in range(3):
                kept.request("GET", "/metrics")
                assert len(kept.getresponse().read()) > 1000
                assert kept.sock is not None, "closed by the server"
                time.sleep(0.2)
            resting = [stack.enter_context(socket.create_connection((host, port), 30)) for _ in range(MOST)]
            for one in resting:
                one.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: agent.get("/metrics")[0] == 200)
            page = agent.page()
            assert page.sum("inferometer_http_connections", server="web") <= MOST
            assert not page.sum("inferometer_http_connections_refused_total"), "to rest is no fault"
