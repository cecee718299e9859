"""The same rules on VictoriaMetrics: vmalert takes every one, records the same values and wakes the same people."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from inferometer import config
from inferometer.app.rules import document
from live import Agent, eventually
from observed import Alertmanager, Program, Prometheus, Webhook, here

ROOT = Path(__file__).parents[1]
RULES = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
VMALERT, VICTORIA = shutil.which("vmalert"), shutil.which("victoria-metrics")
SCALE = 60.0

pytestmark = pytest.mark.skipif(not here("vmalert", "victoria-metrics"), reason="missing: make tools-observability")
LONG = pytest.mark.skipif("INFEROMETER_LONG" not in os.environ, reason="takes minutes: make check-all")


class Victoria(Program):
    """A VictoriaMetrics that scrapes ``targets`` every second; answers what Prometheus answers."""

    HEALTHY = "/health"
    ask, vector, matrix = Prometheus.ask, Prometheus.vector, Prometheus.matrix

    def __init__(self, folder, targets):
        super().__init__(folder)
        group = {"targets": targets, "labels": {"cluster": "test", "namespace": "llm"}}
        job = {"job_name": "inferometer", "static_configs": [group]}
        settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
        (self.folder / "scrape.yaml").write_text(yaml.safe_dump(settings))

    def command(self):
        """No delay before what was scraped can be asked for."""
        return [
            VICTORIA,
            f"-httpListenAddr={self.address}",
            f"-storageDataPath={self.folder / 'data'}",
            f"-promscrape.config={self.folder / 'scrape.yaml'}",
            "-search.latencyOffset=0s",
            "-loggerLevel=ERROR",
        ]


class Vmalert(Program):
    """vmalert on one rule file."""

    HEALTHY = "/health"

    def __init__(self, folder, rules, victoria, alertmanager):
        super().__init__(folder)
        self._victoria, self._alertmanager = victoria, alertmanager
        (self.folder / "rules.yaml").write_text(rules)

    def command(self):
        """Recorded series go back into the same database."""
        return [
            VMALERT,
            f"-httpListenAddr={self.address}",
            f"-rule={self.folder / 'rules.yaml'}",
            f"-datasource.url={self._victoria.url}",
            f"-remoteWrite.url={self._victoria.url}",
            f"-notifier.url={self._alertmanager.url}",
            "-remoteWrite.flushInterval=100ms",
            "-loggerLevel=ERROR",
        ]


def test_vmalert_takes_every_rule():
    said = subprocess.run(
        [VMALERT, "-dryRun", *(f"-rule={path}" for path in RULES)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


@LONG
@pytest.mark.skipif(not here("prometheus-alertmanager"), reason="missing: make tools-observability")
def test_a_breach_reaches_the_receiver_by_way_of_vmalert(tmp_path):
    """A demo whose requests are all too slow: recorded by vmalert, and told within seconds."""
    (tmp_path / "config.yaml").write_text(
        "prices: {default: {gpu_hour: 2.50}}\n"
        'workloads: [{name: bad, engines: [{url: "http://a/metrics"}], slo: {ttft: 1ms}, '
        "budget: {amount: 24, period: day}}]\n"
    )
    rules = document.text(document.own(config.load(str(tmp_path / "config.yaml"), {}, {})), SCALE)
    flags = ("--workload", "bad", "--engines", "1", "--load", "0.7", "--slo.ttft", "1ms")
    with (
        Agent(tmp_path / "demo.log", *flags, command="demo") as agent,
        Webhook() as hook,
        Alertmanager(tmp_path / "alertmanager", hook.url) as alertmanager,
        Victoria(tmp_path / "victoria", [agent.url.removeprefix("http://")]) as victoria,
        Vmalert(tmp_path / "vmalert", rules, victoria, alertmanager),
    ):
        eventually(lambda: "InferometerGoodputBurnsFast" in hook.names(workload="bad"), "the page", 90.0)
        eventually(lambda: "InferometerBudgetBurns" in hook.names(workload="bad"), "the ticket", 90.0)
        time.sleep(2)
        recorded = {labels["__name__"] for labels, _ in victoria.vector('{__name__=~"workload.*rate5m"}')}
        wanted = {name for name in re.findall(r"record: (workload\S+:rate5m)", rules) if "carbon" not in name}
        assert wanted - recorded == set()
