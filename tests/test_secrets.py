"""Secrets are planted wherever one can be configured, and looked for in all that comes out again."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gated import PAIR, hashed, login
from live import Agent, eventually, free_port, inferometer_here

PLACES = (
    "token", "spoilt", "apitoken", "junk", "key", "user", "password", "wrong", "hash", "inline", "header", "cleartext",
    "malformed", "calibrate", "client",
)  # fmt: skip
CANARY = {place: f"kanarie{number}{place}vogel" for number, place in enumerate(PLACES)}


def leaks(*texts):
    """The places whose secret is in one of the texts, plain, in base64 as headers have it, or as bcrypt keeps it."""
    whole = "\n".join(text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts)
    codes = {place: base64.b64encode(b"bob:" + secret.encode()).decode() for place, secret in CANARY.items()}
    return sorted(
        place for place, secret in CANARY.items() if secret in whole or codes[place] in whole or "$2b$" in whole
    )


class Target(BaseHTTPRequestHandler):
    """A page, and ways to fail; it remembers what it was shown."""

    protocol_version = "HTTP/1.1"
    seen: list

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        status, location, body = 200, "", b"x 1\n"
        if self.path.startswith("/refuse"):
            status = 401
        elif self.path.startswith("/away"):
            status, location = 302, f"http://metadata.invalid{self.path}"
        elif self.path.startswith("/html"):
            body = b"<html>" + self.path.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  the names are http.server's

    def handle(self):
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        """Not on the test's output."""


@contextmanager
def target():
    """A target that listens: its port, and what it has been shown so far."""
    handler = type("Handler", (Target,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port, handler.seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def planted(folder):
    """Files that hold the canaries."""
    for name in ("token", "apitoken", "junk", "calibrate", "client"):
        (folder / name).write_text(CANARY[name] + "\n")
    (folder / "spoilt").write_text(f"{CANARY['spoilt']} two words\n")
    (folder / "web.yml").write_text(
        f"tls_server_config: {{{PAIR}}}\nbasic_auth_users: {{bob: '{hashed(CANARY['password'])}'}}\n"
    )


def configuration(folder, port):
    """An agent's, with secrets in all its places; relative paths do not help a process elsewhere."""
    token, base = f"bearer_token_file: {folder}/token", f"http://127.0.0.1:{port}"
    tls = f"tls: {{cert_file: {folder}/junk, key_file: {folder}/junk}}"
    return f"""\
interval: 200ms
web: {{config_file: {folder}/web.yml, enable_lifecycle: true}}
log: {{level: debug, format: json}}
storage: {{path: {folder}/ledger}}
gpu: {{sources: []}}
kubernetes: {{api_url: "{base}", token_file: {folder}/apitoken}}
prices: {{default: {{from: {{opencost: "{base}/prices?key=$(KEY)"}}}}}}
workloads:
  - name: chat
    engines:
      - {{url: "{base}/metrics?key=$(KEY)", {token}}}
      - {{url: "{base}/refuse?key=$(KEY)", {token}}}
      - {{url: "{base}/away?key=$(KEY)", {token}}}
      - {{url: "{base}/html?key=$(KEY)", {token}}}
      - {{url: "https://127.0.0.1:{port}/metrics?key=$(KEY)", {token}, {tls}}}
      - {{url: "https://127.0.0.1:{port}/plain?key=$(KEY)", {token}, tls: {{insecure_skip_verify: true}}}}
      - {{url: "http://127.0.0.1:1/dead?key=$(KEY)", {token}}}
      - {{url: "{base}/spoilt?key=$(KEY)", bearer_token_file: {folder}/spoilt}}
"""


BAD = f"""\
interval: 200ms
token: {CANARY["inline"]}
workloads:
  - name: chat
    engines:
      - {{url: "http://u:{CANARY["user"]}@h/metrics", token: {CANARY["inline"]}, password: {CANARY["inline"]}}}
      - {{url: "http://h/$(KEY) x", headers: {{Authorization: {CANARY["header"]}}}}}
      - {{url: "$(KEY)/metrics", bearer_token: {CANARY["inline"]}}}
"""


class Caller:
    """Asks an agent that speaks TLS."""

    def __init__(self, url, authority):
        self.host, _, port = url.removeprefix("https://").rpartition(":")
        self.port = int(port)
        self.context = ssl.create_default_context(cafile=authority)

    def get(self, path, password, method="GET"):
        """Status and all of the answer, headers included."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=10, context=self.context)
        try:
            connection.request(method, path, headers={"Authorization": login("bob", password)})
            answer = connection.getresponse()
            body = answer.read(4096 if path.endswith("events") else None)
            return answer.status, f"{answer.headers}{body.decode()}"
        finally:
            connection.close()


def test_a_running_agent_keeps_its_secrets(folder):
    """Log, pages, ledger and answers, while sources fail in many ways and files are spoilt under it."""
    planted(folder)
    config = folder / "inferometer.yml"
    with target() as (port, seen):
        config.write_text(configuration(folder, port))
        with Agent(folder / "log", "--config.file", config, KEY=CANARY["key"]) as agent:
            url = agent.waits_for(r'listen\W+(https[^\s"]+)')[1]
            caller, right = Caller(url, folder / "authority.crt"), CANARY["password"]
            eventually(lambda: caller.get("/metrics", right)[1].count("inferometer_source_errors_total{") >= 5)
            said = [caller.get("/metrics", CANARY["wrong"])[1]]
            for path in ("/", "/metrics", "/api/v1/snapshot", "/api/v1/board", "/api/v1/history", "/-/ready", "/x"):
                status, text = caller.get(path, right)
                assert status in {200, 404, 503}
                said.append(text)
            with caller.context.wrap_socket(_connected(caller), server_hostname=caller.host) as plain:
                plain.sendall(f"GET / HTTP/1.1\r\nAuthorization {CANARY['malformed']}\r\n\r\n".encode())
                said.append(plain.recv(4096).partition(b"\r\n\r\n")[0])
            config.write_text(BAD)
            status, text = caller.get("/-/reload", right, "POST")
            assert (status, "is never given inline" in text, "carries a user or password" in text) == (400, True, True)
            said.append(text)
            (folder / "web.yml").write_text(f"basic_auth_users: {{bob: {CANARY['cleartext']}}}\n")
            caller.get("/metrics", right)
            agent.waits_for("the web configuration is bad")
            agent.stop()
            kept = [path.read_bytes() for path in (folder / "ledger").iterdir()]
            assert kept
            assert leaks(agent.log, *said, *kept) == []
    shown = {word for _, word in seen}
    assert f"Bearer {CANARY['token']}" in shown  # they were in use
    assert f"Bearer {CANARY['apitoken']}" in shown
    assert any(CANARY["key"] in path for path, _ in seen)


def _connected(caller):
    return socket.create_connection((caller.host, caller.port), 10)


def test_check_shows_files_and_variables_by_name(folder, capsys, monkeypatch):
    """Whether the configuration is good or bad."""
    monkeypatch.setenv("KEY", CANARY["key"])
    planted(folder)
    config = folder / "inferometer.yml"
    config.write_text(configuration(folder, 9))
    code, out, said = inferometer_here(capsys, "check", config)
    assert (code, said) == (0, "")
    assert "url: http://127.0.0.1:9/metrics?key=$(KEY)" in out
    assert leaks(out) == []
    config.write_text(BAD)
    code, out, said = inferometer_here(capsys, "check", config)
    assert (code, "$(KEY)" in said) == (1, True)
    assert leaks(out, said) == []


def test_commands_keep_what_an_address_holds(folder, capsys):
    """Name, password and query: on the terminal, in errors and in what is recorded."""
    planted(folder)
    with target() as (port, seen):
        urls = {
            path: f"http://bob:{CANARY['user']}@127.0.0.1:{place}/{path}?key={CANARY['key']}"
            for place, path in (
                (port, "metrics"),
                (port, "refuse"),
                (port, "away"),
                (port, "html"),
                (free_port(), "dead"),
            )
        }
        out, pace = folder / "recording", ("--for", "100ms", "--every", "100ms")
        token = ("--bearer-token-file", folder / "calibrate")
        runs = [
            *(inferometer_here(capsys, "record", url, "--out", out / path, *pace) for path, url in urls.items()),
            inferometer_here(capsys, "top", urls["metrics"]),
            inferometer_here(capsys, "calibrate", urls["metrics"], "--for", "1s", *token),
            inferometer_here(capsys, "run", "--engine.url", urls["metrics"]),
        ]
        runs.extend(inferometer_here(capsys, "explain", url) for url in urls.values())
        # a page that repeats its own address is recorded byte by byte, as are all
        files = [file.read_bytes() for file in out.rglob("*") if file.is_file() and "html" not in str(file)]
    assert len(files) >= 3
    assert leaks(json.dumps(runs), *files) == []
    assert login("bob", CANARY["user"]) in {word for _, word in seen}


def test_a_file_for_top_keeps_its_password(folder, capsys):
    planted(folder)
    client = folder / "client.yml"
    client.write_text(f"basic_auth: {{username: bob, password_file: client}}\ntoken: {CANARY['inline']}\n")
    bad = inferometer_here(capsys, "top", "localhost:1", "--http.config.file", client)
    client.write_text("basic_auth: {username: bob, password_file: client}\n")
    with target() as (port, seen):
        refused = inferometer_here(capsys, "top", f"http://127.0.0.1:{port}/refuse", "--http.config.file", client)
        away = inferometer_here(capsys, "top", f"http://127.0.0.1:{port}/away", "--http.config.file", client)
    assert [code for code, *_ in (bad, refused, away)] == [1, 2, 2]
    assert leaks(json.dumps([bad, refused, away])) == []
    assert login("bob", CANARY["client"]) in {word for _, word in seen}


def test_the_search_finds_what_is_there():
    """A search that finds nothing anywhere proves nothing."""
    for place in PLACES:
        assert leaks(f"x{CANARY[place]}x") == leaks(login("bob", CANARY[place])) == [place]
    assert leaks("a $2b$10$ hash") == sorted(PLACES)
