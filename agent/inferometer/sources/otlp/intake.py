"""Where both receivers hand in exports: a bounded queue, and an answer once the spans are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from inferometer.errors import SourceError
from inferometer.model import Export
from inferometer.sources.otlp.decode import Decoded, ReaderFor, decode
from inferometer.sources.otlp.rate import Rate

SOURCE = "otlp"
REASONS = (
    "malformed", "content_type", "encoding", "too_large", "truncated", "slow_client", "rate", "busy",
    "not_committed", "stopping",
)  # fmt: skip
"""Why an export is refused, as ``inferometer_source_errors_total`` counts it."""

MAX_BODY_BYTES = 8 << 20  # of a message, compressed or not
RETRY_SECONDS = 1
_ANSWER_SECONDS = 8.0  # exporters wait 10 s
_LARGE_BYTES = 1 << 16  # a larger message would hold up the event loop

Parse = Callable[[], ExportTraceServiceRequest]

# One thread: large messages one after the other, so that only one of them is in memory inflated.
_large_messages = ThreadPoolExecutor(1, "large-export")


class Limits(Struct, frozen=True):
    """What may wait for its commit at one time, and what may come in a second.

    One export is always let in, however many spans it has.
    """

    exports: int = 256
    requests: int = 20_000
    spans_per_second: float = 20_000.0


class Clocks(Struct, frozen=True):
    """Steady and unix seconds."""

    at: Callable[[], float]
    wall: Callable[[], float]


class Intake:
    """Takes exports. ``emit`` passes a sample on, ``refused`` hears the reason of every refusal."""

    def __init__(
        self,
        reader_for: ReaderFor,
        emit: Callable[[Export], None],
        refused: Callable[[str], None],
        clocks: Clocks,
        limits: Limits = Limits(),  # noqa: B008  it cannot change
    ) -> None:
        self.refused = refused
        self._reader_for, self._emit = reader_for, emit
        self._clocks, self._limits = clocks, limits
        self._exports = self._requests = 0
        self.rate = Rate(limits.spans_per_second)
        self._open = True

    def close(self) -> None:
        """Take no more; exports that wait are answered still."""
        self._open = False

    def check_room(self) -> None:
        """SourceError ``busy``, ``rate`` or ``stopping`` where nothing can be taken now: before the work is done."""
        if not self._open:
            raise SourceError("stopping", "the agent is stopping; send again")
        if self._exports >= self._limits.exports or self._requests >= self._limits.requests:
            raise SourceError("busy", "too many spans wait for the disk; send again later")
        if not self.rate.has_room(self._clocks.at()):
            raise SourceError("rate", "more spans come than limits.spans_per_second; send again later")

    async def take(self, parse: Parse, size: int) -> Decoded:
        """Take one export of so many bytes and wait until its spans are committed. SourceError with one of REASONS."""
        self.check_room()
        began = self._clocks.at()
        decoded = await self._decoded(parse, size)
        self.check_room()
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        count = len(decoded.requests)
        self.rate.spend(count + sum(decoded.outcomes.values()))
        self._exports, self._requests = self._exports + 1, self._requests + count

        def answer(accepted: bool) -> None:  # noqa: FBT001  a reply takes one word
            self._exports, self._requests = self._exports - 1, self._requests - count
            if not answered.done():
                answered.set_result(accepted)

        at = self._clocks.at()
        self._emit(
            Export(
                source=SOURCE,
                at=at,
                requests=decoded.requests,
                outcomes=decoded.outcomes,
                seconds=at - began,
                answer=answer,
            )
        )
        await _kept(answered)
        return decoded

    async def _decoded(self, parse: Parse, size: int) -> Decoded:
        read = partial(_read, parse, self._reader_for, self._clocks.wall())
        if size <= _LARGE_BYTES:
            return read()
        return await asyncio.get_running_loop().run_in_executor(_large_messages, read)


def _read(parse: Parse, reader_for: ReaderFor, now: float) -> Decoded:
    return decode(parse(), reader_for, now)


async def _kept(answered: asyncio.Future[bool]) -> None:
    """Wait for the commit. What comes too late is taken all the same, and the repeated export is a duplicate."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            kept = await answered
    except TimeoutError as error:
        raise SourceError("busy", f"not committed within {_ANSWER_SECONDS:g} s; send again") from error
    if not kept:
        raise SourceError("not_committed", "the disk refused; send again")
