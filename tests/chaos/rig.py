"""The real agent with a scripted time: every source is read when the test says so, over no socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self
from unittest import mock

from inferometer import config, pipeline
from inferometer.app import readers
from inferometer.app.agent import Agent
from inferometer.exposition.prometheus import Renderer
from inferometer.model import Batch, Sample
from inferometer.sources.alarms import Alarms

from chaos.timeline import Timeline


class Nobody:
    """A watch of pods that sees none: the test shows them itself."""

    async def follow(self, _emit: Callable[[Sample], None]) -> None:
        await asyncio.Event().wait()


def _nobody(*_: object) -> Nobody:
    """No mock: that would remember every call of a long life."""
    return Nobody()


class Rig:
    """An agent in the block of an ``async with``. ``session`` answers its readings in the place of a network.

    ``beat`` is one round of all that is polled; ``settings`` may be written anew before ``reload``.
    """

    def __init__(self, path: Any, clock: Timeline, session: Any, **flags: str) -> None:
        session.deadlines = Alarms(0.05)  # as a Session has them
        self.path, self.clock, self.session, self.flags = path, clock, session, flags
        self.polls: dict[int, Callable[[], Awaitable[Sample | None]]] = {}
        self.renderer = Renderer(process=False)
        self.tasks: Callable[[], int] = lambda: len(asyncio.all_tasks())
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        self._stack.enter_context(mock.patch.object(readers, "poll", self._poll))
        self._stack.enter_context(mock.patch("inferometer.app.cluster.pod_watch", _nobody))
        self.start()
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        await self.stop()
        await self._stack.aclose()

    def start(self) -> None:
        """A new agent on the ledger that is there."""
        self.agent = Agent(lambda: config.load(str(self.path), self.flags, {}), {}, clock=self.clock)
        self.agent._readers.session = self.session
        self.agent._follow(self.agent._plan)

    async def stop(self) -> None:
        """The agent ends without a word."""
        await self.agent._readers.stop()
        await self.agent._feeds.close()
        self.agent._ledger.close()

    async def again(self) -> None:
        """Killed and started anew."""
        await self.stop()
        self.start()
        await asyncio.sleep(0)

    async def beat(self, *more: Sample) -> None:
        """Read everything that is polled now, and settle it with what else came."""
        await asyncio.sleep(0)  # what was just begun is polled too
        read = [await one() for one in list(self.polls.values())]
        await self.take(*(sample for sample in read if sample is not None), *more)

    async def take(self, *samples: Sample) -> None:
        """One batch through the whole pipeline."""
        agent = self.agent
        batch = Batch(self.clock.at(), self.clock.wall(), samples)

        async def batches() -> AsyncIterator[Batch]:
            yield batch

        await pipeline.run(batches(), agent._translate, agent._meter, agent._settle, agent._ledger, agent._publish)
        await asyncio.sleep(0)

    def metrics(self) -> str:
        """The page as a scrape would see it."""
        return self.renderer.render(self.agent.snapshot()).decode()

    async def _poll(self, read: Callable[[], Awaitable[Sample | None]], *_: object) -> None:
        self.polls[id(read)] = read
        try:
            await asyncio.Event().wait()
        finally:
            del self.polls[id(read)]
