"""Who reads the agent's own /metrics: a client that times each answer, and a Prometheus server that scrapes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bench.process import free_port, started

_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
"""As Prometheus sends them."""


class Answer(Struct, frozen=True):
    """One reading of /metrics: request to last byte, and the bytes that were sent."""

    seconds: float
    bytes: int


def answers(port: int, count: int, pause: float) -> list[Answer]:
    """Read /metrics again and again over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for _ in range(count):
        time.sleep(pause)
        began = time.perf_counter()
        connection.request("GET", "/metrics", headers=_HEADERS)
        body = connection.getresponse().read()
        found.append(Answer(time.perf_counter() - began, len(body)))
    connection.close()
    return found


def plain(port: int) -> bytes:
    """The page as text, not packed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    connection.close()
    return body


@contextlib.contextmanager
def prometheus(port: int, every: float, folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes the agent; gives its address."""
    folder.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    job = {"job_name": "agent", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    settings = {"global": {"scrape_interval": f"{every:g}s"}, "scrape_configs": [job]}
    file = folder / "prometheus.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with started(command, folder / "log"):
        yield address


def scrape_seconds(address: str, window: float) -> list[float]:
    """How long each scrape of the last ``window`` seconds took, by Prometheus's own account."""
    query = urllib.parse.urlencode({"query": f'scrape_duration_seconds{{job="agent"}}[{round(window)}s]'})
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", f"/api/v1/query?{query}")
    rows = json.load(connection.getresponse())["data"]["result"]
    connection.close()
    return [float(value) for row in rows for _, value in row["values"]]
