"""What a stranger can make the server do: nothing but read, unless it is switched on, and never through a browser."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest
from inferometer import log
from inferometer.exposition.protection import HEADERS
from inferometer.exposition.server import listen, make_app
from test_server import State, ask

ROOT = Path(__file__).parents[1]
POSTS = ("/-/reload", "/-/release")
READS = {
    "/", "/metrics", "/api/v1/snapshot", "/api/v1/board", "/api/v1/history", "/api/v1/events", "/-/healthy", "/-/ready",
}  # fmt: skip
EVIL = "http://169.254.169.254/latest/meta-data/"


def routes():
    """Method and path of everything that is served, and what may vary in the path."""
    return {(route.method, route.resource.canonical) for route in make_app(State()).router.routes()}


def test_every_route_is_known():
    """No path has a part that a client chooses, and only two take a POST."""
    found = routes()
    assert {path for method, path in found if method == "POST"} == set(POSTS)
    assert {method for method, _ in found} == {"GET", "HEAD", "POST"}
    files = {path for method, path in found if method == "GET"} - READS
    assert {path.rpartition(".")[2] for path in files} == {"html", "js", "css", "svg"}
    assert not any("{" in path for _, path in found)


def test_no_route_fetches_what_a_client_names():
    """Whatever is in query, body and headers: no name is looked up, no connection is made and no file is opened."""
    asked = []
    names = ("url", "target", "module", "uri", "path", "file", "since", "seconds", "metrics", "window", "callback")
    query = "&".join(f"{name}={EVIL}" for name in names)
    headers = {"Referer": EVIL, "X-Forwarded-Host": "169.254.169.254", "Forwarded": "host=169.254.169.254"}

    def opened(event, arguments):
        shown = str(arguments)
        if event in {"socket.connect", "socket.getaddrinfo", "open"} and "169.254" in shown:
            asked.append((event, shown))

    sys.addaudithook(opened)
    for method, path in sorted(routes()):
        if path != "/api/v1/events":
            ask(State(), f"{path}?{query}", method, headers=headers, data=EVIL if method == "POST" else None)
    assert asked == []


def test_every_proof_that_the_threat_model_names_is_there():
    """docs/security.md stands on tests; a renamed one must not leave it in the air."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text()))
    written = {
        name for path in (ROOT / "tests").glob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 15
    assert named - written == set()


# -- what changes something -----------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
def test_what_changes_something_is_off_until_it_is_switched_on(path):
    state = State(lifecycle=False)
    status, headers, body = ask(state, path, "POST")
    assert (status, headers["Cache-Control"]) == (403, "no-store")
    assert body == b"This is switched off. SIGHUP reloads; --web.enable-lifecycle switches it on.\n"
    assert (state.reloads, state.releases) == ([], [])


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),  # a name that was made to resolve to this machine looks like this
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://rebound.example:10110", "Host": "rebound.example:10110"}, 403),
    ],
)
def test_no_page_in_a_browser_changes_anything(path, headers, status):
    """Neither a form on another site nor a page whose name resolves to this machine."""
    state = State()
    assert ask(state, path, "POST", headers=headers)[0] == status
    assert bool(state.reloads or state.releases) is (status == 200)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/snapshot", "/-/healthy"])
def test_other_pages_take_no_other_method(method, path):
    assert ask(State(), path, method)[0] == 405


def test_a_browser_may_not_ask_first():
    """No answer to a preflight allows anything."""
    status, headers, _ = ask(State(), "/-/reload", "OPTIONS", headers={"Origin": "http://evil.example"})
    assert status == 405
    assert not [name for name in headers if name.startswith("Access-Control-")]


# -- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*sorted(READS - {"/api/v1/events"}), "/page.js", "/-/reload", "/nowhere"])
def test_every_answer_says_what_a_browser_may_do_with_it(path):
    headers = ask(State(), path)[1]
    assert HEADERS.items() <= dict(headers).items()
    assert headers["Cache-Control"] == "no-store"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not [name for name in headers if name.startswith("Access-Control-")]


def test_a_failing_page_is_protected_too_and_says_nothing():
    class Broken(State):
        def snapshot(self):
            raise RuntimeError("canary")

    status, headers, body = ask(Broken(), "/metrics", headers={"Accept": "text/html"})
    assert (status, headers["X-Content-Type-Options"], b"canary" in body) == (500, "nosniff", False)


def test_a_request_that_is_none_is_refused_without_a_trace(caplog):
    """Its bytes may be a password, and anybody could fill the log with them."""
    canary = b"Authorization Basic Y2FuYXJ5"

    async def run():
        listener = await listen(make_app(State()), "127.0.0.1:0")
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\n" + canary + b"\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer
        finally:
            await listener.close()

    assert b"400 Bad Request" in asyncio.run(run())
    assert caplog.records
    assert [record for record in caplog.records if log._is_ours(record)] == []
