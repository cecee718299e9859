"""The live sources: every target polled at its own pace, everything they bring in one stream of batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp

from inferometer import adapters
from inferometer.adapters import Adapter
from inferometer.app.clock import Clock
from inferometer.app.plan import Plan
from inferometer.model import Batch, GpuReading, Page, Sample, Signal
from inferometer.sources import SourceStats, poll
from inferometer.sources.nvml import NvmlSource
from inferometer.sources.scrape import Scraper, Target

_GATHER_SECONDS = 0.02  # what one burst brings is settled in one transaction


class Readers:
    """Polls what the plan names over ``session``, which is set before.

    ``follow`` may be called again with another plan; ``stop`` ends the stream.
    """

    def __init__(self, clock: Clock, nvml: NvmlSource | None) -> None:
        self.session: aiohttp.ClientSession | None = None
        self.stats = SourceStats()
        self._clock, self._nvml = clock, nvml
        self._queue: asyncio.Queue[Sample | None] = asyncio.Queue()
        self._translators: dict[str, adapters.Translator] = {}
        self._tasks: dict[tuple[str, Target | None, float], asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()

    def follow(self, plan: Plan) -> None:
        """Poll this plan's targets from now on; those that stay as they were go on undisturbed."""
        interval = plan.config.interval
        wanted: dict[tuple[str, Target | None, float], Target | None] = {
            (name, target, interval): target for name, target in plan.targets.items()
        }
        wanted["", None, interval] = None  # the clock, and the GPUs
        for key in self._tasks.keys() - wanted.keys():
            self._tasks.pop(key).cancel()
        self.stats.forget(self._translators.keys() - plan.targets.keys())
        self.stats.urls.update({name: target.url for name, target in plan.targets.items()})
        self._keep_translators(plan.adapters)
        for key, target in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._poll(target, plan, interval))

    async def stop(self) -> None:
        """End the stream after what has been read already."""
        self._stopped.set()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._queue.put_nowait(None)

    async def batches(self) -> AsyncIterator[Batch]:
        """What arrives, gathered; a batch without samples is a tick of the clock."""
        while not (self._stopped.is_set() and self._queue.empty()):
            arrived = [await self._queue.get()]
            if not self._stopped.is_set():
                await asyncio.sleep(_GATHER_SECONDS)
            while not self._queue.empty():
                arrived.append(self._queue.get_nowait())
            samples = tuple(sample for sample in arrived if sample is not None)
            yield Batch(self._clock.at(), self._clock.wall(), samples)

    def translate(self, batch: Batch) -> list[Signal]:
        """Every sample in engine-neutral words; those of engines that are no longer followed are dropped."""
        signals: list[Signal] = []
        for sample in batch.samples:
            if isinstance(sample, GpuReading):
                self.stats.seen(sample, batch.wall)
                signals.append(sample)
            elif sample.source in self._translators:
                signals.append(self._translated(sample, batch.wall))
        return signals

    def _translated(self, page: Page, wall: float) -> Signal:
        signal = self._translators[page.source](page)
        if signal.error and not page.error:
            page = Page(page.source, page.at, signal.error, seconds=page.seconds, detail=signal.detail)
        self.stats.seen(page, wall)
        return signal

    def _keep_translators(self, known: Mapping[str, tuple[Adapter, ...]]) -> None:
        kept = self._translators
        self._translators = {name: kept.get(name) or adapters.Translator(name, known[name]) for name in known}

    async def _poll(self, target: Target | None, plan: Plan, interval: float) -> None:
        if target is None or self.session is None:
            await poll(self._tick, interval, self._queue.put_nowait, self._clock.at)
        else:
            scraper = Scraper(target, adapters.wanted(plan.adapters[target.name]), self.session, self._clock.at)
            await poll(scraper.read, interval, self._queue.put_nowait, self._clock.at)

    async def _tick(self) -> Sample | None:
        return await self._nvml.read() if self._nvml is not None else None
