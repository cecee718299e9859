"""Sources read the outside world at their own pace: poll() keeps the pace, SourceStats keeps account of how they do."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

from msgspec import Struct, field

from inferometer.model import Sample, SourceView

T = TypeVar("T")
_log = logging.getLogger(__name__)
_ADDRESSES = 4_096

_NORMAL = frozenset({"no_library", "no_driver", "released"})  # no GPU, or let go of as asked: nothing to warn about


def boottime() -> float:
    """Steady seconds that go on while the machine sleeps (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def poll(
    read: Callable[[], Awaitable[T]],
    every_seconds: float,
    emit: Callable[[T], None],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Read at start + k · ``every_seconds`` until cancelled. A slow read skips the ticks it covers and queues none.

    ``sleep`` waits for so many seconds.
    """
    start, tick = clock(), 0
    while True:
        emit(await read())
        tick = max(tick + 1, math.floor((clock() - start) / every_seconds) + 1)
        await sleep(max(0.0, start + tick * every_seconds - clock()))


@lru_cache(_ADDRESSES)
def public_url(url: str) -> str:
    """What may be shown of an address: scheme, host, port and path; no user, query or fragment."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://(invalid)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Source(Struct):
    """What is remembered of one source; ``reason`` of its newest reading, None before the first."""

    reason: str | None = None
    detail: str = ""
    read_seconds: float = 0.0
    last_success: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)


class SourceStats:
    """How every source is doing. ``urls``: address by the name in its samples; a source not listed goes by its name."""

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self.urls = dict(urls or {})
        self._sources: dict[str, _Source] = {}

    def seen(self, sample: Sample, wall: float) -> None:
        """Count one reading, made at ``wall`` (unix), and log it if the source's state changed."""
        source = self._sources.setdefault(sample.source, _Source())
        before, source.reason, source.detail = source.reason, sample.error, sample.detail
        source.read_seconds = sample.seconds
        if sample.error:
            source.errors[sample.error] = source.errors.get(sample.error, 0) + 1
        else:
            source.last_success = wall
        if sample.error != before:
            self._log_change(sample)

    def refused(self, name: str, reason: str) -> None:
        """Count what a receiver would not take; that a sender errs says nothing about the source."""
        errors = self._sources.setdefault(name, _Source()).errors
        errors[reason] = errors.get(reason, 0) + 1

    def forget(self, names: Collection[str]) -> None:
        """Drop sources that are no longer configured or discovered."""
        for name in names:
            self._sources.pop(name, None)
            self.urls.pop(name, None)

    def views(self) -> tuple[SourceView, ...]:
        """Every source seen so far, in the order of their first samples."""
        return tuple(
            SourceView(
                source=self._label(name),
                up=source.reason == "",
                read_seconds=source.read_seconds,
                last_success=source.last_success,
                errors=dict(source.errors),
                detail=source.detail,
            )
            for name, source in self._sources.items()
        )

    def _label(self, name: str) -> str:
        return public_url(self.urls.get(name, name))

    def _log_change(self, sample: Sample) -> None:
        fields = {"source": self._label(sample.source)}
        if not sample.error:
            _log.info("source up", extra=fields)
            return
        fields |= {"reason": sample.error, "detail": sample.detail}
        _log.log(logging.INFO if sample.error in _NORMAL else logging.WARNING, "source down", extra=fields)
