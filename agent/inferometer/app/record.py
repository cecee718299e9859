"""``inferometer record``: pages of running engines, byte by byte, and GPUs, into a folder that ``replay`` reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from inferometer.app.clock import Clock
from inferometer.app.plan import name_of
from inferometer.errors import SourceError
from inferometer.sources import boottime
from inferometer.sources.nvml import Nvml, NvmlSource
from inferometer.sources.recording import OK, Row, Writer, gpu_body
from inferometer.sources.scrape import Scraper, Target, open_session

_Read = Callable[[], Awaitable[Row]]


class Pace(Struct, frozen=True):
    """How long to record and how often, in seconds."""

    seconds: float
    every: float


def machine() -> NvmlSource:
    """This machine's GPU driver."""
    return NvmlSource(Nvml(boottime))


async def record(  # noqa: PLR0913  a recording is of something, goes somewhere, and may be stopped and watched
    urls: Sequence[str],
    folder: Path,
    pace: Pace,
    stop: asyncio.Event,
    progress: Callable[[str], None],
    *,
    nvml: NvmlSource | None = None,
) -> int:
    """Write a page of each URL, and what ``nvml`` reads, at this pace until its end or ``stop``.

    Failed readings are rows too: the status is the reason. Returns how many there are. Raises RecordingError where the
    folder cannot be used.
    """
    clock = Clock()
    failed = 0
    async with open_session() as session:
        targets = [Target(name_of(url), url, timeout_seconds=max(pace.every, 1.0)) for url in urls]
        reads = [_page(Scraper(target, None, session, clock.at), target.name, clock) for target in targets]
        if nvml is not None:
            reads.append(_gpus(nvml, clock))
        with Writer(folder) as writer:
            began, count = clock.at(), 0
            while (at := began + count * pace.every) <= began + pace.seconds:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(0.0, at - clock.at()))
                if stop.is_set():
                    break
                for row in await asyncio.gather(*(read() for read in reads)):
                    writer.write(row.at, row.source, row.kind, row.status, row.body)
                    failed += row.status != OK
                count += 1
                passed = f"{clock.at() - began:.0f} of {pace.seconds:.0f} s"
                progress(f"{count * len(reads)} readings, {failed} failed, {passed}")
    return failed


def _page(scraper: Scraper, name: str, clock: Clock) -> _Read:
    async def read() -> Row:
        try:
            body = await scraper.fetch()
        except SourceError as error:
            return Row(clock.at(), name, "metrics", error.reason, b"")
        return Row(clock.at(), name, "metrics", OK, body)

    return read


def _gpus(nvml: NvmlSource, clock: Clock) -> _Read:
    async def read() -> Row:
        reading = replace(await nvml.read(), at=clock.at())
        return Row(reading.at, reading.source, "nvml", reading.error or OK, gpu_body(reading))

    return read
