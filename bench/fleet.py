"""``python -m bench.fleet``: 200 agents' pages, two Prometheus servers with our rules, and one that federates them.

Says how long the rules take to evaluate, how many series an agent and its rules make, and whether the sums above are
the sums below. The pages are served by one process: tests/golden/metrics.txt with another workload for each agent,
whose counters rise with time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench import machine
from bench.process import free_port, started, usage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "tests" / "golden" / "metrics.txt"
RULES = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
SCRAPE_SECONDS = 15
_RISES = re.compile(r"^(\w+(?:_total|_bucket|_count|_sum)(?:\{.*\})?) (\S+)$", re.MULTILINE)
_FEDERATED = '{__name__=~"inferometer_.*"}'


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=420.0, help="how long before anything is read")
    options = parser.parse_args(argv)
    if shutil.which("prometheus") is None:
        sys.stdout.write("Prometheus is not installed: make tools-observability\n")
        return 0
    with tempfile.TemporaryDirectory() as folder, _pages(options.agents) as port:
        sys.stdout.write(f"{machine.described()}\n" + "\n".join(_measured(Path(folder), port, options)) + "\n")
    return 0


def _measured(folder: Path, port: int, options: argparse.Namespace) -> list[str]:
    agents, half = options.agents, options.agents // 2
    with ExitStack() as children:
        leaves = []
        for name, numbers in (("a", range(half)), ("b", range(half, agents))):
            jobs = [_job(port, number) for number in numbers]
            leaves.append(_server(children, folder / name, name, jobs))
        federate = {
            "job_name": "federate",
            "honor_labels": True,
            "metrics_path": "/federate",
            "params": {"match[]": [_FEDERATED]},
            "static_configs": [{"targets": [address for address, _ in leaves]}],
        }
        above = _server(children, folder / "global", "global", [federate])
        time.sleep(options.seconds)
        heads = (("series", 20), ("per agent", 11), ("recorded", 10), ("rules, s", 10), ("cores", 12), ("MB", 12))
        rows = ["".join(f"{name:>{width}}" for name, width in heads)]
        servers = (("leaf a", leaves[0], half), ("leaf b", leaves[1], agents - half), ("global", above, agents))
        rows += [_row(name, *server, count, options.seconds) for name, server, count in servers]
        below = sum(_value(address, "sum (workload:inferometer_tokens:rate5m)") for address, _ in leaves)
        over = _value(above[0], "sum (workload:inferometer_tokens:rate5m)")
        rows += [f"  {group:<40} {seconds:.2f} s" for group, seconds in _slowest(above[0])]
        return [*rows, f"tokens per second: the leaves' sums {below:.1f}, the rules above {over:.1f}"]


def _slowest(address: str) -> list[tuple[str, float]]:
    """The three groups whose last evaluation took longest."""
    rows = _rows(address, "topk(3, prometheus_rule_group_last_duration_seconds)")
    return [(row["metric"]["rule_group"].rpartition(";")[2], float(row["value"][1])) for row in rows]


def _row(name: str, address: str, pid: int, agents: int, seconds: float) -> str:
    exported = _value(address, 'count ({__name__=~"inferometer_.*"})')
    recorded = _value(address, 'count ({__name__=~"(workload|slo).*:.*"})')
    took = _value(address, "sum (prometheus_rule_group_last_duration_seconds)")
    used = usage(pid)
    cores, memory = used.cpu_seconds / seconds, used.resident_bytes / 1e6
    figures = f"{exported:>10.0f}{exported / agents:>11.0f}{recorded / agents:>10.0f}"
    return f"{name:<10}{figures}{took:>10.2f}{cores:>12.2f}{memory:>12.0f}"


def _job(port: int, number: int) -> dict[str, Any]:
    return {
        "job_name": f"agent-{number}",
        "metrics_path": f"/{number}",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": f"agent-{number}"}}],
    }


def _server(children: ExitStack, folder: Path, name: str, jobs: list[dict[str, Any]]) -> tuple[str, int]:
    """A Prometheus with our rules that also scrapes itself; its address and process."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    itself = {"job_name": "itself", "static_configs": [{"targets": [address]}]}
    times = {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "30s"}
    settings = {
        "global": times | {"external_labels": {"prometheus": name}},
        "rule_files": [str(path) for path in RULES],
        "scrape_configs": [itself, *jobs],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(settings), encoding="utf-8")
    command = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    return address, children.enter_context(started(command, folder / "log")).pid


def _value(address: str, expr: str) -> float:
    """An instant query's only value; 0 where there is none."""
    rows = _rows(address, expr)
    return float(rows[0]["value"][1]) if rows else 0.0


def _rows(address: str, expr: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", f"/api/v1/query?query={urllib.parse.quote(expr)}")
    rows: list[dict[str, Any]] = json.load(connection.getresponse())["data"]["result"]
    connection.close()
    return rows


class _pages:  # noqa: N801  a context manager, called like a function
    """Serves every agent's page on loopback; gives the port."""

    def __init__(self, agents: int) -> None:
        template, began = PAGE.read_text(encoding="utf-8"), time.monotonic()
        pages = [template.replace('workload="chat"', f'workload="w{n}"') for n in range(agents)]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = _risen(pages[int(self.path[1:])], time.monotonic() - began).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not on the output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _risen(page: str, seconds: float) -> str:
    """The page after a while: every counter has risen by a hundredth of itself each second."""
    return _RISES.sub(lambda line: f"{line[1]} {float(line[2]) * (1 + seconds / 100):.6f}", page)


if __name__ == "__main__":
    sys.exit(main())
