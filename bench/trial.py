"""One trial: a subject reads all engines for a while, and what that took; or the agent starts."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench.process import started, usage
from bench.server import host
from bench.subjects import Command, agent, free_port

_WARM_UP_PAGES = 4  # of each engine: the first ones make series, and Prometheus begins only after 5 s
_REST_SECONDS = 5.0
_START_SECONDS = 30.0
_FIRST_NUMBERS = b"\ninferometer_tokens_total{"


class Trial(Struct, frozen=True):
    """What one subject used over its pages. ``pages_per_second`` shows whether it kept pace."""

    cpu_seconds_per_page: float
    pages_per_second: float
    resident_bytes: float


class Start(Struct, frozen=True):
    """Seconds from exec to the first complete /metrics, and resident memory soon after."""

    seconds: float
    resident_bytes: float


class Sidecar(Struct, frozen=True):
    """An agent beside one engine: its share of a core, and resident memory."""

    core_ratio: float
    resident_bytes: float


@contextlib.contextmanager
def engines(count: int, folder: Path, recording: Path | None) -> Iterator[list[str]]:
    """The static server; gives the URLs of its engines."""
    command = [sys.executable, "-m", "bench.server", str(count), *([str(recording)] if recording else [])]
    with started(command, folder / "server.log") as server:
        port = server.stdout.readline().strip() if server.stdout else ""
        if not port:
            raise SystemExit(f"the server did not start:\n{(folder / 'server.log').read_text(encoding='utf-8')}")
        yield [f"http://{host(engine)}:{port}/metrics" for engine in range(count)]


def read_all(command: Command, urls: Sequence[str], folder: Path, seconds: float) -> Trial:
    """Let a subject read for ``seconds`` after its warm-up. Raises SystemExit when it died or never reads."""
    folder.mkdir(parents=True)
    with started(command(urls, folder), folder / "log") as child:
        _warm_up(child, urls, folder)
        before, pages, began = usage(child.pid), _served(urls[0]), time.monotonic()
        time.sleep(seconds)
        _alive(child, folder)
        after, pages, took = usage(child.pid), _served(urls[0]) - pages, time.monotonic() - began
    return Trial((after.cpu_seconds - before.cpu_seconds) / max(pages, 1), pages / took, after.resident_bytes)


def start(urls: Sequence[str], folder: Path) -> Start:
    """Start the agent and wait until its page has the numbers of the first engine."""
    folder.mkdir(parents=True)
    port = free_port()
    command = agent(urls, folder, port)
    began = time.monotonic()
    with started(command, folder / "log") as child:
        while _FIRST_NUMBERS not in _get("127.0.0.1", port, "/metrics"):
            _alive(child, folder)
            if time.monotonic() - began > _START_SECONDS:
                raise SystemExit("the agent never showed numbers")
            time.sleep(0.005)
        took = time.monotonic() - began
        time.sleep(_REST_SECONDS)
        return Start(took, usage(child.pid).resident_bytes)


def sidecar(url: str, folder: Path, seconds: float, environ: Mapping[str, str]) -> Sidecar:
    """One engine for ``seconds``, with all GPUs of the driver that ``environ`` leads to, or with none to be read."""
    folder.mkdir(parents=True)
    command = agent([url], folder, gpus="all" if environ else "none")
    with started(command, folder / "log", environ) as child:
        _warm_up(child, [url], folder)
        before, began = usage(child.pid), time.monotonic()
        time.sleep(seconds)
        _alive(child, folder)
        after, took = usage(child.pid), time.monotonic() - began
    return Sidecar((after.cpu_seconds - before.cpu_seconds) / took, after.resident_bytes)


def _warm_up(child: subprocess.Popen[str], urls: Sequence[str], folder: Path) -> None:
    """Until the subject has read every engine a few times."""
    enough, end = _served(urls[0]) + _WARM_UP_PAGES * len(urls), time.monotonic() + _START_SECONDS
    while _served(urls[0]) < enough:
        _alive(child, folder)
        if time.monotonic() > end:
            raise SystemExit(f"{folder.name} does not read the pages")
        time.sleep(0.1)


def _alive(child: subprocess.Popen[str], folder: Path) -> None:
    if child.poll() is not None:
        raise SystemExit(f"{folder.name} ended:\n{(folder / 'log').read_text(encoding='utf-8')}")


def _served(url: str) -> int:
    name, _, port = url.removeprefix("http://").removesuffix("/metrics").partition(":")
    return int(_get(name, int(port), "/count"))


def _get(name: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(name, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()
