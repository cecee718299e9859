"""The whole stream on one screen: Sample → Signal → Interval → Entry → Snapshot.

Sources run at their own pace and fill ``batches``; everything after is sequential, so no stage needs a lock. The clock
is a source: a tick is an empty batch. Tests, replays and simulations are only other lists of batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Any


async def run(  # noqa: PLR0913, PLR0917  the six stages are what this function is about
    batches: AsyncIterable[Any],
    translate: Callable[[Any], Any],
    meter: Any,
    settle: Callable[[Any], Any],
    ledger: Any,
    publish: Callable[[Any, Any, bool], None],
) -> None:
    """Carry every batch through the stages, in order, one at a time."""
    async for batch in batches:  # sources: Sample
        meter.add(batch, translate(batch))  # adapters: Signal
        entries = [settle(interval) for interval in meter.due(batch.at)]  # interval, economics: Entry
        committed = True
        if entries or ledger.has_new_spans:
            committed = await ledger.post(entries, meter.marks())  # one transaction, off the event loop
        publish(batch, entries, committed)  # exposition: Snapshot; sources: what they brought is kept
