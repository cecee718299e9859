"""``python -m bench.freshness``: how long after an engine's page was read its numbers are on /metrics.

The page is another one each second and is read each second, so that a change is older by at most an interval.
"""

from __future__ import annotations

import http.client
import re
import sys
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from bench import machine, pages, result, stage
from bench.access import Access
from bench.nginx import Shelf
from bench.process import started
from bench.subjects import Task, agent
from bench.trial import warm_up

_TOKENS = re.compile(rb'^inferometer_tokens_total\{.*type="output".*\} (\S+)$', re.MULTILINE)
_POLL_SECONDS = 0.004


class Freshness(Struct, frozen=True):
    """Seconds from the last byte that the engine sent to the change on /metrics, for each reading."""

    machine: str
    every: float
    targets: int
    seconds: Sequence[float]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the median and the worst."""
    parser = stage.parser("bench.freshness", __doc__)
    parser.add_argument("--targets", type=int, default=1, help="more than one: since the newest page")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args(argv)
    where = machine.described()
    stage.say(where)
    shelf_pages = {"vllm": pages.vllm()}
    with stage.folder() as folder, Shelf(folder, shelf_pages).site("site", {"vllm": options.targets}) as site:
        (folder / "agent").mkdir()
        task = Task(site.urls["vllm"], 1.0, site.sink, folder / "agent")
        begin = site.access.mark()
        with started(agent(task), folder / "log") as child:
            warm_up(child, task, site.access, begin)
            begin = site.access.mark()
            shown = list(_changes(task.port, time.time() + options.seconds))
        found = sorted(_delays(site.access, begin, shown))
    stage.say(
        f"{options.targets} targets, {len(found)} changes: on /metrics {found[len(found) // 2] * 1e3:.0f} ms after "
        f"the last page was read, at worst {found[-1] * 1e3:.0f} ms"
    )
    result.keep(options.out, "freshness", Freshness(where, 1.0, options.targets, found))
    return 0


def _changes(port: int, end: float) -> Iterator[float]:
    """When /metrics showed other tokens than before, in unix seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    before: list[bytes] = []
    while time.time() < end:
        connection.request("GET", "/metrics")
        tokens = _TOKENS.findall(connection.getresponse().read())
        if tokens != before and before:
            yield time.time()
        before = tokens
        time.sleep(_POLL_SECONDS)
    connection.close()


def _delays(access: Access, begin: int, shown: Sequence[float]) -> Iterator[float]:
    """From the last reading before each change to the change."""
    read = [hit.at for hit in access.since(begin)]
    for at in shown:
        earlier = [moment for moment in read if moment <= at]
        if earlier:
            yield at - max(earlier)


if __name__ == "__main__":
    sys.exit(main())
