"""``inferometer record``: the pages of running engines, byte by byte, into a folder that ``replay`` reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from inferometer.app.clock import Clock
from inferometer.app.plan import name_of
from inferometer.errors import SourceError
from inferometer.sources.recording import Writer
from inferometer.sources.scrape import Scraper, Target, open_session


class Pace(Struct, frozen=True):
    """How long to record and how often, in seconds."""

    seconds: float
    every: float


async def record(
    urls: Sequence[str], folder: Path, pace: Pace, stop: asyncio.Event, progress: Callable[[str], None]
) -> int:
    """Write a page of each URL at this pace until its end or ``stop``; returns the number of pages that failed.

    Failed readings are rows too: the status is the reason. Raises RecordingError where the folder cannot be used.
    """
    clock = Clock()
    failed = 0
    async with open_session() as session:
        targets = [Target(name_of(url), url, timeout_seconds=max(pace.every, 1.0)) for url in urls]
        scrapers = [Scraper(target, None, session, clock.at) for target in targets]
        with Writer(folder) as writer:
            began, count = clock.at(), 0
            while (at := began + count * pace.every) <= began + pace.seconds:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(0.0, at - clock.at()))
                if stop.is_set():
                    break
                rows = await asyncio.gather(*(_row(scraper, clock) for scraper in scrapers))
                for target, (when, status, body) in zip(targets, rows, strict=True):
                    writer.write(when, target.name, "metrics", status, body)
                    failed += status != "200"
                count += 1
                progress(
                    f"{count * len(urls)} pages, {failed} failed, {clock.at() - began:.0f} of {pace.seconds:.0f} s"
                )
    return failed


async def _row(scraper: Scraper, clock: Clock) -> tuple[float, str, bytes]:
    try:
        body = await scraper.fetch()
    except SourceError as error:
        return clock.at(), error.reason, b""
    return clock.at(), "200", body
