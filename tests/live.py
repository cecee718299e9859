"""What end-to-end tests stand on: agents and simulated engines as real processes, their clients, proxies and pages."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import inferometer
from inferometer.cli import main
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 30.0  # for conditions that take well under a second; a busy machine is no failure
_SOURCES = Path(inferometer.__file__).parents[1]


def environment(**more):
    """This process's, without what would configure an agent, and with the package under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INFEROMETER_", "KUBERNETES_"))}
    return kept | {"PYTHONPATH": str(_SOURCES), "PYTHONUNBUFFERED": "1"} | more


def inferometer_says(*arguments, **more):
    """Run a command to its end: exit code, stdout, stderr."""
    command = [sys.executable, "-m", "inferometer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def inferometer_here(capsys, *arguments):
    """Run a command to its end in this process, which takes no second to start: exit code, stdout, stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        code = main([str(argument) for argument in arguments])
    finally:
        root.handlers[:], root.level = handlers, level
    said = capsys.readouterr()
    return code, said.out, said.err


def eventually(condition, what="", seconds=PATIENCE_SECONDS):
    """Wait until ``condition()`` is true and return what it gave; AssertionError when it never is."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {what or condition}"
        time.sleep(0.02)


def fetch(url, method="GET", body=None, seconds=10.0, headers=None):
    """One HTTP call: status and text. OSError or HTTPException when there is no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path or "/", body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def free_port():
    """A port of 127.0.0.1 on which nobody listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Sample(NamedTuple):
    name: str
    labels: dict
    value: float


class Page:
    """A parsed page of the text format."""

    def __init__(self, text):
        found = text_string_to_metric_families(text)
        self.samples = [Sample(s.name, s.labels, s.value) for family in found for s in family.samples]

    def rows(self, name, **labels):
        """The samples of that name that have these labels."""
        return [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def sum(self, name, **labels):
        """Their sum; None where there is none: no sample is not a zero."""
        rows = self.rows(name, **labels)
        return sum(row.value for row in rows) if rows else None

    def counters(self):
        """Every value that must never fall, by name and labels."""
        ends = ("_total", "_bucket", "_count", "_sum")
        return {(s.name, *sorted(s.labels.items())): s.value for s in self.samples if s.name.endswith(ends)}


class Scoped:
    """Lives from ``begin`` to ``end``: the block of a ``with``."""

    def begin(self):
        """What is to be done first."""

    def __enter__(self):
        """Begin."""
        self.begin()
        return self

    def __exit__(self, *_):
        """End."""
        self.end()


class Process(Scoped):
    """A child process whose output goes to ``log``, which may be added to by one after the other."""

    def __init__(self, log, *command, **environ):
        self.log_path = Path(log)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *map(str, command)], stdout=out, stderr=out, env=environment(**environ)
            )

    @property
    def log(self):
        """What this process has written so far."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode()

    def waits_for(self, pattern):
        """The match of ``pattern`` in the log, as soon as there is one."""

        def found():
            match = re.search(pattern, self.log)
            assert match or self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            return match

        return eventually(found, f"{pattern} in the log")

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=PATIENCE_SECONDS):
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    end = kill


class Agent(Process):
    """``inferometer run`` on a free port, or another command that serves the same pages; it may be reloaded by HTTP."""

    def __init__(self, log, *arguments, command="run", listen="127.0.0.1:0", **environ):
        environ = {"INFEROMETER_WEB_ENABLE_LIFECYCLE": "true"} | environ
        super().__init__(log, "inferometer", command, *arguments, "--web.listen-address", listen, **environ)
        self._url = ""

    @property
    def url(self):
        """Its address, once it listens."""
        self._url = self._url or self.waits_for(r"listen=(\S+)")[1]
        return self._url

    def get(self, path, method="GET"):
        """Status and text of one of its pages."""
        return fetch(self.url + path, method)

    def page(self):
        """/metrics, parsed; None before the first snapshot."""
        status, text = self.get("/metrics")
        return Page(text) if status == 200 else None

    def until(self, condition, what=""):
        """The first page for which ``condition(page)`` is true."""

        def seen():
            page = self.page()
            return page if page is not None and condition(page) else None

        return eventually(seen, what or "a page as expected")

    def ready(self):
        """Wait until it says that its numbers are worth scraping."""
        eventually(lambda: self.get("/-/ready")[0] == 200, "/-/ready")
        return self

    def hangup(self):
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)


class Engines(Process):
    """Simulated engines in a process of their own; ``urls`` are their pages."""

    def __init__(self, log, count=1, load=0.0, *arguments):
        super().__init__(log, "inferometer.sim", "--engines", count, "--load", load, *arguments)
        self.waits_for(rf"(http\S+\n){{{count}}}")
        self.urls = re.findall(r"http\S+/metrics", self.log)

    def control(self, number, what, seconds=0.0):
        """``restart``, ``stall``, ``hang`` or ``refuse`` one engine for so long."""
        url = self.urls[number].replace("/metrics", f"/sim/{what}?seconds={seconds}")
        assert fetch(url, "POST")[0] == 200

    def truth(self, number):
        """What one engine really did, asked for as long as it refuses."""

        def answer():
            with contextlib.suppress(ConnectionError):
                return json.loads(fetch(self.urls[number].replace("/metrics", "/sim/truth"))[1])

        return eventually(answer, "the truth")


class Clients(Scoped):
    """Clients that keep an engine busy until the end of the block; a few lose their patience.

    ``told``: hears of every answer: prompt, output and cached tokens, and from when to when it took (unix time).
    """

    LONGEST_OUTPUT = 30

    def __init__(self, metrics_url, count, seed, told=lambda *_: None):
        self._url, self._told = metrics_url.replace("/metrics", "/v1/completions"), told
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(random.Random(seed + n),)) for n in range(count)]

    def start(self):
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Let what was asked be answered, and ask no more."""
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    end = stop

    def _ask(self, rng):
        while not self._ended.is_set():
            prompt, output, cached = rng.randint(40, 400), rng.randint(1, self.LONGEST_OUTPUT), 16 * rng.randint(0, 2)
            body = f'{{"prompt": {[1] * prompt}, "max_tokens": {output}, "cached_tokens": {cached}}}'
            patience = rng.uniform(0.02, 0.2) if rng.random() < 0.05 else 10.0
            began = time.time()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if fetch(self._url, "POST", body, patience)[0] == 200:
                    self._told(prompt, output, cached, began, time.time())
                continue
            time.sleep(0.05)


class Served(NamedTuple):
    at: float
    epoch: object
    text: str


class Proxy(Scoped):
    """Stands before one engine's page and keeps all that it served, with the steady time and the ``epoch`` then.

    ``asked``: how often it was asked for it so far.
    """

    def __init__(self, upstream):
        self.upstream, self.epoch, self.asked = upstream, 0, 0
        self.served = []
        handler = type("Handler", (_Relay,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"
        self.name = f"127.0.0.1:{self._server.server_port}"

    def begin(self):
        """Listen."""
        self._thread.start()

    def end(self):
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Relay(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        proxy, epoch = self.proxy, self.proxy.epoch
        proxy.asked += 1
        try:
            _, text = fetch(proxy.upstream)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        proxy.served.append(Served(time.monotonic(), epoch, text))  # before a byte of it is sent
        body = text.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode() + body)

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        """Not on the test's output."""
