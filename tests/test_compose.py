"""The compose example: what it mounts is there, its parts take their configuration, all dashboards and rules are in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from observed import here

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "examples" / "docker-compose.yaml"
PARTS = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def mounts(part):
    """Files and folders of ours by their path in the container."""
    pairs = (volume.split(":")[:2] for volume in PARTS[part].get("volumes", ()))
    return {inside: (COMPOSE.parent / outside).resolve() for outside, inside in pairs if outside.startswith(".")}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_mounted_is_there(part):
    assert all(path.exists() for path in mounts(part).values())
    assert all(port.startswith("127.0.0.1:") for port in PARTS[part]["ports"]), "an example listens on loopback only"


def test_all_rules_and_dashboards_are_in():
    rules = {path for inside, path in mounts("prometheus").items() if "/rules/" in inside}
    assert rules == {path.resolve() for path in (ROOT / "dashboards" / "rules").glob("*.yaml")}
    boards = {path for inside, path in mounts("grafana").items() if inside.endswith(".json")}
    assert boards == {path.resolve() for path in (ROOT / "dashboards").glob("*.json")}


def test_grafana_finds_its_source_and_its_dashboards():
    provisioning = mounts("grafana")["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "inferometer.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert all(inside.startswith(folder) for inside in mounts("grafana") if inside.endswith(".json"))


@pytest.mark.skipif(not here("promtool"), reason="promtool is not installed: make tools")
def test_prometheus_takes_its_configuration(tmp_path):
    """With the paths of the container moved here."""
    text = mounts("prometheus")["/etc/prometheus/prometheus.yaml"].read_text()
    (tmp_path / "prometheus.yaml").write_text(text.replace("/etc/prometheus/rules", str(ROOT / "dashboards" / "rules")))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    targets = yaml.safe_load(text)["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"agent:{PARTS['agent']['ports'][0].rpartition(':')[2]}"]


@pytest.mark.skipif(not here("amtool"), reason="amtool is not installed: make tools-observability")
def test_alertmanager_takes_its_configuration_and_routes_by_severity():
    file = f"--config.file={mounts('alertmanager')['/etc/alertmanager/alertmanager.yaml']}"
    check = ["amtool", "check-config", file.partition("=")[2]]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    for severity, receiver in (("critical", "pager"), ("warning", "tickets"), ("info", "nobody")):
        route = ["amtool", "config", "routes", "test", file, f"severity={severity}"]
        assert subprocess.run(route, capture_output=True, text=True, check=True).stdout.strip() == receiver
