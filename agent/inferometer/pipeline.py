"""The whole stream on one screen: Sample → Signal → Interval → Entry → Snapshot.

Sources run at their own pace and fill ``batches``; everything after is sequential, so no stage needs a lock. The clock
is a source: a tick is an empty batch. Tests, replays and simulations are only other lists of batches. A large batch
goes through in parts, between which everybody else of the event loop has a turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

_PART = 8  # samples of a batch: as many pages take some three milliseconds to translate and meter
_SLICE_SECONDS = 0.003
_Item = TypeVar("_Item")


async def run(  # noqa: PLR0913, PLR0917  the six stages are what this function is about
    batches: AsyncIterable[Any],
    translate: Callable[[Any], Any],
    meter: Any,
    settle: Callable[[Any], Any],
    ledger: Any,
    publish: Callable[[Any, Any, bool], Iterable[None]],
) -> None:
    """Carry every batch through the stages, in order, one at a time. ``publish`` does so step by step."""
    async for batch in batches:  # sources: Sample
        async for part in unhurried(_parts(batch)):
            meter.add(part, translate(part))  # adapters: Signal
        entries = [settle(interval) async for interval in unhurried(meter.due(batch.at))]  # interval, economics: Entry
        committed = True
        if entries or ledger.has_new_spans:
            committed = await ledger.post(entries, meter.marks())  # one transaction, off the event loop
        async for _ in unhurried(publish(batch, entries, committed)):  # exposition: Snapshot
            pass  # and sources: what they brought is kept


def _parts(batch: Any) -> Iterable[Any]:
    """The same batch a few samples at a time; a tick is one part."""
    if len(batch.samples) <= _PART:
        return (batch,)
    return (
        replace(batch, samples=batch.samples[start : start + _PART]) for start in range(0, len(batch.samples), _PART)
    )


async def unhurried(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """The same items; the event loop turns whenever they have taken some milliseconds."""
    rested = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - rested >= _SLICE_SECONDS:
            await asyncio.sleep(0)
            rested = time.monotonic()
