"""Server-sent events over real sockets: who is told what and when, how many, and clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest
from inferometer.exposition import events
from inferometer.model import Snapshot
from test_server import ONE, State, ask, serving
from yarl import URL


def publish(state, wall):
    state.newest = Snapshot(wall)
    state.feed.publish(state.newest)


async def listeners(state, most):
    """Wait until no more than so many are told."""
    async with asyncio.timeout(10):
        while len(state.feed.listeners) > most:  # noqa: ASYNC110  nothing tells of one that left
            await asyncio.sleep(0.02)


async def told(response):
    """The next event's board; None for a comment."""
    board = None
    async with asyncio.timeout(10):
        async for line in response.content:
            if line.startswith(b"data: "):
                board = json.loads(line[6:])
            if line == b"\n":
                return board
    raise EOFError


def test_an_event_comes_at_once_and_at_each_publish():
    async def talk():
        state = State()
        async with serving(state) as client, client.get("/api/v1/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert (await told(response))["wall"] == ONE.wall
            for wall in (1.8e9 + 5, 1.8e9 + 10):
                publish(state, wall)
                assert (await told(response))["wall"] == wall

    asyncio.run(talk())


def test_what_is_published_in_a_burst_is_told_once():
    """A thousand engines publish a thousand times in a round: the reader gets the newest."""

    async def talk():
        state = State()
        async with serving(state) as client, client.get("/api/v1/events") as response:
            await told(response)
            for n in range(100):
                publish(state, 1.8e9 + n)
            assert (await told(response))["wall"] == 1.8e9 + 99
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await response.content.readline()

    asyncio.run(talk())


def test_silence_is_filled_with_heartbeats(monkeypatch):
    """So that proxies keep the connection, and a client that is gone is noticed."""
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(events, "_LEAST_SECONDS", 0.0)

    async def talk():
        state = State(newest=None)
        async with serving(state) as client:
            async with client.get("/api/v1/events") as response:
                assert [await told(response) for _ in range(3)] == [None] * 3
            await listeners(state, 0)

    asyncio.run(talk())


def test_the_number_of_clients_is_bounded(monkeypatch):
    """One too many is told to ask instead; a place that is left is given again."""
    monkeypatch.setattr(events, "MOST_CLIENTS", 2)
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(events, "_LEAST_SECONDS", 0.0)

    async def talk():
        state = State()
        async with serving(state) as client, contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(client.get("/api/v1/events"))
            await stack.enter_async_context(client.get("/api/v1/events"))
            async with client.get("/api/v1/events") as response:
                assert response.status == 503
                assert "/api/v1/board" in await response.text()
            first.close()
            await listeners(state, 1)
            async with client.get("/api/v1/events") as response:
                assert response.status == 200

    asyncio.run(talk())


def test_a_client_that_does_not_read_is_dropped(monkeypatch):
    """Its connection is ended when its buffers are full; others are told meanwhile."""
    monkeypatch.setattr(events, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(events, "_LEAST_SECONDS", 0.0)

    async def talk():
        state = State(newest=Snapshot(1.8e9, hints=tuple(f"{n}: {'x' * 1000}" for n in range(2000))))
        async with asyncio.timeout(20), serving(state) as client:
            reader, writer = await asyncio.open_connection(client._base_url.host, client._base_url.port, limit=1024)
            writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for n in range(20):
                state.feed.publish(state.newest)
                await asyncio.sleep(0.05)
                async with client.get("/-/healthy") as response:
                    assert response.status == 200, n
            await listeners(state, 0)
            writer.close()

    asyncio.run(talk())


def test_streams_do_not_hold_up_a_shutdown():
    async def talk():
        async with aiohttp.ClientSession() as other, serving(State()) as client:
            response = await other.get(client._base_url.join(URL("/api/v1/events")))
            await told(response)
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(talk()) < 3


def test_board_and_history_are_answered_too():
    status, headers, body = ask(State(), "/api/v1/board")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/json", "no-store")
    assert json.loads(body)["wall"] == ONE.wall
    assert ask(State(newest=None), "/api/v1/board")[0] == 503
    assert json.loads(ask(State(), "/api/v1/history?since=5")[2])["at"] == []
    assert ask(State(), "/api/v1/history?since=noon")[0] == 400
