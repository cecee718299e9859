"""All engines in one process of their own: ``python -m bench.server ENGINES [RECORDING]`` prints its port.

Engine k answers at 127.0.1.k, so that each is a host of its own to whoever reads it. Pages are made beforehand:
what is left is what any server does. ``/count`` says how many pages were served.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from aiohttp import web

from bench.pages import Pages

_SECONDS_AHEAD = 120


def host(engine: int) -> str:
    """Where an engine listens."""
    return f"127.0.1.{engine + 1}"


class Engines:
    """Serves pages; the second of the page is the second of the clock."""

    def __init__(self, engines: int, folder: Path | None) -> None:
        self._engines = engines
        self._served = 0
        self._pages = Pages(folder)
        for engine in range(engines):
            for second in range(_SECONDS_AHEAD):
                self._pages.at(second, engine)
        self._began = time.monotonic()

    async def serve(self) -> None:
        """Until SIGTERM."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/count", self._count)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host(0), 0)
        await site.start()
        port = int(runner.addresses[0][1])
        for engine in range(1, self._engines):
            await web.TCPSite(runner, host(engine), port).start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self._served += 1
        engine = int(request.url.host.rpartition(".")[2]) - 1 if request.url.host else 0
        second = int(time.monotonic() - self._began)
        return web.Response(body=self._pages.at(second, engine), content_type="text/plain")

    async def _count(self, _: web.Request) -> web.Response:
        return web.Response(text=str(self._served))


if __name__ == "__main__":
    recording = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    asyncio.run(Engines(int(sys.argv[1]), recording).serve())
