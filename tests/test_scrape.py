"""Readings of real local servers: good ones, and every bad one by the name of its fault."""

import asyncio
import contextlib
import errno
import gzip
import itertools
import os
import ssl
import subprocess
import time
import zlib

import pytest
from inferometer.model import Page, Series
from inferometer.sources import boottime, poll
from inferometer.sources.alarms import Alarms
from inferometer.sources.resolver import Resolver
from inferometer.sources.scrape import REASONS, Scraper, Target, _fault, open_session

BODY = b'x{a="b"} 1\ny 2\n'
READING = ((Series("x", (("a", "b"),)), 1.0), (Series("y", ()), 2.0))


def answer(body=BODY, status="200 OK", *headers, length=True):
    """The bytes of one HTTP answer."""
    size = [f"Content-Length: {len(body)}"] if length else ["Connection: close"]
    return "\r\n".join([f"HTTP/1.1 {status}", *size, *headers, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def serving(handle, tls=None):
    """A server on a free port; ``handle(head, writer)`` answers each request. Yields its origin."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await handle(head, writer)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(data, *, close=False):
    """A handler that always gives the same bytes."""

    async def handle(_head, writer):
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return handle


async def read(url, times=1, **options):
    """Read ``url`` with a fresh session; the newest page."""
    async with open_session() as session:
        options = {"timeout_seconds": 5.0} | options
        scraper = Scraper(Target("t", url, **options), None, session, boottime)
        for _ in range(times - 1):
            await scraper.read()
        return await scraper.read()


def read_from(handle, times=1, tls=None, **options):
    """Serve, read and stop."""

    async def run():
        async with serving(handle, tls) as origin:
            return await read(origin + "/metrics", times, **options)

    return asyncio.run(run())


def test_a_good_page_is_read_whole_with_its_times():
    """The series, the source's name, the steady time of arrival and how long it took."""
    began = boottime()
    page = read_from(says(answer()), times=2)
    assert (page.source, page.error, page.detail, page.series) == ("t", "", "", READING)
    assert began < page.at <= boottime()
    assert 0 < page.seconds <= page.at - began


def test_connections_are_kept_and_the_request_is_plain():
    """Ten readings take one connection; no compression, cookie or credential is offered."""
    heads, writers = [], set()

    async def handle(head, writer):
        heads.append(head)
        writers.add(writer)
        writer.write(answer(BODY, "200 OK", "Set-Cookie: a=b"))

    assert read_from(handle, times=10).error == ""
    assert (len(heads), len(writers)) == (10, 1)
    assert "accept: text/plain;version=0.0.4\r\naccept-encoding: identity\r\n" in heads[-1].lower()
    assert not any(word in heads[-1].lower() for word in ("cookie", "authorization"))


def test_a_connection_that_the_server_closed_meanwhile_costs_no_reading():
    """Uvicorn closes what is idle for 5 s, which may be the moment of the next request: it is sent once more."""
    heads = []

    async def handle(head, writer):
        heads.append(head)
        writer.write(answer())
        await writer.drain()
        if len(heads) < 5:
            asyncio.get_running_loop().call_soon(writer.close)

    async def slowly():
        async with serving(handle) as origin, open_session() as session:
            scraper = Scraper(Target("t", origin), None, session, boottime)
            pages = []
            for seconds in (0, 0, 0, 0.05, 0):
                await asyncio.sleep(seconds)
                pages.append((await scraper.read()).error)
            return pages

    assert asyncio.run(slowly()) == [""] * 5
    assert len(heads) == 5


def test_what_comes_after_an_answer_is_not_taken_for_the_next_one():
    """A server that sends two answers to one request loses its connection."""
    first, second = answer(b"x 1\n"), answer(b"x 2\n")
    calls = []

    async def handle(_head, writer):
        calls.append(writer)
        writer.write(first + second if len(calls) == 1 else first)

    page = read_from(handle, times=3)
    assert (page.error, [value for _, value in page.series]) == ("", [1.0])
    assert len(set(calls)) == 2


def raw_deflate(body):
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY[:5]) + gzip.compress(BODY[5:])),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
    ],
)
def test_compressed_answers_are_understood_though_not_asked_for(encoding, body):
    page = read_from(says(answer(body, "200 OK", f"Content-Encoding: {encoding}")))
    assert (page.error, page.series) == ("", READING)


HTML = b"<!DOCTYPE html>\n<p>\nTotal 5\n</p>"
GZIP = "Content-Encoding: gzip"
FAULTS = {
    "500": (answer(b"oops", "500 Internal Server Error"), "status", "the server answered 500"),
    "404": (answer(BODY, "404 Not Found"), "status", "the server answered 404"),
    "401": (answer(b"", "401 Unauthorized"), "status", "the server answered 401; check the token"),
    "204": (answer(b"", "204 No Content", length=False), "status", "the server answered 204"),
    "html": (answer(HTML), "not_metrics", "no metrics page but HTML; check the path of the address"),
    "json": (answer(b'{"status": "ok"}'), "not_metrics", "no metrics page but JSON; check the path of the address"),
    "binary": (answer(bytes(range(256))), "not_metrics", "no metrics page but something else; check the path"),
    "empty": (answer(b""), "truncated", "the page is empty"),
    "cut page": (answer(b"x 1\ny 12"), "truncated", "the page ends in the middle of a line"),
    "cut early": (answer(b"# HELP x Some"), "truncated", "the page ends in the middle of a line"),
    "cut gzip": (answer(gzip.compress(BODY)[:-9], "200 OK", GZIP), "truncated", "the compressed body ends in the"),
    "no gzip": (answer(BODY, "200 OK", GZIP), "protocol", "the compressed body is damaged"),
    "brotli": (answer(BODY, "200 OK", "Content-Encoding: br"), "protocol", "an encoding that was not asked for: br"),
    "no http": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "protocol", "no usable HTTP answer"),
    "huge header": (answer(BODY, "200 OK", "X: " + "x" * 100_000), "protocol", "no usable HTTP answer"),
    "announced": (answer(b"").replace(b"Length: 0", b"Length: 1000000000"), "too_large", "larger than 5000000 bytes"),
    "nowhere": (answer(b"", "302 Found"), "redirect", "a redirect (302) to no usable address"),
    "ftp": (answer(b"", "302 Found", "Location: ftp://x/y"), "redirect", "a redirect (302) to no usable address"),
    "round": (answer(b"", "307 Temporary Redirect", "Location: /metrics"), "redirect", "more than 3 redirects"),
    "bomb": (answer(gzip.compress(bytes(50_000_000)), "200 OK", GZIP), "too_large", "inflates beyond 5000000 bytes"),
    "bombs": (answer(gzip.compress(b"") * 20_000, "200 OK", GZIP), "protocol", "more than 100 parts"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_answers_that_are_no_reading(name):
    """Each bad answer has its reason out of the closed set, and a sentence that says what to look at."""
    data, reason, sentence = FAULTS[name]
    page = read_from(says(data), max_page_bytes=5_000_000)
    assert (page.error, page.series) == (reason, ())
    assert sentence in page.detail
    assert reason in REASONS


CUT = {
    "short content length": (answer(BODY).replace(b"15", b"99"), "truncated"),
    "chunked cut": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + BODY + b"\r\n", "truncated"),
    "nothing": (b"", "reset"),
    "half a header": (b"HTTP/1.1 200 OK\r\nConte", "reset"),
}


@pytest.mark.parametrize("name", CUT)
def test_answers_whose_connection_ends_too_early(name):
    """What was announced and did not come makes the whole reading void, whatever of it could be read."""
    data, reason = CUT[name]
    page = read_from(says(data, close=True))
    assert (page.error, page.series) == (reason, ())


def test_a_reset_in_the_middle_of_the_body():
    """A server that dies while it answers is told from one that ends its answer early."""

    async def handle(_head, writer):
        writer.write(answer(BODY).replace(b"15", b"999"))
        await writer.drain()
        await asyncio.sleep(0.05)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: the kernel sends RST
        writer.transport.abort()

    assert read_from(handle).error == "reset"


def test_a_server_that_has_gone_and_a_name_that_never_was():
    """Connection refused and an unknown host are told apart, and neither shows a password."""

    async def run():
        async with serving(says(answer())) as origin:
            pass
        return [await read(url) for url in (origin.replace("//", "//u:hush@"), "http://name.invalid/", "http://[::1/")]

    pages = asyncio.run(run())
    assert [page.error for page in pages] == ["refused", "dns", "protocol"]
    assert "is the server up" in pages[0].detail
    assert "the host name cannot be resolved" in pages[1].detail
    assert "hush" not in repr(pages)


def drip(seconds):
    async def handle(_head, writer):
        writer.write(answer(b"", length=False))
        while not writer.is_closing():
            writer.write(b"x 1\n")
            await writer.drain()
            await asyncio.sleep(seconds)

    return handle


async def silent(_head, _writer):
    await asyncio.sleep(60)


@pytest.mark.parametrize("handle", [drip(0.02), silent], ids=["drips", "says nothing"])
def test_the_deadline_is_for_the_whole_reading(handle):
    """Neither silence nor a byte now and then keeps a reading beyond its timeout."""
    began = time.monotonic()
    page = read_from(handle, timeout_seconds=0.3)
    assert (page.error, page.detail) == ("timeout", "no whole answer within 0.3 s")
    assert 0.25 < page.seconds < 2
    assert time.monotonic() - began < 3


def test_an_endless_page_stops_at_the_limit():
    """A page without end is dropped at max_page_bytes; the server can send little more than that."""
    sent = 0

    async def handle(_head, writer):
        nonlocal sent
        writer.write(answer(b"", length=False))
        while not writer.is_closing() and sent < 1_000_000_000:
            writer.write(b"x 1\n" * 16_384)
            sent += 65_536
            await writer.drain()

    page = read_from(handle, max_page_bytes=2_000_000)
    assert page.error == "too_large"
    assert sent < 20_000_000


def test_a_trailer_without_end_is_a_fault_after_64_kilobytes():
    """A header that never ends would grow in the parser where no limit of the page applies."""
    sent = 0

    async def handle(_head, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nx 1\n\r\n0\r\nX: ")
        while not writer.is_closing() and sent < 1_000_000_000:
            writer.write(b"a" * 65_536)
            sent += 65_536
            await writer.drain()

    assert read_from(handle).error == "protocol"
    assert sent < 20_000_000


def test_a_page_in_chunks_of_two_bytes_takes_the_room_of_its_bytes():
    body = b"x 1\n" * 50_000
    chunks = b"".join(b"2\r\n%b\r\n" % body[at : at + 2] for at in range(0, len(body), 2))
    page = read_from(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"))
    assert (page.error, len(page.layout)) == ("", 50_000)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("[Errno 113] no route, [Errno 101] Network is unreachable", "unreachable"),
        ("[Errno 111] Connect call failed, [Errno 101] Network is unreachable", "refused"),
        ("[Errno 111] Connect call failed, [Errno 113] no route", "unreachable"),
    ],
)
def test_a_host_of_several_addresses_refuses_where_all_that_can_be_asked_do(said, reason):
    assert _fault(OSError(f"Multiple exceptions: {said}"))[0] == reason


def test_large_pages_do_not_hold_up_the_loop():
    """While a page of 4 MB is parsed the loop keeps turning, and the page is whole."""
    body = b"".join(b'x{i="%d"} 1\n' % i for i in range(250_000))

    async def run():
        async with serving(says(answer(body))) as origin:
            ticker = asyncio.create_task(longest_gap())
            page = await read(origin, timeout_seconds=30.0, max_page_series=300_000)
            ticker.cancel()
            return page, await ticker

    page, gap = asyncio.run(run())
    assert (page.error, len(page.series)) == ("", 250_000)
    assert gap < 0.5


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, "exhausted"),
        (errno.ENFILE, "exhausted"),
        (errno.EADDRNOTAVAIL, "exhausted"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.ECONNREFUSED, "refused"),
    ],
)
def test_only_a_server_that_refuses_is_said_to_refuse(monkeypatch, number, reason):
    """A process behind a refusal cannot have served, so that its first page counts whole; all else proves nothing."""

    async def fails(*_args, **_more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", fails)
    page = asyncio.run(read("http://127.0.0.1:9"))
    assert page.error == reason
    assert os.strerror(number) in page.detail


@pytest.mark.parametrize("series", [20, 80_000], ids=["small", "of several blocks"])
def test_a_page_with_too_many_series_is_no_reading(series):
    """Half a page would look like series that went away."""
    body = b"".join(b'x{i="%d"} 1\n' % i for i in range(series))
    page = read_from(says(answer(body)), max_page_series=19, timeout_seconds=30.0)
    assert (page.error, page.series) == ("too_large", ())
    assert "max_page_series" in page.detail


async def longest_gap():
    """The longest time for which the loop did not turn, until cancelled."""
    longest, before = 0.0, time.monotonic()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
    return longest


def test_redirects_are_followed_but_the_token_stays_at_home(tmp_path):
    """The same origin gets the token again, another port of the host does not."""
    (tmp_path / "token").write_text("secret\n")
    heads = {}

    async def other(head, writer):
        heads["other"] = head
        writer.write(answer())

    async def run():
        async with serving(other) as there:

            async def home(head, writer):
                path = head.split(" ")[1]
                heads[path] = head
                location = {"/a": "/b", "/b": f"{there}/c"}.get(path)
                writer.write(answer(b"", "302 Found", f"Location: {location}") if location else answer())

            async with serving(home) as here:
                return await read(here + "/a", bearer_token_file=str(tmp_path / "token"))

    page = asyncio.run(run())
    assert (page.error, page.series) == ("", READING)
    assert {name: "authorization: bearer secret" in head.lower() for name, head in heads.items()} == {
        "/a": True,
        "/b": True,
        "other": False,
    }


def test_a_detour_does_not_bring_the_token_back(tmp_path):
    """Home, elsewhere and home again: whoever sent the reader back may not choose what the token is shown to."""
    (tmp_path / "token").write_text("secret")
    heads = []

    async def run():
        origins = {}

        async def handle(head, writer):
            heads.append(head)
            location = {"/a": f"{origins['there']}/b", "/b": f"{origins['here']}/c"}.get(head.split(" ")[1])
            writer.write(answer(b"", "302 Found", f"Location: {location}") if location else answer())

        async with serving(handle) as origins["here"], serving(handle) as origins["there"]:
            return await read(origins["here"] + "/a", bearer_token_file=str(tmp_path / "token"))

    assert asyncio.run(run()).error == ""
    assert ["secret" in head for head in heads] == [True, False, False]


@pytest.mark.parametrize(
    "where",
    [
        "http://169.254.169.254/latest/meta-data/",  # where clouds keep the keys of a machine
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
        "//localhost/metrics",
        "http://127.0.0.2/metrics",
        "http://127.0.0.1.evil.example/metrics",
        "http://user:word@10.0.0.1/metrics",
    ],
)
def test_a_redirect_stays_on_its_host(where):
    """An engine cannot make the agent ask others; nobody is connected to, nor looked up."""

    async def run():
        async with serving(says(answer(b"", "302 Found", f"Location: {where}"))) as origin:
            return await read(origin)

    connected = []
    with pytest.MonkeyPatch.context() as patch:
        real = Resolver.lookup

        async def lookup(self, host, port):
            connected.append(host)
            return await real(self, host, port)

        patch.setattr(Resolver, "lookup", lookup)
        page = asyncio.run(run())
    assert (page.error, page.detail) == (
        "redirect",
        "a redirect leads to another host; if that is the one, give its address",
    )
    assert connected == ["127.0.0.1"]  # the engine's own


def test_the_token_follows_its_file(tmp_path):
    """A rotated token is used at the next reading; a token gone or spoilt is a fault of its own, not a request."""
    token = tmp_path / "token"
    heads = []

    async def handle(head, writer):
        heads.append(head)
        writer.write(answer())

    async def run():
        async with serving(handle) as origin, open_session() as session:
            scraper = Scraper(Target("t", origin, bearer_token_file=str(token)), None, session, boottime)
            reasons = []
            for text in (None, "first\n", "second", "", "two words", "inject\r\nX: y", "third"):
                if text is not None:
                    token.write_text(text)
                reasons.append((await scraper.read()).error)
            return reasons

    assert asyncio.run(run()) == ["auth_file", "", "", "auth_file", "auth_file", "auth_file", ""]
    assert [head.partition("Bearer ")[2].split("\r")[0] for head in heads] == ["first", "second", "third"]


def test_a_user_in_the_address_is_sent_as_basic_auth():
    """http://user:password@host works as it does for a browser."""
    heads = []

    async def run():
        async with serving(lambda head, writer: heads.append(head) or says(answer())(head, writer)) as origin:
            return await read(origin.replace("//", "//ann:pass@"))

    assert asyncio.run(run()).error == ""
    assert "authorization: basic yw5uonbhc3m=" in heads[0].lower()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for engine.test, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=engine.test -addext subjectAltName=DNS:engine.test"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_tls(certificate, tmp_path):
    """A self-signed server is refused until its CA is given, its name matches, or checks are switched off."""
    cert, key = map(str, certificate)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    cases = [
        ({}, "tls"),
        ({"ca_file": cert}, "tls"),
        ({"ca_file": cert, "server_name": "engine.test"}, ""),
        ({"ca_file": cert, "server_name": "engine.test", "cert_file": cert, "key_file": key}, ""),
        ({"insecure_skip_verify": True}, ""),
        ({"ca_file": str(broken)}, "tls"),
        ({"ca_file": str(tmp_path / "none")}, "auth_file"),
    ]

    async def run():
        async with serving(says(answer()), tls) as origin:
            pages = [await read(origin, times=2, **options) for options, _ in cases]
            plain = await read(origin.replace("https", "http"))
        return pages, plain

    pages, plain = asyncio.run(run())
    assert [page.error for page in pages] == [reason for _, reason in cases]
    assert plain.error in {"reset", "protocol"}


def test_a_dead_name_server_keeps_nobody_else_waiting(monkeypatch):
    """Fifty names that hang, asked again and again, take one thread each; a good name is answered meanwhile."""
    asked = []

    def lookup(host, *_args, **_options):
        asked.append(host)
        if host != "good":
            time.sleep(0.7)
        return [(2, 1, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr("socket.getaddrinfo", lookup)

    async def run():
        resolver = Resolver()
        for _ in range(3):
            waits = [asyncio.wait_for(resolver.lookup(f"bad{i}", 80), 0.05) for i in range(50)]
            await asyncio.gather(*waits, return_exceptions=True)
        async with asyncio.timeout(0.4):
            found = await resolver.lookup("good", 8000)
        late = await resolver.lookup("bad7", 80)
        return found, late

    found, late = asyncio.run(run())
    assert (found[0][4], late[0][4][1]) == (("127.0.0.1", 8000), 80)
    assert sorted(asked) == sorted(["good", *(f"bad{i}" for i in range(50))])


def test_a_cancelled_reading_is_cancelled():
    """Shutdown is the one thing that a reading passes on."""

    async def run():
        async with serving(silent) as origin:
            task = asyncio.create_task(read(origin))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


async def endless(_head, writer):
    writer.write(answer(b"", length=False))
    for _ in itertools.count():
        writer.write(b"x 1\n" * 4_096)
        await writer.drain()


def test_good_engines_miss_nothing_beside_bad_ones():
    """Five good servers are read at every tick while every kind of bad one is polled by the same loop."""
    every, ticks = 0.2, 20
    bad = [says(FAULTS[name][0]) for name in FAULTS if name != "bombs"]
    bad += [says(CUT[name][0], close=True) for name in CUT] + [drip(0.02), silent, endless]
    pages: dict[str, list[Page]] = {}

    def emit(page):
        pages.setdefault(page.source, []).append(page)

    async def run():
        alarms = Alarms(0.005)
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(open_session())
            good = [await stack.enter_async_context(serving(says(answer()))) for _ in range(5)]
            urls = {f"good{i}": url for i, url in enumerate(good)} | {"dns": "http://name.invalid/"}
            for i, handle in enumerate(bad):
                urls[f"bad{i}"] = await stack.enter_async_context(serving(handle))
            targets = [Target(name, url, 0.5, 2_000_000) for name, url in urls.items()]
            scrapers = [Scraper(target, None, session, boottime) for target in targets]
            ticker = asyncio.create_task(longest_gap())
            polls = [
                asyncio.create_task(poll(scraper.read, every, emit, boottime, alarms.sleep)) for scraper in scrapers
            ]
            await asyncio.sleep(every * ticks - every / 2)
            for task in polls:
                task.cancel()
            await asyncio.gather(*polls, return_exceptions=True)
            ticker.cancel()
            return await ticker

    gap = asyncio.run(run())
    assert gap < 1
    for name, read_pages in pages.items():
        if name.startswith("good"):
            assert abs(len(read_pages) - ticks) <= 1
            assert {page.error for page in read_pages} == {""}
        else:
            assert {page.error for page in read_pages} <= set(REASONS)
    assert len(pages) == 6 + len(bad)
