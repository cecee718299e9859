"""Names and passwords against bcrypt's hashes: off the event loop, once for each password that is right."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Literal

from inferometer.web.secret import cost

Verdict = Literal["ok", "refused", "busy"]
_REMEMBERED = 256  # only those who know a password can have an entry
_MOST_WAITING = 16
_MOST_WAITING_EACH = 4
_LONGEST_PASSWORD = 72  # bcrypt looks no further
_NOBODY = "$2b${:02d}$lMXXDfTvVC7dmIx6p3jtgOe8JoHmMrv4mOP3cVQ8mpFXYvcKMHJ8q"


class Users:
    """Remembers what was right by a keyed hash, so that a scrape pays for bcrypt once and a wrong password each time.

    One thread does the checks. A client may have four of them wait and all together sixteen; whoever comes then is
    told to come back, and those whose password is known to be right are not held up by them.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}
        self._by_client: Counter[str] = Counter()
        self._thread: ThreadPoolExecutor | None = None

    async def check(self, users: Mapping[str, str], authorization: str, client: str) -> Verdict:
        """Whether the header names one of ``users`` (bcrypt's hash by name) and the password; ``client``: who asks."""
        given = _given(authorization)
        if given is None:
            return "refused"
        name, password = given
        known = users.get(name)
        hashed = known or _NOBODY.format(max(map(cost, users.values()), default=10))
        mark = self._mark(name.encode(), hashed.encode(), password)
        if mark in self._right:
            self._right.move_to_end(mark)
            return "ok"
        matches = await self._matches(mark, password, hashed, neighbourhood(client))
        if matches is None:
            return "busy"
        if not matches or known is None:
            return "refused"
        self._right[mark] = None
        while len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return "ok"

    def close(self) -> None:
        """Check no more; what waits is dropped."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _mark(self, *parts: bytes) -> bytes:
        """The parts as one word that tells nothing of them to whoever does not have the key."""
        mark = blake2b(key=self._key)
        for part in parts:
            mark.update(len(part).to_bytes(8, "big") + part)
        return mark.digest()

    async def _matches(self, mark: bytes, password: bytes, hashed: str, client: str) -> bool | None:
        """What bcrypt says, None where too many wait; who gives the same again meanwhile shares the answer."""
        pending = self._waiting.get(mark)
        if pending is None:
            if len(self._waiting) >= _MOST_WAITING or self._by_client[client] >= _MOST_WAITING_EACH:
                return None
            self._thread = self._thread or ThreadPoolExecutor(1, "bcrypt")
            loop = asyncio.get_running_loop()
            pending = loop.run_in_executor(self._thread, _matches, password, hashed)
            self._waiting[mark] = pending
            self._by_client[client] += 1
            pending.add_done_callback(lambda _: self._done(mark, client))
        return await asyncio.shield(pending)

    def _done(self, mark: bytes, client: str) -> None:
        del self._waiting[mark]
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]


def neighbourhood(address: str) -> str:
    """Whom an address belongs to: in IPv6 everybody has 2^64 of them."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return address
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))


def _given(authorization: str) -> tuple[str, bytes] | None:
    """Name and password of a header; None where it has none that can be read."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _matches(password: bytes, hashed: str) -> bool:
    import bcrypt  # noqa: PLC0415  only where there are users

    try:
        return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed.encode())
    except ValueError:
        return False
