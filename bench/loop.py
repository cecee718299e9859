"""The plain way to read the same pages: aiohttp and prometheus_client's parser. ``python -m bench.loop SECONDS URL…``.

It keeps the newest value of every series and does nothing with it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def follow(session: aiohttp.ClientSession, url: str, every: float, values: Values) -> None:
    """Read one page again and again."""
    began, tick = time.monotonic(), 0
    while True:
        async with session.get(url) as response:
            text = await response.text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name, tuple(sample.labels.items())] = sample.value
        tick = max(tick + 1, int((time.monotonic() - began) / every) + 1)
        await asyncio.sleep(max(0.0, began + tick * every - time.monotonic()))


async def main(every: float, urls: Sequence[str]) -> None:
    """Read all pages, side by side."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as tasks:
        for url in urls:
            tasks.create_task(follow(session, url, every, {}))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
