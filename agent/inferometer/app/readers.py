"""The live sources: every target polled at its own pace, everything they bring in one stream of batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from inferometer import adapters
from inferometer.app.clock import Clock
from inferometer.app.names import Names
from inferometer.app.plan import Plan
from inferometer.app.spans import Spans
from inferometer.model import (
    Batch,
    EngineSignal,
    Export,
    GpuReading,
    Holdings,
    HostReading,
    Page,
    Pods,
    Sample,
    Signal,
)
from inferometer.sources import SourceStats, poll
from inferometer.sources.alarms import Alarms
from inferometer.sources.nvml import NvmlSource
from inferometer.sources.podresources import PodResources
from inferometer.sources.rapl import Rapl
from inferometer.sources.scrape import Scraper, Target
from inferometer.sources.session import Session
from inferometer.sources.turns import Turns

_log = logging.getLogger(__name__)
_Poll = tuple[Target | str, float, frozenset[str]]
_Read = Callable[[], Awaitable[Sample | None]]
_Run = Callable[[], Coroutine[Any, Any, None]]
_ALL: frozenset[str] = frozenset()  # no names to choose
_ALLOTMENT_SECONDS = 5.0  # pods do not move faster
_TICK_SECONDS = 0.005  # what is due within it begins together
_MOMENT_SECONDS = 0.02
_GATHER_MOMENTS = 4  # what one burst brings is settled in one transaction
_CROWD = 100  # targets that are read in turns, of which each takes some microseconds
_BATCH = 500  # and the disk is not held up by more than so many pages


class Readers:
    """Polls what the plan names over ``session``, which is set before.

    ``follow`` may be called again with another plan; ``stop`` ends the stream.
    """

    def __init__(
        self,
        clock: Clock,
        nvml: NvmlSource | None,
        spans: Spans,
        names: Names,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.session: Session | None = None
        self.stats = SourceStats()
        self._clock, self._nvml, self._spans, self._environ = clock, nvml, spans, environ or {}
        self._names = names
        self._queue: asyncio.Queue[Sample | None] = asyncio.Queue()
        self._translators: dict[str, adapters.Translator] = {}
        self._devices = adapters.Devices(adapters.dcgm())
        self._exporter: Target | None = None
        self._tasks: dict[_Poll, asyncio.Task[None]] = {}
        self._stopped, self._turns, self._alarms = asyncio.Event(), Turns(), Alarms(_TICK_SECONDS)

    def follow(self, plan: Plan) -> None:
        """Poll this plan's targets from now on; those that stay as they were go on undisturbed."""
        interval, self._exporter = plan.config.interval, plan.exporter
        shared = {names: names for _, _, names in self._tasks}  # a thousand engines read one adapter's names
        reads: dict[_Poll, _Read] = {("clock", interval, _ALL): _tick}
        for target in plan.targets.values():
            wanted = adapters.wanted(plan.adapters[target.name])
            names = shared.setdefault(wanted, wanted)
            reads[target, interval, names] = self._scraper(target, names, crowded=len(plan.targets) > _CROWD)
        if self._nvml is not None:
            reads["nvml", interval, _ALL] = self._nvml.read
        if plan.exporter is not None:
            wanted = self._devices.wanted
            reads[plan.exporter, interval, wanted] = self._scraper(plan.exporter, wanted)
        reads |= self._of_the_machine(plan)
        runs: dict[_Poll, _Run] = {
            key: partial(poll, read, key[1], self._queue.put_nowait, self._clock.at, self._alarms.sleep)
            for key, read in reads.items()
        }
        runs |= self._of_the_cluster(plan)
        for key in self._tasks.keys() - runs.keys():
            self._tasks.pop(key).cancel()
        self.stats.forget(self._translators.keys() - plan.targets.keys())
        targets = [*plan.targets.values(), *([plan.exporter] if plan.exporter is not None else ())]
        self.stats.urls.update({target.name: target.url for target in targets})
        self._names.follow(plan)
        self._keep_translators(plan)
        self._spans.follow(plan)
        for key, run in runs.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(run())

    def emit(self, sample: Sample) -> None:
        """Take what a receiver was sent; the receiver sees to it that this is not too much."""
        self._queue.put_nowait(sample)

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
            await self._gather(arrived)
            samples = tuple(sample for sample in arrived if sample is not None)
            at = self._clock.at()
            yield Batch(at, at + self._clock.ahead(), samples)

    async def _gather(self, arrived: list[Sample | None]) -> None:
        """Add what arrives until nothing does for a moment, or the first has waited long enough."""
        for _ in range(_GATHER_MOMENTS):
            if not self._stopped.is_set():
                await asyncio.sleep(_MOMENT_SECONDS)
            before = len(arrived)
            while not self._queue.empty() and len(arrived) < _BATCH:
                arrived.append(self._queue.get_nowait())
            if len(arrived) == before or len(arrived) >= _BATCH:
                return

    def translate(self, batch: Batch) -> list[Signal]:
        """Every sample in engine-neutral words; those of engines that are no longer followed are dropped."""
        signals: list[Signal] = []
        for sample in batch.samples:
            if isinstance(sample, GpuReading | HostReading | Holdings | Pods):
                self.stats.seen(sample, batch.wall)
                signals.append(sample)
            elif isinstance(sample, Page) and self._exporter is not None and sample.source == self._exporter.name:
                reading = self._devices(sample)
                self.stats.seen(reading, batch.wall)
                signals.append(reading)
            elif isinstance(sample, Export):
                self.stats.seen(sample, batch.wall)
                signals += self._spans.signals(sample, batch.wall)
            elif isinstance(sample, Page) and sample.source in self._translators:
                signals.append(self._translated(sample, batch.wall))
        return signals

    def _translated(self, page: Page, wall: float) -> Signal:
        try:
            signal = self._translators[page.source](page)
        except Exception:  # noqa: BLE001  a page that nobody foresaw may not stop the others
            _log.exception("a page could not be translated; please report it", extra={"engine": page.source})
            signal = EngineSignal(page.source, page.at, "adapter", "the page could not be translated, see the log")
        if signal.error and not page.error:
            page = Page(page.source, page.at, signal.error, seconds=page.seconds, detail=signal.detail)
        self.stats.seen(page, wall)
        return signal

    def _keep_translators(self, plan: Plan) -> None:
        """One for each engine; those that would be made the same way again stay."""
        old, self._translators = self._translators, {}
        for name, known in plan.adapters.items():
            models = self._names.models(name)
            kept, new = old.get(name), adapters.Translator(name, known, plan.tenants.get(name), models)
            self._translators[name] = kept if kept is not None and kept.made_as(new) else new

    def _of_the_machine(self, plan: Plan) -> dict[_Poll, _Read]:
        """What this machine tells beside its GPUs: the host's energy, and the kubelet's allotments."""
        interval = plan.config.interval
        reads: dict[_Poll, _Read] = {}
        host, socket = plan.config.host, plan.config.gpu.pod_resources
        if host is not None and host.rapl is not None:
            reads["rapl", interval, frozenset({host.rapl})] = _at_once(Rapl(host.rapl, clock=self._clock.at).read)
        if socket is not None:
            kubelet = PodResources(socket, self._clock.at)
            reads["kubelet", max(interval, _ALLOTMENT_SECONDS), frozenset({socket})] = kubelet.read
        return reads

    def _of_the_cluster(self, plan: Plan) -> dict[_Poll, _Run]:
        """The pods that serve, where they are to be found; their watch has a pace of its own."""
        settings = plan.config.kubernetes
        if settings is None:
            return {}
        from inferometer.app.cluster import pod_watch  # noqa: PLC0415 - only those who look for pods carry it

        watch = pod_watch(settings, self._environ, self._clock.at)
        key = ("kubernetes", 0.0, frozenset({repr(settings)}))
        return {key: partial(watch.follow, self._queue.put_nowait)}

    def _scraper(self, target: Target, names: frozenset[str], *, crowded: bool = False) -> _Read:
        if self.session is None:
            raise AssertionError("the session is opened before anything is followed")
        read = Scraper(target, names, self.session, self._clock.at).read
        if not crowded:
            return read

        async def in_turn() -> Sample:
            await self._turns.mine()  # a thousand targets of one interval are all due at the same moment
            return await read()

        return in_turn


def _at_once(read: Callable[[], Sample]) -> _Read:
    """A source that answers without waiting for anything."""

    async def reading() -> Sample:
        return read()

    return reading


async def _tick() -> Sample | None:
    """The clock as a source: it brings nothing but the time."""
    return None
