"""An agent that is told to stop while it starts does not finish starting first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Do the work, or leave it where it is as soon as ``stop`` is set. What it raises is raised."""
    doing, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
    finally:
        doing.cancel()
        stopped.cancel()
        await asyncio.gather(doing, stopped, return_exceptions=True)
