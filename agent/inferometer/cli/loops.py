"""The event loop that a command runs on: Python's own, or uvloop, which takes less CPU where there are many engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from inferometer.errors import ConfigError

LOOPS = ("asyncio", "uvloop")


def run(work: Callable[[], Coroutine[Any, Any, None]], loop: str) -> None:
    """Run ``work`` to its end on one of ``LOOPS``. ConfigError where that is not installed."""
    with asyncio.Runner(loop_factory=_factory(loop)) as runner:
        runner.run(work())


def _factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415  only who asks for it carries it
    except ImportError as error:
        raise ConfigError(["--event-loop: uvloop is not installed; pip install 'inferometer[uvloop]'"]) from error
    return uvloop.new_event_loop
