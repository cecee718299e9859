"""Prices from where they are kept: read at the start, again when they are due, and kept when a reading fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from inferometer import config
from inferometer.config import Config, Feed
from inferometer.economics.prices import hourly
from inferometer.errors import ConfigError, SourceError
from inferometer.model import Page, PriceView, SourceView
from inferometer.sources import SourceStats, boottime, public_url
from inferometer.sources.detached import detached
from inferometer.sources.gpu_prices import NODE_PRICE, catalog_price, opencost_price
from inferometer.sources.scrape import Scraper, Target, open_session
from inferometer.sources.session import Session

_log = logging.getLogger(__name__)
_FIRST_WAIT_SECONDS = 2.0
_RETRY_SECONDS = 30.0
_READ_SECONDS = 10.0


class Quote(Struct, frozen=True):
    """Money per GPU-hour as it was read at ``at`` (unix)."""

    gpu_hour: float
    at: float


class Feeds:
    """Keeps a quote for every price that has a feed. ``session`` is set before; ``changed`` hears of another price."""

    def __init__(self, wall: Callable[[], float], changed: Callable[[], None]) -> None:
        self.session: Session | None = None
        self._wall, self._changed = wall, changed
        self._feeds: dict[str, Feed] = {}
        self._quotes: dict[str, Quote] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stats = SourceStats()

    async def follow(self, settings: Config) -> None:
        """Keep the prices of this configuration; new ones are waited for, but never for long."""
        wanted = {name: price.feed for name, price in settings.prices.items() if price.feed is not None}
        for name in [name for name, feed in self._feeds.items() if wanted.get(name) != feed]:
            self._drop(name)
        first = []
        for name in wanted.keys() - self._feeds.keys():
            self._feeds[name] = wanted[name]
            read = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._keep(name, wanted[name], read))
            first.append(asyncio.create_task(read.wait()))
        if first:
            _, late = await asyncio.wait(first, timeout=_FIRST_WAIT_SECONDS)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        """Read nothing any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def quoted(self, settings: Config) -> Config:
        """The configuration with every quote as the price; one that was never read stays without a price."""
        return quoted(settings, {name: quote.gpu_hour for name, quote in self._quotes.items()})

    def views(self) -> tuple[SourceView, ...]:
        """How reading them goes."""
        return self._stats.views()

    def prices(self, settings: Config, wall: float) -> tuple[PriceView, ...]:
        """Every price of a configuration, what it is now and where it comes from."""
        return tuple(self._view(name, price, wall) for name, price in sorted(settings.prices.items()))

    def hints(self) -> tuple[str, ...]:
        """Prices that cannot be read, and what is charged meanwhile."""
        found = []
        for view in self._stats.views():
            if view.up:
                continue
            quote = self._quotes.get(view.source.removeprefix("prices."))
            said = "it was never read, so what it prices costs nothing yet"
            if quote is not None:
                said = f"the price of {_date(quote.at)} is charged on"
            found.append(f"{view.source}: {said}: {view.detail}")
        return tuple(found)

    def _view(self, name: str, price: config.Price, wall: float) -> PriceView:
        feed, quote = price.feed, self._quotes.get(name)
        if feed is not None:
            where = public_url(feed.opencost or feed.csv or "")
            return PriceView(name, where, quote.gpu_hour if quote else None, quote.at if quote else None)
        cost = config.costs.price(price)
        return PriceView(name, "configuration", hourly(cost, wall) if cost is not None else None)

    def _drop(self, name: str) -> None:
        self._tasks.pop(name).cancel()
        del self._feeds[name]
        self._quotes.pop(name, None)
        self._stats.forget({_source(name)})

    async def _keep(self, name: str, feed: Feed, read: asyncio.Event) -> None:
        while True:
            good = await self._refresh(name, feed)
            read.set()
            await asyncio.sleep(feed.refresh if good else min(feed.refresh, _RETRY_SECONDS))

    async def _refresh(self, name: str, feed: Feed) -> bool:
        began = boottime()
        try:
            price = await _price(feed, self.session)
        except SourceError as error:
            self._seen(Page(_source(name), began, error.reason, seconds=boottime() - began, detail=str(error)))
            return False
        except Exception:  # noqa: BLE001  a price list that nobody foresaw may not stop the agent
            _log.exception("a price could not be read; please report it", extra={"price": name})
            self._seen(Page(_source(name), began, "fault", detail="it could not be read, see the log"))
            return False
        self._seen(Page(_source(name), began, seconds=boottime() - began))
        before, self._quotes[name] = self._quotes.get(name), Quote(price, self._wall())
        if before is None or before.gpu_hour != price:
            _log.info("price read", extra={"price": name, "gpu_hour": price, "before": before and before.gpu_hour})
            self._changed()
        return True

    def _seen(self, reading: Page) -> None:
        self._stats.seen(reading, self._wall())


def quoted(settings: Config, quotes: Mapping[str, float]) -> Config:
    """The configuration with money per GPU-hour for the prices that are named and have a feed."""
    prices = {
        name: replace(price, gpu_hour=quotes[name]) if price.feed is not None and name in quotes else price
        for name, price in settings.prices.items()
    }
    return replace(settings, prices=prices)


async def read_once(settings: Config) -> Config:
    """The configuration with every price read; for replays, which do not wait. ConfigError where one cannot be."""
    feeds = {name: price.feed for name, price in settings.prices.items() if price.feed is not None}
    if not feeds:
        return settings
    quotes, faults = {}, []
    async with open_session() as session:
        for name, feed in feeds.items():
            try:
                quotes[name] = await _price(feed, session)
            except SourceError as error:
                faults.append(f"prices.{name}.from: {error}")
    if faults:
        raise ConfigError(faults)
    return quoted(settings, quotes)


async def _price(feed: Feed, session: Session | None) -> float:
    """One reading. Raises SourceError."""
    if feed.csv is not None:
        columns = {"AcceleratorName": feed.accelerator, "InstanceType": feed.instance, "Region": feed.region}
        read = partial(catalog_price, Path(feed.csv), _given(columns), spot=feed.spot)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await detached(read, "price")
        except TimeoutError:
            raise SourceError("timeout", f"{feed.csv}: not read within {_READ_SECONDS:g} s") from None
    if session is None:
        raise AssertionError("the session is opened before anything is followed")
    target = Target("opencost", feed.opencost or "", timeout_seconds=_READ_SECONDS)
    page = await Scraper(target, {NODE_PRICE}, session, boottime).read()
    return opencost_price(page, _given({"node": feed.node, "instance_type": feed.instance, "region": feed.region}))


def _given(choice: Mapping[str, str | None]) -> Mapping[str, str]:
    return MappingProxyType({name: value for name, value in choice.items() if value is not None})


def _source(name: str) -> str:
    return f"prices.{name}"


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
