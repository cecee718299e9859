"""A time of its own for tests in which both ends of every connection live on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import selectors

from inferometer.sim.engine import Engine
from inferometer.sim.server import Server
from inferometer.sim.traffic import Shape, Traffic


class QuickLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next timer whenever all sockets are quiet: both ends of every connection are its own.

    So what takes a minute is over in a second, and a machine that is busy otherwise changes no figure.
    """

    def __init__(self):
        loop = self

        class Jumping(selectors.DefaultSelector):
            def select(self, timeout=None):
                events = super().select(0 if timeout is not None and timeout <= 0 else 0.0005)
                if not events and timeout is not None and timeout > 0:
                    loop.now += timeout
                return events

        self.now = 1000.0
        super().__init__(Jumping())

    def time(self):
        return self.now


@contextlib.asynccontextmanager
async def simulated(machine, requests_per_second=0.0):
    """An engine that answers on this loop and lives in its time."""
    clock = asyncio.get_running_loop().time
    traffic = Traffic(1, Shape(requests_per_second=requests_per_second), clock())
    server = Server(Engine(machine, clock()), traffic, clock)
    await server.start()

    async def beat():
        while True:
            server.catch_up()
            await asyncio.sleep(0.02)

    beating = asyncio.create_task(beat())
    try:
        yield server
    finally:
        beating.cancel()
        await server.stop()
