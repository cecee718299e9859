"""Calls that may hang for good (DNS, the GPU driver) run in daemon threads of their own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")
_REST_SECONDS = 60.0


def detached(call: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run ``call`` in a new daemon thread; its result or exception arrives in the future, on the running loop.

    A pool would not do: its threads are waited for when the process ends, and one that hangs keeps others waiting.
    The caller sees to it that calls which hang do not add up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(_retrieved)
    threading.Thread(target=_run, args=(call, loop, future), name=name, daemon=True).start()
    return future


class Aside:
    """Runs calls one after the other in a daemon thread that is kept for the next one, and goes when none comes.

    A call that hangs keeps those after it waiting: the caller sees to it that there are none.
    """

    def __init__(self, name: str, rest_seconds: float = _REST_SECONDS) -> None:
        self._name, self._rest_seconds = name, rest_seconds
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_there = False

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """As ``detached`` does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_retrieved)
        self._calls.put(partial(_run, call, loop, future))
        with self._lock:
            if not self._is_there:
                self._is_there = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._rest_seconds)
            except queue.Empty:
                with self._lock:
                    if self._calls.empty():
                        self._is_there = False
                        return
            else:
                call()
                del call  # it holds on to a loop that may be closed before the next one comes


def _retrieved(future: asyncio.Future[T]) -> None:
    """Nobody may be waiting any more; asyncio is not to complain about that."""
    if not future.cancelled():
        future.exception()


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - handed to whoever awaits the future
        _deliver(loop, future, partial(future.set_exception, error))
    else:
        _deliver(loop, future, partial(future.set_result, result))


def _deliver(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())
    except RuntimeError:
        return  # the loop was closed in the meantime
