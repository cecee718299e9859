"""``inferometer run``: the live agent, wired by hand: config → parts → tasks → clean shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from inferometer import economics, pipeline
from inferometer.app.clock import Clock
from inferometer.app.feeds import Feeds
from inferometer.app.inventory import Inventory
from inferometer.app.lag import LoopLag
from inferometer.app.names import Names
from inferometer.app.pages import serve, web_config
from inferometer.app.plan import Plan, plan, room
from inferometer.app.publisher import Publisher
from inferometer.app.readers import Readers
from inferometer.app.receivers import Receivers
from inferometer.app.spans import Spans
from inferometer.app.stop import unless
from inferometer.config import Config
from inferometer.errors import ConfigError, InferometerError
from inferometer.exposition.connections import Connections
from inferometer.exposition.feed import Feed
from inferometer.interval import Meter
from inferometer.ledger import Ledger
from inferometer.model import Account, Batch, Entry, Export, Interval, Signal, Snapshot, SourceView
from inferometer.sources.nvml import Nvml, NvmlSource
from inferometer.sources.scrape import open_session

_log = logging.getLogger(__name__)
_FIRST_LOOK_SECONDS = 0.7
_COLLECT_AFTER, _COLLECT_AFTER_PER_ENGINE = 20_000, 80
_SWITCH_SECONDS = 0.0005


class Agent:
    """One running agent, and what its server may ask it. ``load`` gives the configuration, at each start and reload.

    ``nvml_library`` stands in for the GPU driver's library, ``clock`` for the machine's. Raises ConfigError or
    LedgerError before it starts.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        environ: Mapping[str, str],
        nvml_library: object | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.feed = Feed()
        self._load, self._environ = load, environ
        self._config = load()
        self._clock = Clock() if clock is None else clock
        _check_cluster(self._config, environ)
        self._web = web_config(self._config)
        self._plan: Plan = plan(self._config, (), environ)
        self._reload_ok, self._reloading = True, asyncio.Lock()
        self._published_at = self._clock.at()
        folder = Path(self._config.storage.path) if self._config.storage.path else None
        self._ledger = Ledger(folder, self._config.currency, self._clock.wall, self._clock.at)
        self._meter = Meter(self._plan.watches, self._config.interval)
        self._restore()
        self._policies = dict(self._plan.policies)
        self._inventory = Inventory(self._plan, environ, self._share_out)
        self._feeds = Feeds(self._clock.wall, self._reprice)
        self._lag = LoopLag()
        self._nvml = None
        if "nvml" in self._config.gpu.sources:
            self._nvml = NvmlSource(Nvml(self._clock.at, nvml_library))
        self._names = Names(self._ledger.state.totals)
        self._spans = Spans(self._ledger.spans.take, self._names.models)
        self._readers = Readers(self._clock, self._nvml, self._spans, self._names, environ)
        self._receivers = Receivers(self._config, self._spans, self._readers, self._clock)
        self._connections = Connections()
        self._publisher = Publisher(self._meter, self._ledger, self._sources, self._about_itself, self._hints)
        self._publisher.prices = self._feeds.prices

    async def run(self, stop: asyncio.Event, started: Callable[[str], None] = lambda _: None) -> None:
        """Measure until ``stop`` is set, then commit what has been read. ``started`` gets the base URL."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._ledger.close)
            self._readers.session = self._feeds.session = await stack.enter_async_context(open_session())
            stack.push_async_callback(self._feeds.close)
            address = await serve(self, self._config.web.listen_address, self._web, self._connections, stack)
            self._log_start(address)
            await unless(stop, self._first_look_at_gpus())
            await unless(stop, self._feeds.follow(self._config))
            self._follow(self._plan)
            await self._receivers.start(stack)
            _spare_the_collector(len(self._plan.targets))
            sys.setswitchinterval(_SWITCH_SECONDS)  # the ledger's thread works while the loop answers
            async with asyncio.TaskGroup() as tasks:
                lag = tasks.create_task(self._lag.watch())
                tasks.create_task(self._stream())
                started(address)
                await stop.wait()
                lag.cancel()
                self._receivers.close()
                await self._readers.stop()
            _log.info("stopped")

    # -- what the server asks

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        return self._publisher.snapshot

    def age_seconds(self) -> float:
        """Seconds since the last snapshot, or since the start."""
        return self._clock.at() - self._published_at

    @property
    def interval_seconds(self) -> float:
        """How often a snapshot is due."""
        return self._config.interval

    @property
    def lifecycle(self) -> bool:
        """Whether it may be reloaded, and the GPU driver released, over HTTP."""
        return self._config.web.enable_lifecycle

    def healthy(self) -> str:
        """Why only a restart helps; '' while all is well."""
        upgraded = self._nvml is not None and self._nvml.needs_restart
        return "the NVIDIA driver was upgraded under this process; restart the agent" if upgraded else ""

    async def release(self, seconds: float) -> str:
        """Let go of the GPU driver for so long, so that a GPU can be reset or cut anew; what to say about it."""
        if self._nvml is None:
            return "the GPU driver is not in use: gpu.sources does not name nvml"
        free = await self._nvml.release(seconds)
        _log.info("the GPU driver is released", extra={"seconds": seconds})
        until = f"the GPU driver is released for {seconds:g} s"
        return until if free else f"{until}, as soon as a call that hangs comes back"

    def ready(self) -> tuple[bool, str]:
        """Whether the numbers are worth scraping, and why not."""
        if self.snapshot() is None:
            return False, "nothing has been read yet"
        if not self._meter.settled():
            return False, "the time since the last run is not settled yet: no engine has answered or refused so far"
        return True, "ready"

    async def reload(self) -> tuple[bool, str]:
        """Read the configuration again; a bad one changes nothing but a gauge. One after the other."""
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> tuple[bool, str]:
        try:
            settings = self._load()
            _check_fixed(self._config, settings)
            _check_cluster(settings, self._environ)
            await self._feeds.follow(settings)
            self._follow(self._inventory.reload(self._feeds.quoted(settings)))
        except InferometerError as error:
            await self._feeds.follow(self._config)
            self._reload_ok = False
            _log.error("the configuration is bad; the running one stays", extra={"error": str(error)})
            return False, str(error)
        self._reload_ok = True
        _log.info("the configuration is loaded again")
        return True, "reloaded"

    def _restore(self) -> None:
        """The totals are whole whatever the marks say: only what happened since the last run can be lost."""
        for fault in self._meter.restore(self._ledger.state.marks, self._clock.ahead()):
            _log.error("a last reading cannot be understood and starts anew", extra={"error": fault})

    async def _stream(self) -> None:
        await pipeline.run(
            self._readers.batches(), self._translate, self._meter, self._settle, self._ledger, self._publish
        )

    def _translate(self, batch: Batch) -> list[Signal]:
        signals = self._readers.translate(batch)
        self._see(signals)
        return signals

    def _see(self, signals: Sequence[Signal]) -> None:
        self._inventory.see(signals)
        self._publisher.gpus = self._inventory.gpus

    def _settle(self, interval: Interval) -> Entry:
        return economics.settle(interval, self._policies[interval.workload])

    def _publish(self, batch: Batch, entries: list[Entry], committed: bool) -> Iterator[None]:  # noqa: FBT001  as the pipeline has it
        yield from self._publisher.steps(batch, entries)
        for workload in self._publisher.departed.workloads & self._policies.keys():
            del self._policies[workload]
        if self._publisher.snapshot is not None:
            self.feed.publish(self._publisher.snapshot)
        self._published_at = self._clock.at()
        for sample in batch.samples:
            if isinstance(sample, Export):
                sample.answer(committed)

    def _follow(self, new: Plan) -> None:
        self._plan, self._config = new, new.config
        self._policies |= new.policies  # a workload that is gone has its last stretch settled as it was
        for hint in new.hints:
            _log.warning(hint)
        self._meter.watch(new.watches, new.config.interval, new.assumed, room(new.config))
        self._readers.follow(new)
        self._receivers.follow(new.config.limits)
        self._publisher.follow(new)

    async def _first_look_at_gpus(self) -> None:
        """Who holds what should be known from the first second on, but a slow driver must not delay the start."""
        if self._nvml is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                    self._see([await self._nvml.read()])

    def _reprice(self) -> None:
        """A price has changed; what is not settled yet is settled at the new one."""
        self._share_out(self._inventory.reprice(self._feeds.quoted(self._inventory.settings)))
        self._config = self._plan.config

    def _hints(self) -> tuple[str, ...]:
        return (*self._spans.hints(), *self._names.hints(), *self._feeds.hints())

    def _share_out(self, new: Plan) -> None:
        """Who holds what, or which pods serve, has changed; all else stays."""
        if new.targets != self._plan.targets:
            self._readers.follow(new)
        self._plan = new
        self._policies |= new.policies
        self._meter.watch(new.watches, new.config.interval, new.assumed, room(new.config))
        self._publisher.follow(new)

    def _sources(self) -> tuple[SourceView, ...]:
        """What is read, and the ledger that it goes to: a disk that refuses shows beside a server that does."""
        views = (*self._readers.stats.views(), *self._feeds.views())
        if self._config.storage.path is None:
            return views
        ledger, errors = self._ledger, {"write": self._ledger.failures} if self._ledger.failures else {}
        return (*views, SourceView("ledger", up=not ledger.error, errors=errors, detail=ledger.error))

    def _about_itself(self) -> dict[Account, float]:
        values = self._about_web() | self._connections.values("web")
        if self._config.otlp is not None:
            values |= self._spans.values() | self._receivers.values()
        if self._config.storage.path is not None:
            values["inferometer_ledgers_set_aside", ()] = float(self._ledger.kept_aside)
        for limit, count in (self._meter.capacity.dropped | self._inventory.dropped).items():
            values["inferometer_series_dropped_total", (limit,)] = float(count)
        return values | {
            ("inferometer_config_last_reload_successful", ()): float(self._reload_ok),
            ("inferometer_event_loop_lag_seconds", ()): self._lag.worst(),
        }

    def _about_web(self) -> dict[Account, float]:
        if self._web is None:
            return {}
        self._web.current()  # also where nobody asks for anything
        return {("inferometer_web_config_last_reload_successful", ()): float(self._web.is_good)}

    def _log_start(self, address: str) -> None:
        where = self._config.storage.path or "memory only: totals end with this process; add --storage.path DIR"
        workloads = ",".join(self._plan.policies)
        _log.info("started", extra={"listen": address, "ledger": where, "workloads": workloads})


def _spare_the_collector(engines: int) -> None:
    """What the start made stays, and pages leave hardly a cycle: to look for them often is a tenth of the CPU.

    What is made for a moment of each engine, when all are published, is no reason to look; and a look at all that is
    kept of a thousand engines would hold up the loop, so that it comes seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER + _COLLECT_AFTER_PER_ENGINE * engines, 2, 50)


def _check_fixed(running: Config, wanted: Config) -> None:
    """Refuse a reload that would change what only a start can set."""
    fixed = {
        "currency": (running.currency, wanted.currency),
        "storage.path": (running.storage.path, wanted.storage.path),
        "web.listen_address": (running.web.listen_address, wanted.web.listen_address),
        "web.config_file": (running.web.config_file, wanted.web.config_file),
        "otlp": (_otlp(running), _otlp(wanted)),
        "gpu.sources": (", ".join(running.gpu.sources), ", ".join(wanted.gpu.sources)),
    }
    faults = [f"{key}: stays {was} while the agent runs; restart it" for key, (was, new) in fixed.items() if was != new]
    if faults:
        raise ConfigError(faults)


def _check_cluster(settings: Config, environ: Mapping[str, str]) -> None:
    """ConfigError where pods are to be found and there is no cluster to ask."""
    if settings.kubernetes is not None:
        from inferometer.app.cluster import cluster_of  # noqa: PLC0415 - only those who look for pods carry it

        cluster_of(settings.kubernetes, environ)


def _otlp(settings: Config) -> str:
    return f"http {settings.otlp.http}, grpc {settings.otlp.grpc or 'off'}" if settings.otlp is not None else "off"
