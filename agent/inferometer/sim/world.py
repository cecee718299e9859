"""A whole outside world in one thread: engines that answer on loopback, their clients, and the GPUs under them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from inferometer.sim.driver import Nvml
from inferometer.sim.engine import Engine, Machine
from inferometer.sim.server import Server
from inferometer.sim.traffic import Shape, Traffic

_BEAT_SECONDS = 0.02
_CALL_SECONDS = 10.0
_T = TypeVar("_T")


class EngineControl:
    """One engine of a running world, for any thread."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop

    @property
    def url(self) -> str:
        """Its metrics page."""
        return self._server.url

    def restart(self, seconds: float = 0.0) -> None:
        """A new process, with ``seconds`` of refused connections before it."""
        self._call(lambda: self._server.restart(seconds))

    def stall(self, seconds: float) -> None:
        """No progress and a frozen page for ``seconds``."""
        self._call(lambda: self._server.stall(seconds))

    def hang(self, seconds: float) -> None:
        """Connections are accepted and not answered for ``seconds``."""
        self._call(lambda: self._server.hang(seconds))

    def refuse(self, seconds: float) -> None:
        """Connections are refused for ``seconds``."""
        self._call(lambda: self._server.refuse(seconds))

    def truth(self) -> dict[str, Any]:
        """What really happened; see ``Engine.truth``."""

        async def truth() -> dict[str, Any]:
            return self._server.truth()

        return self._call(truth)

    def _call(self, control: Callable[[], Awaitable[_T]]) -> _T:
        async def run() -> _T:
            return await control()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_CALL_SECONDS)


class World:
    """``engines``: how many, on free ports, or a tuple with the port of each (0: free). A context manager.

    ``shape`` is the traffic of each engine (its own seed); ``requests_per_second=0`` is none. While it runs ``urls``
    are the metrics pages, ``engines`` the controls, and ``nvml`` may be ``pynvml.nvmlLib``.
    """

    def __init__(
        self,
        engines: int | tuple[int, ...] = 2,
        gpus: int = 2,
        seed: int = 1,
        shape: Shape | None = None,
        machine: Machine | None = None,
    ) -> None:
        ports = (0,) * engines if isinstance(engines, int) else engines
        offset, start = time.time() - time.monotonic(), time.time()  # unix time that never steps

        def clock() -> float:
            return offset + time.monotonic()

        self._servers = [
            Server(Engine(machine, start), Traffic(1000 * seed + number, shape, start), clock, port)
            for number, port in enumerate(ports)
        ]
        self._gpus = gpus
        self.nvml = Nvml(gpus, self._load)
        self.engines: list[EngineControl] = []
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)

    @property
    def urls(self) -> list[str]:
        """The engines' metrics pages."""
        return [server.url for server in self._servers]

    def __enter__(self) -> Self:
        """Start; OSError when a port is taken."""
        self._thread.start()
        loop = self._started.result(_CALL_SECONDS)
        self.engines = [EngineControl(server, loop) for server in self._servers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything and wait for it."""
        self._stop.set()
        self.nvml.resume()
        self._thread.join(_CALL_SECONDS)

    def _load(self, gpu: int) -> float:
        """GPUs are dealt to engines in turn; of engines that share one the busiest counts."""
        count = len(self._servers)
        sharing = [s.engine.load for i, s in enumerate(self._servers) if i % self._gpus == gpu or gpu % count == i]
        return max(sharing, default=0.0)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # whoever started the world must hear of any failure
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _live(self) -> None:
        try:
            for server in self._servers:
                await server.start()
            self._started.set_result(asyncio.get_running_loop())
            while not self._stop.is_set():
                for server in self._servers:
                    server.catch_up()
                self.nvml.tick()
                await asyncio.sleep(_BEAT_SECONDS)
        finally:
            for server in self._servers:
                await server.stop()
