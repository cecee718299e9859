"""Readings of the driver for the event loop: a hang is contained, and the driver can be let go of for a while."""

from __future__ import annotations

import asyncio
import math
from typing import TypeVar

from inferometer.model import GpuReading
from inferometer.sources.detached import Aside
from inferometer.sources.nvml.driver import SOURCE, Nvml

WATCHDOG_SECONDS = 5.0
T = TypeVar("T")


class NvmlSource:
    """Readings off the event loop. A call that hangs is left behind, and no other is made until it comes back.

    ``needs_restart``: the driver was upgraded under this process, whose library is of the old one and stays so.
    """

    def __init__(self, nvml: Nvml, watchdog_seconds: float = WATCHDOG_SECONDS) -> None:
        self.needs_restart = False
        self._nvml, self._aside = nvml, Aside(SOURCE)
        self._watchdog_seconds = watchdog_seconds
        self._call: asyncio.Future[GpuReading] | asyncio.Future[None] | None = None
        self._is_open = True  # as far as is known; Nvml opens the driver by itself when it is read
        self._released_until = -math.inf

    async def read(self) -> GpuReading:
        """One reading, or error ``timeout`` after the watchdog's time, or at once while an earlier call still hangs.

        While the driver is released, error ``released``.
        """
        began = self._nvml.clock()
        if began < self._released_until:
            await self._let_go()
            return self._absent("released", f"let go of for {self._released_until - began:.0f} s more, as asked", began)
        reading: GpuReading | None = None
        if self._is_free():
            self._is_open = True
            self._call = call = self._aside.run(self._nvml.read)
            reading = await self._patiently(call)
        if reading is None:
            return self._absent("timeout", f"a call to the GPU driver hangs (over {self._watchdog_seconds:g} s)", began)
        self.needs_restart = self.needs_restart or reading.error == "mismatch"
        return reading

    async def release(self, seconds: float) -> bool:
        """Close the driver and keep it closed for so long, so that a GPU can be reset or partitioned; 0 ends that.

        False when a call hangs, so that the driver is still held; it is let go of as soon as the call returns.
        """
        self._released_until = self._nvml.clock() + seconds
        if self._call is not None and not self._call.done():
            await asyncio.wait([self._call], timeout=self._watchdog_seconds)
        await self._let_go()
        return not self._is_open

    async def _let_go(self) -> None:
        if self._is_open and self._is_free():
            self._call = call = self._aside.run(self._close)
            await self._patiently(call)

    def _close(self) -> None:
        self._nvml.close()
        self._is_open = False

    def _is_free(self) -> bool:
        return self._call is None or self._call.done()

    async def _patiently(self, call: asyncio.Future[T]) -> T | None:
        """The call's result; None when the watchdog's time is over, while the call goes on."""
        try:
            async with asyncio.timeout(self._watchdog_seconds):
                return await asyncio.shield(call)
        except TimeoutError:
            return None

    def _absent(self, reason: str, detail: str, began: float) -> GpuReading:
        at = self._nvml.clock()
        return GpuReading(SOURCE, at, reason, seconds=at - began, detail=detail)
