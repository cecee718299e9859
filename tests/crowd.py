"""Crowds of HTTP clients on raw sockets: many at once, slow ones, and such that never read what they asked for."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import resource
import selectors
import socket
import sys
import time
from pathlib import Path

import inferometer
from live import Process
from msgspec import Struct, field

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: agent\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
_SECONDS = 60.0


class Outcome(Struct):
    """What became of a crowd: how many by status or error, seconds of each that was answered, pages that are wrong."""

    ends: collections.Counter = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[bytes] = field(default_factory=list)


def raise_open_files(wanted):
    """The limit of open files of this process, raised as far as it may be; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def scrape_at_once(host, port, count, is_whole):
    """So many connect and ask for the page, all at the same time, on raw sockets."""
    outcome, began, bodies = Outcome(), time.monotonic(), {}
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            client = socket.socket()
            client.settimeout(0.0)
            client.connect_ex((host, port))
            bodies[client] = []
            selector.register(client, selectors.EVENT_WRITE)
        while bodies and time.monotonic() - began < _SECONDS:
            for key, _ in selector.select(1.0):
                _step(selector, key.fileobj, bodies, outcome, is_whole, began)
        for client in bodies:
            outcome.ends["TimeoutError"] += 1
            client.close()
    return outcome


def _step(selector, client, bodies, outcome, is_whole, began):  # noqa: PLR0917
    """What one socket is ready for: ask, then read to the end."""
    try:
        if selector.get_key(client).events == selectors.EVENT_WRITE:
            client.send(REQUEST)
            selector.modify(client, selectors.EVENT_READ)
            return
        data = client.recv(1 << 18)
        bodies[client].append(data)
        if data:
            return
        _judge(b"".join(bodies[client]), outcome, is_whole, time.monotonic() - began)
    except BlockingIOError:
        return
    except OSError as error:
        outcome.ends[
            f"{type(error).__name__} {selector.get_key(client).events} {error.errno} {time.monotonic() - began:.0f}"
        ] += 1
    selector.unregister(client)
    client.close()
    del bodies[client]


def _judge(answer, outcome, is_whole, seconds):
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode() if head else "nothing"
    outcome.ends[status] += 1
    outcome.seconds.append(seconds)
    if status == "200" and not is_whole(head, body):
        outcome.wrong.append(answer)


class Slow(Process):
    """In a process of its own: so many senders that never end a request, and so many that never read an answer."""

    def __init__(self, log, host, port, senders, readers):
        paths = f"{Path(inferometer.__file__).parents[1]}:{Path(__file__).parent}"
        super().__init__(log, "crowd", host, port, senders, readers, PYTHONPATH=paths)
        self.waits_for("slow")


async def _send_slowly(host, port, every_seconds=0.5):
    while True:
        writer = None
        with contextlib.suppress(OSError):
            try:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
                while not reader.at_eof():
                    writer.write(b"a")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(every_seconds):
                            await reader.read(1024)
            finally:
                if writer is not None:
                    writer.close()
        await asyncio.sleep(every_seconds)


async def _never_read(host, port, requests=200):
    loop = asyncio.get_running_loop()
    again = REQUEST.replace(b"Connection: close\r\n", b"")
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, limit=1)
            writer.transport.pause_reading()
            try:
                writer.write(again * requests)
                began = loop.time()
                while loop.time() - began < 30 and not writer.transport.is_closing():
                    await asyncio.sleep(0.5)
                    writer.write(b"")
            finally:
                writer.transport.abort()
            del reader
        await asyncio.sleep(0.2)


async def _be_slow(host, port, senders, readers):
    raise_open_files(senders + readers + 100)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(senders):
            tasks.create_task(_send_slowly(host, port))
        for _ in range(readers):
            tasks.create_task(_never_read(host, port))
        sys.stdout.write("slow\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_be_slow(sys.argv[1], *map(int, sys.argv[2:])))
