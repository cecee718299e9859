"""A proxy before one engine's page that is told to be bad: real sockets, a thread and a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import threading
from collections import Counter

from live import Scoped, fetch

from chaos.wire import REASONS, whole


class Proxy(Scoped):
    """``share``: how often an answer is one of the faults; ``faults``: how often each was."""

    def __init__(self, upstream: str, seed: int) -> None:
        self.share = 0.0
        self.faults: Counter[str] = Counter()
        self.url = self.name = ""
        self._upstream, self._rng = upstream, random.Random(seed)
        self._listening, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def begin(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._listening.wait(10)

    def end(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def reasons(self) -> set[str]:
        """By which the faults so far may be counted."""
        by_name = {fault.__name__: reasons for fault, reasons in REASONS.items()}
        return {reason for name in self.faults for reason in by_name[name]} - {""}

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.url = f"http://{self.name}/metrics"
        self._listening.set()
        await self._over.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            page = (await asyncio.to_thread(fetch, self._upstream))[1].encode()
            if self._rng.random() >= self.share:
                writer.write(whole(page))
            else:
                fault = self._rng.choice([*REASONS])
                self.faults[fault.__name__] += 1
                await fault(self._rng, page, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, http.client.HTTPException):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()
