"""The simulated world is alive: real servers on loopback, with controls and a clean end."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from inferometer.sim.gpu import IDLE_WATTS
from inferometer.sim.traffic import Shape
from inferometer.sim.world import World

QUIET = Shape(requests_per_second=0)


def call(url, path, body=None, method=None):
    """An HTTP call: status, content type and body."""
    data = None if body is None else json.dumps(body).encode()
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    try:
        connection.request(method or ("POST" if data else "GET"), path, data)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def samples(page):
    """Values of a page by series, model and engine left out: ``name{label="value"}``."""
    lines = page.decode().replace('engine="0",', "").replace('model_name="small"', "").replace("{}", "").splitlines()
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def eventually(condition, seconds=10.0):
    """Wait for a condition that other threads bring about."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_live_world_serves_pages_and_dies_cleanly():
    """Engines of one world have clients of their own; GPUs follow them; nothing is left behind."""
    threads = set(threading.enumerate())
    with World(engines=2, gpus=2, shape=Shape(requests_per_second=30, cached_ratio=0.5)) as world:
        assert len(set(world.urls)) == 2
        for url in world.urls:
            status, kind, page = call(url, "/metrics")
            assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert samples(page)["process_start_time_seconds"] == pytest.approx(time.time(), abs=30)
            assert call(url, "/health")[0] == 200
        assert eventually(lambda: world.engines[0].truth()["totals"]["output_tokens"] > 0)
        assert eventually(lambda: world.nvml.cards[0].read().power_watts > IDLE_WATTS)
        totals = [e.truth()["totals"]["prompt_tokens"] for e in world.engines]
        assert totals[0] != totals[1], "each engine has its own clients"
    assert set(threading.enumerate()) <= threads
    with pytest.raises(ConnectionRefusedError):
        call(url, "/metrics")


def test_completions_are_counted_like_the_worlds_own():
    """Whole, streamed and abandoned calls: what the client was told is what truth and page say."""
    with World(1, 0, shape=QUIET) as world:
        engine, url = world.engines[0], world.urls[0]
        whole = json.loads(call(url, "/v1/completions", {"prompt": "one two three", "max_tokens": 4})[2])
        assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        asked = {"prompt": [1] * 40, "cached_tokens": 16, "max_tokens": 5, "stream": True}
        lines = [line for line in call(url, "/v1/completions", asked)[2].decode().split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        text = "".join(json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in lines[:-1])
        assert text.split() == ["token"] * 5
        assert call(url, "/v1/completions", {"prompt": "x", "max_tokens": 99_999})[0] == 400
        address = urlsplit(url)
        client = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        client.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 8000}))
        assert eventually(lambda: engine.truth()["in_flight"]["output_tokens"] > 0)
        client.close()
        assert eventually(lambda: engine.truth()["totals"]["requests"].get("vanished") == 1)
        truth, page = json.loads(call(url, "/sim/truth")[2]), samples(call(url, "/metrics")[2])
    assert truth["totals"]["requests"] == {"ok": 2, "vanished": 1}
    assert truth["totals"]["prompt_tokens"] == page["vllm:prompt_tokens_total"] == 44
    assert truth["totals"]["cached_tokens"] == page["vllm:prompt_tokens_cached_total"] == 16
    assert truth["totals"]["finished_output_tokens"] == 9
    assert page['http_requests_total{handler="/v1/completions",method="POST",status="2xx"}'] == 3
    assert page['http_requests_total{handler="/v1/completions",method="POST",status="4xx"}'] == 1


def test_controls_over_http():
    """Restart gives a new process, refuse closes the port for a while, hang answers nobody, and all of them end."""
    with World((0,), 0, shape=QUIET) as world:
        url = world.urls[0]
        first = samples(call(url, "/metrics")[2])["process_start_time_seconds"]
        time.sleep(0.01)
        assert call(url, "/sim/restart", method="POST")[0] == 200
        assert samples(call(url, "/metrics")[2])["process_start_time_seconds"] > first
        assert call(url, "/sim/refuse?seconds=1", method="POST")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            call(url, "/health")
        assert eventually(lambda: _answers(url))
        assert call(url, "/sim/hang?seconds=1", method="POST")[0] == 200
        asked = time.monotonic()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            call(url, "/health")
        assert time.monotonic() - asked > 0.1
        assert _answers(url)
        assert call(url, "/sim/stall?seconds=abc", method="POST")[0] == 400
        assert len(world.engines[0].truth()["processes"]) == 2


def _answers(url):
    try:
        return call(url, "/health")[0] == 200
    except ConnectionRefusedError:
        return False


def test_a_stall_keeps_callers_waiting():
    """A call into a stalled engine shows as one more open connection, and is answered when the stall is over."""
    with World(1, 0, shape=QUIET) as world:
        url = world.urls[0]
        fds = samples(call(url, "/metrics")[2])["process_open_fds"]
        assert call(url, "/sim/stall?seconds=1.5", method="POST")[0] == 200
        statuses = []
        body = {"prompt": "x", "max_tokens": 1}
        caller = threading.Thread(target=lambda: statuses.append(call(url, "/v1/completions", body)[0]))
        caller.start()
        assert eventually(lambda: world.engines[0].truth()["in_flight"]["requests"] == 1)
        page = samples(call(url, "/metrics")[2])
        caller.join(10)
        record = world.engines[0].truth()["requests"][0]
    assert page["vllm:num_requests_running"] == page["vllm:num_requests_waiting"] == 0
    assert page["process_open_fds"] == fds + 1
    assert statuses == [200]
    assert record["outcome"] == "ok"


def test_a_taken_port_is_an_error_at_once():
    with World(1, 0, shape=QUIET) as world:
        port = urlsplit(world.urls[0]).port
        with pytest.raises(OSError, match="address already in use"), World((port,), 0, shape=QUIET):
            pass


def test_standalone_engine_ends_on_sigterm():
    """The process that kill tests use prints its page's URL and ends with status 0."""
    command = [sys.executable, "-m", "inferometer.sim", "--engines", "1", "--load", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"vllm:generation_tokens_total" in answer.read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=2)
