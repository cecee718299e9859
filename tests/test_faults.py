"""Promise of isolation: whatever one engine's address does to the agent, the other engines do not notice."""

import contextlib
import re
import socketserver
import threading
import time
from itertools import pairwise

import pytest
from live import Agent, Engines, Proxy, Scoped, fetch, free_port

INTERVAL_SECONDS, WATCHED_SECONDS = 0.5, 8.0
MOST_BYTES = 250e6
CHUNK = b"vllm:lines_without_end_total 1\n" * 2000


def head(status, *lines):
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()


def stream(send, total):
    send(head("200 OK"))
    sent = 0
    while sent < total:
        send(CHUNK)
        sent += len(CHUNK)


def say_nothing(_send):
    time.sleep(60)


def drip(send):
    send(head("200 OK", "Content-Length: 1000000"))
    while True:
        send(b"a")
        time.sleep(0.1)


# What each bad server does to whoever asks, and the reason by which the agent is to know it.
BAD = {
    "garbage": (lambda send: send(head("200 OK") + bytes(range(256)) * 40), {"not_metrics"}),
    "announced": (lambda send: send(head("200 OK", f"Content-Length: {10**9}") + CHUNK), {"too_large"}),
    "gigabyte": (lambda send: stream(send, 10**9), {"too_large"}),
    "endless": (lambda send: stream(send, float("inf")), {"too_large"}),
    "loop": (lambda send: send(head("302 Found", "Location: /metrics", "Content-Length: 0")), {"redirect"}),
    "error": (lambda send: send(head("500 Internal Server Error", "Content-Length: 0")), {"status"}),
    "mute": (lambda send: send(b""), {"reset"}),
    "cut": (lambda send: send(head("200 OK", "Content-Length: 99999") + CHUNK), {"truncated"}),
    "drip": (drip, {"timeout"}),
    **{f"silent {number}": (say_nothing, {"timeout"}) for number in range(10)},
}


class _Answer(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            while not (data := self.data()).endswith(b"\r\n\r\n") and not data.startswith(b"\x16"):  # or TLS's hello
                pass
            self.server.behave(self.request.sendall)

    def data(self):
        data = self.request.recv(65536)
        if not data:
            raise ConnectionError
        return data


class Bad(Scoped, socketserver.ThreadingTCPServer):
    """A server that does ``behave(send)`` to each request; it may be given another behaviour at any time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behave, port=0):
        super().__init__(("127.0.0.1", port), _Answer)
        self.behave = behave
        self.url = f"http://127.0.0.1:{self.server_address[1]}/metrics"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def begin(self):
        self._thread.start()

    def end(self):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_):
        """Clients hang up; that is what they should do."""


def config(good, bad):
    """One workload of the bad, which are asked first, and one of the good: they share nothing but the process."""
    lists = [", ".join(f'{{url: "{url}"}}' for url in urls) for urls in (good, bad)]
    return (
        f"interval: {INTERVAL_SECONDS:g}s\nscrape: {{max_page_bytes: 16777216}}\nworkloads:\n"
        f"  - {{name: bad, gpus: 5, engines: [{lists[1]}]}}\n  - {{name: good, gpus: 5, engines: [{lists[0]}]}}\n"
    )


def changes(log, url):
    """The log's lines about one source: (up or down, reason)."""
    line = re.compile(rf'msg="source (\w+)" source={re.escape(url)}(?: reason=(\w+) .*)?$', re.MULTILINE)
    return line.findall(log)


def check_good(proxies, page, since):
    """No reading of a good engine failed, and none waited for a bad one."""
    for proxy in proxies:
        assert not page.rows("inferometer_source_errors_total", source=proxy.url)
        assert page.sum("inferometer_source_up", source=proxy.url) == 1
        assert page.sum("inferometer_tokens_total", engine=proxy.name, type="output") > 0
        times = [served.at for served in proxy.served if served.at >= since]
        ticks = (times[-1] - times[0]) / INTERVAL_SECONDS
        assert len(times) - 1 >= 0.8 * ticks, "readings were skipped"
        assert times[-1] - times[0] > 0.8 * WATCHED_SECONDS
        assert max(b - a for a, b in pairwise(times)) < 4 * INTERVAL_SECONDS


def check_bad(agent, page, url, reasons):
    """Its reason is counted, and the log has one line for each change of state, not one for each reading."""
    counted = {row.labels["reason"]: row.value for row in page.rows("inferometer_source_errors_total", source=url)}
    assert counted.keys() & reasons, f"{url}: {counted}"
    assert sum(counted.values()) > 1
    told = changes(agent.log, url)
    assert len(told) == 1 or len(counted) > 1, told
    assert {state for state, _ in told} == {"down"}
    assert all(a != b for a, b in pairwise(told)), "told again what was known"


@pytest.fixture
def good(tmp_path):
    """Five engines under load behind proxies that know when they were read."""
    with contextlib.ExitStack() as world:
        engines = world.enter_context(Engines(tmp_path / "engines.log", count=5, load=3))
        yield [world.enter_context(Proxy(url)) for url in engines.urls]


def test_bad_engines_disturb_neither_the_good_ones_nor_the_agent(tmp_path, good):
    """All kinds of bad servers at once; then those that can be healed are, and are read without a restart."""
    with contextlib.ExitStack() as world:
        servers = {name: world.enter_context(Bad(behave)) for name, (behave, _) in BAD.items()}
        closed = free_port()
        expected = {servers[name].url: reasons for name, (_, reasons) in BAD.items()}
        expected[servers["error"].url.replace("http:", "https:").replace("/metrics", "/tls")] = {"tls"}
        expected["http://name.invalid:8000/metrics"] = {"dns", "timeout"}  # how soon it fails is the resolver's affair
        expected[f"http://127.0.0.1:{closed}/metrics"] = {"refused"}
        (tmp_path / "agent.yaml").write_text(config([proxy.url for proxy in good], expected))
        agent = world.enter_context(Agent(tmp_path / "log", "--config.file", tmp_path / "agent.yaml"))
        agent.until(lambda page: page.sum("inferometer_source_up") == len(good))
        began, most = time.monotonic(), 0.0
        while time.monotonic() < began + WATCHED_SECONDS:
            most = max(most, agent.page().sum("process_resident_memory_bytes"))
            time.sleep(0.1)
        page = agent.page()
        assert most < MOST_BYTES
        assert page.sum("inferometer_event_loop_lag_seconds") < 1
        check_good(good, page, began)
        for url, reasons in expected.items():
            check_bad(agent, page, url, reasons)

        healthy = fetch(good[0].upstream)[1].encode()
        whole = head("200 OK", f"Content-Length: {len(healthy)}") + healthy
        for server in servers.values():
            server.behave = lambda send: send(whole)
        world.enter_context(Bad(lambda send: send(whole), closed))
        healed = [server.url for server in servers.values()] + [f"http://127.0.0.1:{closed}/metrics"]
        for url in healed:
            agent.until(lambda page, url=url: page.sum("inferometer_source_up", source=url) == 1, f"{url} is read")
            assert changes(agent.log, url)[-1] == ("up", "")
            assert [state for state, _ in changes(agent.log, url)].count("up") == 1
            assert agent.page().sum("inferometer_engine_up", engine=url.split("/")[2]) == 1
        assert agent.stop() == 0
        assert "Traceback" not in agent.log
