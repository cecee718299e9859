"""One trial: a subject reads its targets for a while, and what that took."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from bench.access import Access, pace
from bench.nginx import Site
from bench.process import started, usage
from bench.subjects import AGENT, SUBJECTS, Task

_WARM_UP_PAGES = 3  # of each target: the first ones make series
_SELDOM_SECONDS = 5.0  # from here on one page of each has to do
_PATIENCE_SECONDS = 60.0
_LAG = b"\ninferometer_event_loop_lag_seconds "


class Trial(Struct, frozen=True):
    """What one subject used for its pages. ``core_ratio``: of one core; ``jitter_*``: as the server saw it.

    ``lag_seconds``: the worst of the agent's event loop in the last minute; None for the others.
    ``connection_ratio``: new connections per page.
    """

    cpu_seconds_per_page: float
    core_ratio: float
    pages_per_second: float
    resident_bytes: float
    proportional_bytes: float
    wakeups_per_second: float
    jitter_p50: float
    jitter_p99: float
    connection_ratio: float
    lag_seconds: float | None = None


def run(name: str, task: Task, site: Site, seconds: float, environ: Mapping[str, str] | None = None) -> Trial:
    """Let a subject read for ``seconds`` after its warm-up. Raises SystemExit when it died or never reads."""
    task.folder.mkdir(parents=True)
    with started(SUBJECTS[name](task), task.folder / "log", environ) as child:
        begin = site.access.mark()
        warm_up(child, task, site.access, begin)
        mark, before, began = site.access.mark(), usage(child.pid), time.monotonic()
        time.sleep(seconds)
        alive(child, task.folder)
        after, took = usage(child.pid), time.monotonic() - began
        hits = site.access.since(mark)
        late = lag(task.port) if name == AGENT else None
    used, pages = after.cpu_seconds - before.cpu_seconds, sum(hit.whole for hit in hits)
    jitter = pace([*{hit.host: hit for hit in site.access.between(begin, mark)}.values(), *hits], task.every)
    return Trial(
        cpu_seconds_per_page=used / max(pages, 1),
        core_ratio=used / took,
        pages_per_second=pages / took,
        resident_bytes=after.resident_bytes,
        proportional_bytes=after.proportional_bytes,
        wakeups_per_second=max(0, after.wakeups - before.wakeups) / took,
        jitter_p50=jitter.p50,
        jitter_p99=jitter.p99,
        connection_ratio=sum(hit.first for hit in hits) / max(pages, 1),
        lag_seconds=late,
    )


def get(port: int, path: str) -> bytes:
    """The body of an answer on this machine; b'' where there is none or its status is not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except OSError:
        return b""
    finally:
        connection.close()
    return body if answer.status == 200 else b""


def alive(child: subprocess.Popen[str], folder: Path) -> None:
    """Raises SystemExit with the child's last words when it has ended."""
    if child.poll() is not None:
        raise SystemExit(f"{folder.name} ended:\n{(folder / 'log').read_text(encoding='utf-8')}")


def warm_up(child: subprocess.Popen[str], task: Task, access: Access, begin: int) -> None:
    """Until the subject has read every target a few times, or once where it reads seldom."""
    fewest = 1 if task.every >= _SELDOM_SECONDS else _WARM_UP_PAGES
    wanted = {host.partition(":")[0] for host in task.hosts}
    end = time.monotonic() + _PATIENCE_SECONDS + fewest * task.every
    while True:
        counts = Counter(hit.host for hit in access.since(begin) if hit.whole)
        if all(counts[host] >= fewest for host in wanted):
            return
        alive(child, task.folder)
        if time.monotonic() > end:
            log = (task.folder / "log").read_text(encoding="utf-8")
            raise SystemExit(f"{task.folder.name} does not read every page:\n{log}")
        time.sleep(0.2)


def lag(port: int) -> float | None:
    """The worst of the agent's event loop in the last minute, by its own account."""
    _, found, rest = get(port, "/metrics").partition(_LAG)
    return float(rest.split(b"\n", 1)[0]) if found else None
