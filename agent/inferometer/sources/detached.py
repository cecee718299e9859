"""Calls that may hang for good (DNS, the GPU driver) run in daemon threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


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
