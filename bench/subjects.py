"""Who reads the pages: the agent, a plain loop, and Prometheus where it is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Command = Callable[[Sequence[str], Path], list[str]]
"""From the engines' URLs and an empty folder to a command line."""

AGENT, LOOP, PROMETHEUS = "inferometer run", "plain loop", "Prometheus"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def agent(urls: Sequence[str], folder: Path, port: int | None = None, gpus: int | str | None = None) -> list[str]:
    """The agent with a price, SLOs, windows and a ledger on disk; ``gpus`` as in its configuration (one an engine)."""
    workload = {
        "name": "bench",
        "engines": [{"url": url} for url in urls],
        "gpus": len(urls) if gpus is None else gpus,
        "slo": {"ttft": "500ms", "tpot": "50ms", "e2e": "10s"},
    }
    settings = {
        "interval": "1s",
        "workloads": [workload],
        "prices": {"default": {"gpu_hour": 2.5}},
        "storage": {"path": str(folder / "ledger")},
        "web": {"listen_address": f"127.0.0.1:{port or free_port()}"},
    }
    file = folder / "inferometer.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return [sys.executable, "-m", "inferometer", "run", f"--config.file={file}"]


def loop(urls: Sequence[str], _: Path) -> list[str]:
    """What anybody would write first: aiohttp and prometheus_client's parser."""
    return [sys.executable, "-m", "bench.loop", *urls]


def prometheus(urls: Sequence[str], folder: Path) -> list[str]:
    """A Prometheus server that scrapes and stores the same pages."""
    hosts = [url.removeprefix("http://").removesuffix("/metrics") for url in urls]
    job = {"job_name": "bench", "static_configs": [{"targets": hosts}]}
    file = folder / "prometheus.yaml"
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    file.write_text(json.dumps(settings), encoding="utf-8")
    return [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{free_port()}",
        "--log.level=warn",
    ]


def installed() -> dict[str, Command]:
    """All subjects that this machine has, the agent first."""
    found: dict[str, Command] = {AGENT: agent, LOOP: loop}
    if shutil.which("prometheus"):
        found[PROMETHEUS] = prometheus
    return found


def prometheus_version() -> str:
    """As it says itself, e.g. 2.42.0."""
    path = shutil.which("prometheus") or "prometheus"
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)  # noqa: S603  as installed
    return (said.stdout or said.stderr).split("version ")[1].split(",")[0].split("+")[0]
