"""Passwords: bcrypt off the event loop, what is remembered of it, and a flood of wrong ones."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import bcrypt
import pytest
from gated import RIGHT, WRONG, basic, get, hashed, login, serving, written
from inferometer.web import gate
from inferometer.web import users as users_module
from inferometer.web.users import Users


def test_every_page_asks_for_a_password_but_the_probes(folder):
    async def run():
        async with serving(folder, f"basic_auth_users: {{bob: '{hashed('right')}'}}") as (base, _):
            answers = {}
            for path in ("/metrics", "/nowhere", "/-/healthy", "/-/ready", "//-/healthy", "/-/healthy/../../metrics"):
                shown = [await get(base + path, authorization=word) for word in ("", WRONG, RIGHT)]
                answers[path] = shown
            async with aiohttp.ClientSession() as client, client.get(f"{base}/metrics") as response:
                return answers, response.headers["WWW-Authenticate"]

    answers, asks = asyncio.run(run())
    assert answers["/metrics"] == answers["/-/healthy/../../metrics"] == [401, 401, 200]
    assert answers["/nowhere"] == answers["//-/healthy"] == [401, 401, 404]
    assert answers["/-/healthy"] == answers["/-/ready"] == [200, 200, 200]
    assert asks == 'Basic realm="inferometer", charset="UTF-8"'


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (basic(b"bob:right"), "ok"),
        (basic(b"bob:right").replace("Basic", "bASIC"), "ok"),
        (basic("Günter:pass:wort".encode()), "ok"),
        (basic(b"bob:" + b"x" * 72), "refused"),
        (basic(b"long:" + b"x" * 72), "ok"),
        (basic(b"long:" + b"x" * 90), "ok"),  # as Go does, bcrypt looks at 72 bytes
        (basic(b"bob:"), "refused"),
        (basic(b"bob:right\0"), "refused"),
        (basic(b"bob"), "refused"),
        (basic(b":right"), "refused"),
        (basic(b"\xff:right"), "refused"),
        (basic(b"nobody:right"), "refused"),
        ("Basic", "refused"),
        ("Basic !!!", "refused"),
        ("Basic " + "A" * 8000, "refused"),
        ("Bearer right", "refused"),
        ("", "refused"),
    ],
)
def test_passwords(header, verdict):
    known = {"bob": hashed("right"), "Günter": hashed("pass:wort"), "long": hashed("x" * 72)}
    assert asyncio.run(Users().check(known, header, "1.2.3.4")) == verdict


class Counted:
    """bcrypt's part, counted; it waits until ``free`` is set."""

    def __init__(self, monkeypatch, *, held=False):
        self.hashes, self.free = [], threading.Event()
        self._real = users_module._matches
        monkeypatch.setattr(users_module, "_matches", self)
        if not held:
            self.free.set()

    def __call__(self, password, known):
        self.hashes.append(known)
        assert self.free.wait(30)
        return self._real(password, known)


def test_a_right_password_is_checked_once_and_a_wrong_one_each_time(monkeypatch):
    counted, known, users = Counted(monkeypatch), {"bob": hashed("right")}, Users()

    async def run():
        return [await users.check(known, word, "a") for word in (RIGHT, RIGHT, WRONG, WRONG, RIGHT)]

    assert asyncio.run(run()) == ["ok", "ok", "refused", "refused", "ok"]
    assert len(counted.hashes) == 3


def test_a_new_password_ends_the_old_one_at_once():
    users = Users()

    async def run():
        verdicts = [await users.check({"bob": hashed("right")}, RIGHT, "a")]
        verdicts.append(await users.check({"bob": hashed("other")}, RIGHT, "a"))
        return [*verdicts, await users.check({"alice": hashed("right")}, RIGHT, "a")]

    assert asyncio.run(run()) == ["ok", "refused", "refused"]


def test_nobody_costs_as_much_as_somebody(monkeypatch):
    """A name that is not known is checked too, against a hash of the highest cost, and never succeeds."""
    counted, known = Counted(monkeypatch), {"bob": hashed("right", 5), "eve": hashed("right", 4)}
    assert asyncio.run(Users().check(known, login("nobody", "right"), "a")) == "refused"
    assert [text[:7] for text in counted.hashes] == ["$2b$05$"]
    assert bcrypt.checkpw(b"right", counted.hashes[0].encode()) is False  # it is a hash that bcrypt can read


def test_what_is_remembered_is_bounded_and_tells_nothing():
    """Only right passwords are kept, by a keyed hash, and no more than so many."""
    users, key = Users(), []

    async def run():
        for number in range(users_module._REMEMBERED + 5):
            name = f"u{number}"
            known = {name: hashed("right")}
            assert await users.check(known, login(name, "right"), "a") == "ok"
            key.append(await users.check(known, login(name, "wrong"), "a"))

    asyncio.run(run())
    assert set(key) == {"refused"}
    assert len(users._right) == users_module._REMEMBERED
    assert all(len(mark) == 64 for mark in users._right)
    assert Users()._mark(b"x") != Users()._mark(b"x")
    assert users._mark(b"a", b"bc") != users._mark(b"ab", b"c")


def test_wrong_passwords_do_not_starve_the_scrape(monkeypatch):
    """A flood fills the queue of its own address; a known password is answered meanwhile and a new client has room."""
    known, users = {"bob": hashed("right"), "eve": hashed("right")}, Users()

    async def run():
        assert await users.check(known, RIGHT, "scraper") == "ok"
        counted = Counted(monkeypatch, held=True)
        flood = [asyncio.create_task(users.check(known, login("bob", str(n)), "flood")) for n in range(200)]
        await asyncio.sleep(0)
        at_once = {await users.check(known, RIGHT, "scraper") for _ in range(100)}
        waiting, fresh = len(users._waiting), asyncio.create_task(users.check(known, login("eve", "right"), "new"))
        await asyncio.sleep(0)
        counted.free.set()
        verdicts = await asyncio.gather(*flood)
        return at_once, waiting, await fresh, [verdicts.count(verdict) for verdict in ("refused", "busy")]

    assert asyncio.run(run()) == ({"ok"}, 4, "ok", [4, 196])
    assert (users._waiting, users._by_client) == ({}, {})


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_whose_an_address_is(address, whose):
    """Whoever has one address of IPv6 has 2^64 of them."""
    assert users_module.neighbourhood(address) == whose


def test_many_floods_have_a_limit_together(monkeypatch):
    known, users = {"bob": hashed("right")}, Users()

    async def run():
        counted = Counted(monkeypatch, held=True)
        flood = [asyncio.create_task(users.check(known, login("bob", str(n)), f"address {n}")) for n in range(50)]
        await asyncio.sleep(0)
        counted.free.set()
        return await asyncio.gather(*flood)

    verdicts = asyncio.run(run())
    assert [verdicts.count(verdict) for verdict in ("refused", "busy")] == [16, 34]


def test_the_same_password_at_the_same_time_is_checked_once(monkeypatch):
    """A page in a browser asks for ten files at once; the event loop goes on meanwhile."""
    counted, known, users = Counted(monkeypatch, held=True), {"bob": hashed("right")}, Users()

    async def run():
        asked = [asyncio.create_task(users.check(known, RIGHT, "browser")) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)
        counted.free.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(run()) == ["ok"] * 10
    assert len(counted.hashes) == 1


def test_one_who_hangs_up_leaves_nothing_behind(monkeypatch):
    counted, users = Counted(monkeypatch, held=True), Users()

    async def run():
        asked = asyncio.create_task(users.check({"bob": hashed("right")}, WRONG, "a"))
        await asyncio.sleep(0)
        asked.cancel()
        counted.free.set()
        await asyncio.gather(*users._waiting.values())
        await asyncio.sleep(0)
        return users._by_client

    assert asyncio.run(run()) == {}


def test_too_many_logins_are_told_to_come_back(folder, monkeypatch):
    counted = Counted(monkeypatch, held=True)

    async def run():
        async with serving(folder, f"basic_auth_users: {{bob: '{hashed('right')}'}}") as (base, _):
            asked = [asyncio.create_task(get(f"{base}/metrics", authorization=login("bob", str(n)))) for n in range(5)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            counted.free.set()
            return [task.result() for task in done], sorted(await asyncio.gather(*asked))

    assert asyncio.run(run()) == ([429], [401, 401, 401, 401, 429])


def test_a_stream_ends_when_its_password_is_withdrawn(folder, monkeypatch):
    """It is cut; an answer that is short is not."""
    monkeypatch.setattr(gate, "_GRACE_SECONDS", 0.1)

    async def run():
        good = f"basic_auth_users: {{bob: '{hashed('right')}'}}"
        async with serving(folder, good) as (base, _), aiohttp.ClientSession() as client:
            async with client.get(f"{base}/stream", headers={"Authorization": RIGHT}) as response:
                assert await response.content.readline() == b"more\n"
                written(folder, good.replace("bob", "eve"))
                answers = [await get(f"{base}/metrics", authorization=RIGHT)]
                with pytest.raises(aiohttp.ClientError):
                    await asyncio.wait_for(response.read(), 30)
            return [*answers, await get(f"{base}/stream", authorization=RIGHT)]

    assert asyncio.run(run()) == [401, 401]


def test_headers_of_the_file_are_on_every_answer(folder):
    headers = "headers: {Strict-Transport-Security: max-age=9, X-Frame-Options: sameorigin, X-XSS-Protection: ''}"
    text = f"http_server_config: {{{headers}}}\nbasic_auth_users: {{bob: '{hashed('right')}'}}"

    async def run():
        seen = []
        async with serving(folder, text) as (base, _), aiohttp.ClientSession() as client:
            for path in ("/metrics", "/-/healthy", "/nowhere"):
                async with client.get(base + path) as response:
                    seen.append((response.headers["Strict-Transport-Security"], response.headers["X-Frame-Options"]))
                    assert "X-XSS-Protection" not in response.headers
        return seen

    assert asyncio.run(run()) == [("max-age=9", "sameorigin")] * 3
