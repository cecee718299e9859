"""Who reads the pages: the agent, vmagent and Prometheus where they are installed, and a plain loop."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from bench.process import free_port


class Task(Struct, frozen=True):
    """What to read: URLs and how often. ``sink``: where to write; ``folder``: empty, on a disk, the subject's own.

    ``gpus``: as in the agent's configuration, or 0 for one an engine; ``dcgm``: the page of their exporter or '';
    ``workloads``: among how many the engines are shared out; ``settings``: laid over the agent's configuration;
    ``port``: the agent's /metrics.
    """

    urls: list[str]
    every: float
    sink: str
    folder: Path
    gpus: int | str = 0
    dcgm: str = ""
    workloads: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def hosts(self) -> list[str]:
        """Host and port of every target."""
        urls = [*self.urls, *([self.dcgm] if self.dcgm else [])]
        return [url.removeprefix("http://").removesuffix("/metrics") for url in urls]


Command = Callable[[Task], list[str]]


def agent(task: Task) -> list[str]:
    """The agent with a price, SLOs, windows and a ledger: everything that costs time is on."""
    settings: dict[str, Any] = {
        "interval": _duration(task.every),
        "workloads": [_workload(task, number) for number in range(task.workloads)],
        "prices": {"default": {"gpu_hour": 2.5}},
        "storage": {"path": str(task.folder / "ledger")},
        "web": {"listen_address": f"127.0.0.1:{task.port}"},
        "gpu": {"sources": ["dcgm"], "dcgm_url": task.dcgm} if task.dcgm else {"sources": ["nvml"]},
    }
    file = _written(task.folder / "inferometer.yaml", {**settings, **task.settings})
    return [sys.executable, "-m", "inferometer", "run", f"--config.file={file}"]


def vmagent(task: Task) -> list[str]:
    """One vmagent; what it reads it sends on to a server that forgets it, so parsing, compressing, sending are real."""
    return [
        _path("vmagent"),
        f"-promscrape.config={_written(task.folder / 'scrape.yaml', _scrape(task))}",
        f"-remoteWrite.url={task.sink}/api/v1/write",
        f"-remoteWrite.tmpDataPath={task.folder / 'queue'}",
        f"-httpListenAddr=127.0.0.1:{free_port()}",
        "-loggerLevel=WARN",
    ]


def prometheus(task: Task) -> list[str]:
    """A Prometheus server that stores what it reads on disk."""
    return [
        _path("prometheus"),
        f"--config.file={_written(task.folder / 'prometheus.yaml', _scrape(task))}",
        f"--storage.tsdb.path={task.folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{free_port()}",
        "--log.level=warn",
    ]


def loop(task: Task) -> list[str]:
    """What anybody would write first: aiohttp and prometheus_client's parser."""
    return [sys.executable, "-m", "bench.loop", str(task.every), *task.urls]


AGENT, LOOP = "agent", "loop"
SUBJECTS: dict[str, Command] = {AGENT: agent, "vmagent": vmagent, "prometheus": prometheus, LOOP: loop}
_NAMES = {
    AGENT: "inferometer",
    "vmagent": "vmagent {version}",
    "prometheus": "Prometheus {version}",
    LOOP: "aiohttp and prometheus_client",
}


def installed() -> list[str]:
    """The subjects that this machine has, the agent first."""
    return [name for name in SUBJECTS if name in {AGENT, LOOP} or shutil.which(name)]


def title(name: str) -> str:
    """How a subject is called in a table, with its version where it is not ours."""
    if "{version}" not in _NAMES[name]:
        return _NAMES[name]
    # Debian's vmagent does not say.
    said = _said(_path(name), "--version") + _said("dpkg-query", "--show", "victoria-metrics")
    found = re.search(r"\d+\.\d+\.\d+", said)
    return _NAMES[name].format(version=found[0] if found else "of unknown version")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  as installed
    except OSError:
        return ""
    return done.stdout + done.stderr


def _workload(task: Task, number: int) -> dict[str, Any]:
    urls = task.urls[number :: task.workloads]
    return {
        "name": f"bench-{number}",
        "engines": [{"url": url} for url in urls],
        "gpus": task.gpus or len(urls),
        "slo": {"ttft": "500ms", "tpot": "50ms", "e2e": "10s"},
    }


def _scrape(task: Task) -> dict[str, Any]:
    job = {"job_name": "bench", "static_configs": [{"targets": task.hosts}]}
    every = _duration(task.every)
    return {"global": {"scrape_interval": every, "scrape_timeout": every}, "scrape_configs": [job]}


def _written(file: Path, settings: Mapping[str, Any]) -> Path:
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return file


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _path(name: str) -> str:
    return shutil.which(name) or name
