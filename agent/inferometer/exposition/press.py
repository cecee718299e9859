"""Large pages, made ahead of those who ask for them and a little at a time, so that nobody waits for ten megabytes."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable

from aiohttp import web
from msgspec import Struct

from inferometer.exposition.prometheus import Renderer
from inferometer.model import Snapshot

_LARGE = 10_000  # series: from here on to make a page takes longer than the rest of the loop should wait
_BUCKETS = 24  # a histogram is about so many
_LEVEL, _GZIP = 1, 31
_WANTED_SECONDS = 150.0  # who asks once a minute may miss one time
_BEHIND_SECONDS = 2.0
_SLICE_SECONDS = 0.001


class Edition(Struct):
    """The page of one snapshot. ``packed``: in gzip; ``size``: bytes of the text, which is nowhere whole.

    ``superseded``: since when there has been a newer snapshot.
    """

    snapshot: Snapshot
    packed: bytes = b""
    size: int = 0
    superseded: float | None = None


class _Format(Struct):
    """When one format of the page was asked for last, and what there is of it."""

    asked: float
    edition: Edition | None = None


def is_large(snapshot: Snapshot) -> bool:
    """Whether its page is better made ahead."""
    series = len(snapshot.totals) + len(snapshot.values) + _BUCKETS * len(snapshot.histograms)
    return series > _LARGE


class Press:
    """Keeps the page of the newest snapshot in each format that was asked for lately; idle while nobody asks.

    ``newest``: the newest snapshot, of which there is one. ``clock`` gives steady seconds.
    """

    def __init__(
        self, renderer: Renderer, newest: Callable[[], Snapshot | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._renderer, self._newest, self._clock = renderer, newest, clock
        self._formats: dict[bool, _Format] = {}
        self._in_work: Edition | None = None
        self._work: asyncio.Task[None] | None = None
        self._news, self._came_out = asyncio.Event(), asyncio.Event()

    async def edition(self, *, openmetrics: bool) -> Edition:
        """The page of the newest snapshot; while that one is made, for two seconds at most, the page before it."""
        while True:
            wanted = self._formats.setdefault(openmetrics, _Format(0.0))
            wanted.asked = self._clock()
            if wanted.edition is not None and self._is_shown(wanted.edition):
                return wanted.edition
            came_out, self._work = self._came_out, self._at_work()
            self._news.set()
            await came_out.wait()
            if self._work.done():
                self._work.result()  # raises what it could not go on for

    def published(self) -> None:
        """There is a newer snapshot than all before."""
        made = (known.edition for known in self._formats.values())
        for edition in (self._in_work, *made):
            if edition is not None and edition.superseded is None:
                edition.superseded = self._clock()
        self._news.set()

    async def close(self, _: web.Application) -> None:
        """Make no more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def _is_shown(self, edition: Edition) -> bool:
        if edition.superseded is None and edition.snapshot is not self._newest():
            self.published()
        return edition.superseded is None or self._clock() - edition.superseded <= _BEHIND_SECONDS

    def _at_work(self) -> asyncio.Task[None]:
        """The task that makes them; it ends when nobody asks any more, and where it cannot go on."""
        if self._work is None or self._work.done():
            return asyncio.get_running_loop().create_task(self._keep_up())
        return self._work

    async def _keep_up(self) -> None:
        """Make what is wanted until nothing is any more, half of the time at most."""
        try:
            while self._still_wanted():
                self._news.clear()
                began = self._clock()
                for openmetrics, known in list(self._formats.items()):
                    if known.edition is None or known.edition.superseded is not None:
                        known.edition = await self._made(openmetrics=openmetrics)
                        self._tell()
                await asyncio.sleep(self._clock() - began)
                await self._news.wait()
        finally:
            self._tell()

    def _still_wanted(self) -> bool:
        since = self._clock() - _WANTED_SECONDS
        self._formats = {name: known for name, known in self._formats.items() if known.asked >= since}
        return bool(self._formats)

    def _tell(self) -> None:
        """Wake all who wait for an edition."""
        self._came_out.set()
        self._came_out = asyncio.Event()

    async def _made(self, *, openmetrics: bool) -> Edition:
        newest = self._newest()
        if newest is None:
            raise AssertionError("a page is asked for only after the first snapshot")
        edition = self._in_work = Edition(newest)
        packer, packed = zlib.compressobj(_LEVEL, wbits=_GZIP), bytearray()
        rested = self._clock()
        for piece in self._renderer.pieces(newest, openmetrics=openmetrics):
            packed += packer.compress(piece)
            edition.size += len(piece)
            if self._clock() - rested >= _SLICE_SECONDS:
                await asyncio.sleep(0)
                rested = self._clock()
        edition.packed, self._in_work = bytes(packed + packer.flush()), None
        return edition
