"""A real Prometheus, Alertmanager and webhook receiver for tests; everything on loopback, ended with the block."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import yaml
from live import Scoped, eventually, fetch, free_port

PROMETHEUS, ALERTMANAGER = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")


def here(*programs):
    """Whether programs are installed; in CI they have to be, and what needs them fails without."""
    return os.environ.get("CI") == "true" or all(map(shutil.which, programs))


class Program(Scoped):
    """A program with an HTTP address, as a child; its output goes to ``folder``/log."""

    HEALTHY = "/-/ready"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"

    def command(self):
        """The command line."""
        raise NotImplementedError

    def begin(self):
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        eventually(self._answers, f"{type(self).__name__} on {self.url}")

    def end(self):
        """SIGTERM, and wait."""
        self.process.terminate()
        self.process.wait(30)

    def _answers(self):
        said = (self.folder / "log").read_text(errors="replace")
        assert self.process.poll() is None, said[-3000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            return fetch(self.url + self.HEALTHY)[0] == 200
        return False


class Prometheus(Program):
    """A Prometheus that scrapes ``targets`` (address by workload or name) every ``every``, with ``rules``."""

    def __init__(self, folder, targets, rules="", alertmanager="", every="1s"):
        super().__init__(folder)
        scrape = [{"targets": [address], "labels": {"cluster": "test", "namespace": "llm"}} for address in targets]
        settings = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yaml"] if rules else [],
            "scrape_configs": [{"job_name": "inferometer", "static_configs": scrape}] if scrape else [],
        }
        if alertmanager:
            settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (self.folder / "rules.yaml").write_text(rules)
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))

    @property
    def data(self):
        """Where its blocks are."""
        return self.folder / "data"

    def command(self):
        """Blocks that lie there already are kept, however old."""
        return [
            PROMETHEUS,
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.data}",
            "--storage.tsdb.retention.time=100d",
            f"--web.listen-address={self.address}",
            "--log.level=error",
        ]

    def ask(self, path, **query):
        """The data of an API call; AssertionError with what it says where it refuses."""
        status, text = fetch(f"{self.url}/api/v1/{path}", "POST", urlencode(query), 60.0, FORM)
        assert status == 200, f"{query}: {text[:500]}"
        return json.loads(text)["data"]

    def vector(self, expr, at=None):
        """An instant query's samples as (labels, value)."""
        found = self.ask("query", query=expr, **({} if at is None else {"time": at}))
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(row["metric"], float(row["value"][1])) for row in found["result"]]

    def matrix(self, selector, at):
        """The raw samples of a range selector as (labels, [(time, value)])."""
        rows = self.ask("query", query=selector, time=at)["result"]
        return [(row["metric"], [(float(t), float(v)) for t, v in row["values"]]) for row in rows]

    def series(self, expr, start, end, step):
        """A range query's rows."""
        return self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Alertmanager(Program):
    """An Alertmanager that tells one webhook at once."""

    def __init__(self, folder, webhook):
        super().__init__(folder)
        route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        receiver = {"name": "hook", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
        settings = {"route": route | {"repeat_interval": "1h"}, "receivers": [receiver]}
        (self.folder / "alertmanager.yaml").write_text(yaml.safe_dump(settings))

    def command(self):
        """No cluster: it would listen on all addresses."""
        return [
            ALERTMANAGER,
            f"--config.file={self.folder / 'alertmanager.yaml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]


class Webhook(Scoped):
    """Takes what Alertmanager sends: ``alerts`` is every alert as it came."""

    def __init__(self):
        self.alerts = []
        handler = type("Handler", (_Receiver,), {"hook": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def begin(self):
        """Listen."""
        self._thread.start()

    def end(self):
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def names(self, **labels):
        """The alerts that fired with these labels, by name."""
        fired = [alert for alert in self.alerts if alert["status"] == "firing"]
        return {alert["labels"]["alertname"] for alert in fired if labels.items() <= alert["labels"].items()}


class _Receiver(BaseHTTPRequestHandler):
    hook: Webhook

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hook.alerts += json.loads(body)["alerts"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Not on the test's output."""


def rate(samples, start, end):
    """What ``rate`` of Prometheus is over the samples of one counter in a window, by its documentation.

    The increase between first and last sample, resets handled, extrapolated to the window's edges where they are
    within 1.1 mean distances of a sample, else by half a distance, and never below zero. None with fewer than two.
    """
    if len(samples) < 2:
        return None
    samples = [(round(1000 * at), value) for at, value in samples]  # whole milliseconds, as Prometheus keeps them
    start, end = round(1000 * start), round(1000 * end)
    increase = samples[-1][1] - samples[0][1]
    increase += sum(before for (_, before), (_, after) in itertools.pairwise(samples) if after < before)
    sampled = samples[-1][0] - samples[0][0]
    distance = sampled / (len(samples) - 1)
    to_start, to_end = samples[0][0] - start, end - samples[-1][0]
    if increase > 0 and samples[0][1] >= 0:
        to_start = min(to_start, sampled * samples[0][1] / increase)
    stretched = sampled
    for gap in (to_start, to_end):
        stretched += gap if gap < 1.1 * distance else distance / 2
    return increase * stretched / sampled / (end - start) * 1000
