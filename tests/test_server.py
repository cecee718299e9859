"""The server, asked over real sockets: every route, both formats, the probes, and clients that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from inferometer.exposition import server
from inferometer.exposition.accept import takes_gzip, wants_openmetrics
from inferometer.exposition.board import GAUGES, WORKLOAD_COLUMNS
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.feed import Feed
from inferometer.exposition.listen import _parsed
from inferometer.exposition.server import listen, make_app
from inferometer.model import Snapshot
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

PAGE = Path(server.__file__).parent / "page"
ONE = Snapshot(
    1.8e9,
    totals={("inferometer_tokens_total", ("chat", "e", "m", "output")): 8.0},
    created={("inferometer_tokens_total", ("chat", "e", "m", "output")): 1.7e9},
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TEXT_FIRST = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"


@dataclass
class State:
    """An agent as the server sees it."""

    newest: Snapshot | None = ONE
    age: float = 0.0
    interval_seconds: float = 5.0
    readiness: tuple[bool, str] = (True, "")
    fault: str = ""
    releases: list[float] = field(default_factory=list)
    lifecycle: bool = True
    outcome: tuple[bool, str] = (True, "reloaded")
    reloads: list[str] = field(default_factory=list)
    feed: Feed = field(default_factory=Feed)

    def snapshot(self):
        return self.newest

    def age_seconds(self):
        return self.age

    def healthy(self):
        return self.fault

    async def release(self, seconds):
        self.releases.append(seconds)
        return "released"

    def ready(self):
        return self.readiness

    async def reload(self):
        self.reloads.append("once")
        return self.outcome


@asynccontextmanager
async def serving(state):
    """A client of a real server on a free port; nothing is decompressed for it."""
    listener = await listen(make_app(state), "127.0.0.1:0")
    try:
        base = f"http://127.0.0.1:{listener.port}"
        async with aiohttp.ClientSession(base, auto_decompress=False) as client:
            yield client
    finally:
        await listener.close()


def ask(state, path, method="GET", **options):
    """Status, headers and body of one request."""

    async def talk():
        async with serving(state) as client, client.request(method, path, **options) as response:
            return response.status, response.headers, await response.read()

    return asyncio.run(talk())


def metrics(accept="*/*", encoding="identity", method="GET"):
    return ask(State(), "/metrics", method, headers={"Accept": accept, "Accept-Encoding": encoding})


def test_metrics_are_text_unless_openmetrics_is_asked_for():
    status, headers, body = metrics()
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in parse_text(body.decode())}
    assert families["inferometer_tokens"].samples[0].value == 8.0
    assert "process_resident_memory_bytes" in families


def test_metrics_are_openmetrics_for_prometheus():
    status, headers, body = metrics(PROMETHEUS_2)
    assert (status, headers["Content-Type"]) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert {sample.name for sample in families["inferometer_tokens"].samples} == {
        "inferometer_tokens_total",
        "inferometer_tokens_created",
    }


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; version=1.0.0", True),
        (PROMETHEUS_2, True),
        (TEXT_FIRST, False),
        ("application/openmetrics-text;q=0, */*", False),
        ("application/openmetrics-text;q=x", False),
        (";;,=,", False),
    ],
)
def test_accept_is_weighed(accept, openmetrics):
    assert wants_openmetrics(accept) == openmetrics


@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("gzip;q=0, *", False),
    ],
)
def test_gzip_is_sent_only_to_those_who_take_it(header, packed):
    assert takes_gzip(header) == packed


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/snapshot"])
def test_gzip_on_the_wire(path):
    state = State()
    _, headers, packed = ask(state, path, headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in headers["Vary"]
    plain_headers = ask(state, path, headers={"Accept-Encoding": "identity"})[1]
    assert "Content-Encoding" not in plain_headers
    assert b"inferometer_tokens_total" in gzip.decompress(packed)


def test_head_has_the_headers_and_no_body():
    status, headers, body = metrics(method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/snapshot"])
def test_before_the_first_snapshot_there_is_a_sentence(path):
    status, _, body = ask(State(newest=None), path)
    assert (status, body.decode()) == (
        503,
        "There is no snapshot yet: the first readings are still under way. Try again in a moment.\n",
    )


@pytest.mark.parametrize(
    ("interval", "age", "status", "text"),
    [
        (5.0, 30.0, 200, "ok\n"),
        (5.0, 31.0, 503, "The newest snapshot is 31 s old, more than 30 s.\n"),
        (15.0, 45.0, 200, "ok\n"),
        (15.0, 46.0, 503, "The newest snapshot is 46 s old, more than 45 s.\n"),
    ],
)
def test_healthy_until_three_intervals_and_at_least_30_seconds_have_passed(interval, age, status, text):
    answer = ask(State(age=age, interval_seconds=interval), "/-/healthy")
    assert (answer[0], answer[2].decode()) == (status, text)


def test_a_fault_that_only_a_restart_mends_is_unhealthy():
    """The driver was upgraded under the agent: the orchestrator is to restart it."""
    answer = ask(State(fault="the NVIDIA driver was upgraded under this process"), "/-/healthy")
    assert (answer[0], answer[2].decode()) == (503, "the NVIDIA driver was upgraded under this process\n")


@pytest.mark.parametrize(
    ("query", "status", "text", "released"),
    [
        ("", 200, "released\n", [60.0]),
        ("?seconds=5", 200, "released\n", [5.0]),
        ("?seconds=0", 400, "seconds=0: give a number above 0 and up to 3600\n", []),
        ("?seconds=soon", 400, "seconds=soon: give a number above 0 and up to 3600\n", []),
    ],
)
def test_the_gpu_driver_is_released_for_some_seconds(query, status, text, released):
    state = State()
    answer = ask(state, f"/-/release{query}", method="POST")
    assert (answer[0], answer[2].decode(), state.releases) == (status, text, released)


@pytest.mark.parametrize(
    ("readiness", "status", "text"),
    [
        ((True, ""), 200, "ready\n"),
        ((False, "the restart gap is not settled"), 503, "the restart gap is not settled\n"),
    ],
)
def test_ready_says_why_not(readiness, status, text):
    answer = ask(State(readiness=readiness), "/-/ready")
    assert (answer[0], answer[2].decode()) == (status, text)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [((True, "reloaded"), 200), ((False, "f.yaml:3: workloads[0].price: no price is called 'x'"), 400)],
)
def test_reload_answers_with_what_came_of_it(outcome, status):
    state = State(outcome=outcome)
    answer = ask(state, "/-/reload", "POST")
    assert (answer[0], answer[2].decode()) == (status, f"{outcome[1]}\n")
    assert state.reloads == ["once"]


def test_reading_never_reloads():
    state = State()
    assert ask(state, "/-/reload")[0] == 405
    assert state.reloads == []


def test_the_api_is_json_with_and_without_the_series():
    status, headers, body = ask(State(), "/api/v1/snapshot", headers={"Accept-Encoding": "identity"})
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["metrics"]["inferometer_tokens_total"][0]["value"] == 8.0
    short = ask(State(), "/api/v1/snapshot?metrics=false", headers={"Accept-Encoding": "identity"})[2]
    assert json.loads(short)["workloads"]["chat"]["totals"]["tokens"]["total"] == 8.0
    assert "metrics" not in json.loads(short)


def test_an_unknown_path_is_told_what_exists():
    status, headers, body = ask(State(), "/metric")
    assert (status, headers["X-Content-Type-Options"]) == (404, "nosniff")
    for path in ("/metrics", "/api/v1/snapshot", "/-/healthy", "/-/ready", "POST /-/reload"):
        assert path in body.decode()


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/reload", "/nowhere"])
def test_every_answer_carries_the_security_headers(path):
    headers = ask(State(), path)[1]
    assert headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_is_whole_and_asks_nobody_else():
    """All that the page refers to is served here, and nothing is inline that its own policy would forbid."""
    status, headers, body = ask(State(), "/")
    html = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<style" not in html
    assert not re.search(r"<script(?![^>]* src=)| style=| on[a-z]+=", html)
    references = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert {"page.css", "page.js", "icon.svg"} <= set(references)
    for reference in references:
        assert ask(State(), f"/{reference}")[0] == 200
    for path in [path for path in PAGE.iterdir() if path.suffix in {".css", ".js"}]:
        assert ask(State(), f"/{path.name}")[0] == 200
        assert set(re.findall(r"\w+://[^\"'`)\s]*", path.read_text())) <= {"http://www.w3.org/2000/svg"}, path.name


def test_the_page_reads_only_what_the_board_has():
    """Numbers named in the scripts are numbers of the board, and those are gauges of the catalog."""
    named = set(re.findall(r"\b(?:of|numbers)\.([a-z_]+)", (PAGE / "tiles.js").read_text())) - {"js"}
    assert len(named) >= 10
    assert named <= set(GAUGES) | {"tokens_per_second", "money_per_hour", "idle_ratio"}
    assert {f"inferometer_{name}" for name, *_ in GAUGES.values()} <= set(CATALOG)
    drawn = set(re.findall(r'spark: \["([a-z_]+)"(?:, "([a-z_]+)")?\]', (PAGE / "tiles.js").read_text()))
    assert {column for pair in drawn for column in pair if column} <= set(WORKLOAD_COLUMNS)


def big():
    totals = {("inferometer_resets_total", (f"engine-{i:05d}-{'x' * 200}",)): 1.0 for i in range(20_000)}
    return Snapshot(1.8e9, totals=totals)


def test_a_client_that_does_not_read_holds_nobody_up():
    """It gets a page larger than the socket buffers and never reads; others are served, and closing does not wait."""

    async def talk():
        async with asyncio.timeout(20):
            async with serving(State(newest=big())) as client:
                reader, writer = await asyncio.open_connection(client._base_url.host, client._base_url.port, limit=1024)
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                for _ in range(3):
                    async with client.get("/metrics", headers={"Accept-Encoding": "gzip"}) as response:
                        assert (await response.read())[:2] == b"\x1f\x8b"
            writer.close()

    asyncio.run(talk())


def test_a_client_that_sends_byte_by_byte_holds_nobody_up():
    async def talk():
        async with asyncio.timeout(20), serving(State()) as client:
            reader, writer = await asyncio.open_connection(client._base_url.host, client._base_url.port)
            for byte in b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                if byte == ord(" "):
                    async with client.get("/-/healthy") as response:
                        assert response.status == 200
            assert (await reader.read()).endswith(b"ok\n")
            writer.close()

    asyncio.run(talk())


def test_listening_on_every_interface_answers_on_ipv4():
    async def talk():
        listener = await listen(make_app(State()), ":0")
        try:
            url = f"http://127.0.0.1:{listener.port}/-/healthy"
            async with aiohttp.ClientSession() as client, client.get(url) as response:
                return response.status
        finally:
            await listener.close()

    assert asyncio.run(talk()) == 200


def test_closing_frees_the_port():
    async def talk():
        listener = await listen(make_app(State()), "127.0.0.1:0")
        await listener.close()
        again = await listen(make_app(State()), f"127.0.0.1:{listener.port}")
        await again.close()
        return listener, again

    first, again = asyncio.run(talk())
    assert (first.host, first.port) == (again.host, again.port)


def refused(address):
    with pytest.raises(OSError, match=r"--web\.listen-address") as caught:
        asyncio.run(listen(web.Application(), address))
    return str(caught.value)


def test_a_busy_port_names_the_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "Address already in use; is another agent running?" in refused(address)


@pytest.mark.parametrize("address", ["", "10110", "localhost", "host:", ":http", ":70000", ":-1", "::1:9", ":²"])
def test_an_address_that_cannot_be_read_is_shown_with_what_is_wanted(address):
    assert f"{address!r}, want HOST:PORT, :PORT or [IPV6]:PORT" in refused(address)


def test_an_ipv6_address_stands_in_brackets():
    assert _parsed("[::1]:9") == ("::1", 9)
    assert _parsed(":10110") == ("", 10110)
    assert _parsed("127.0.0.1:0") == ("127.0.0.1", 0)
