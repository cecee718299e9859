"""Reads the machine's GPUs when told to: commands on stdin, an answer to each on stdout as JSON, one a line."""

from __future__ import annotations

import asyncio
import sys

import msgspec
from inferometer.sources import boottime
from inferometer.sources.nvml import Nvml, NvmlSource


class Probe:
    """What it can be told. Its clock runs ahead as far as it was advanced."""

    def __init__(self, watchdog_seconds):
        self._ahead = 0.0
        self._source = NvmlSource(Nvml(lambda: boottime() + self._ahead), watchdog_seconds)

    async def read(self):
        return await self._source.read()

    async def release(self, seconds):
        return await self._source.release(float(seconds))

    async def advance(self, seconds):
        self._ahead += float(seconds)

    async def needs_restart(self):
        return self._source.needs_restart


async def main():
    probe = Probe(float(sys.argv[1]))
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, *arguments = line.split()
        answer = await getattr(probe, command)(*arguments)
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


asyncio.run(main())
