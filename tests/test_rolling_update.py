"""A rolling update with the agent as sidecar, seen by a real Prometheus: what it adds up is what the engines did."""

import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest
from live import Agent, Clients, Engines, Page, eventually, fetch, free_port

SCRAPE_SECONDS = 1.0
OUTPUT = 'inferometer_tokens_total{type="output",workload="llm/chat"}'


@contextmanager
def prometheus(tmp_path):
    """Scrapes what stands in targets.json; yields its URL."""
    port, config = free_port(), tmp_path / "prometheus.yaml"
    job = {
        "job_name": "sidecars",
        "file_sd_configs": [{"files": [str(tmp_path / "targets.json")], "refresh_interval": "1s"}],
    }
    timing = {"scrape_interval": "1s", "scrape_timeout": "900ms"}
    config.write_text(json.dumps({"global": timing, "scrape_configs": [job]}))
    (tmp_path / "targets.json").write_text("[]")
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url), "Prometheus")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(url):
    try:
        return fetch(f"{url}/-/ready")[0] == 200
    except OSError:
        return False


def asked(url, query):
    """The result of an instant query."""
    quoted = "".join(letter if letter.isalnum() else f"%{ord(letter):02X}" for letter in query)
    return json.loads(fetch(f"{url}/api/v1/query?query={quoted}")[1])["data"]["result"]


def scraped(tmp_path, **agents):
    """From now on these pods are there."""
    targets = [
        {"targets": [agent.url.removeprefix("http://")], "labels": {"pod": pod}} for pod, agent in agents.items()
    ]
    fresh = tmp_path / "targets.new"
    fresh.write_text(json.dumps(targets))
    fresh.rename(tmp_path / "targets.json")


def generated(engine):
    return Page(fetch(engine.urls[0])[1]).sum("vllm:generation_tokens_total") or 0


def sidecar(tmp_path, name, url):
    flags = ["--engine.url", url, "--workload", "llm/chat", "--interval", "500ms", "--gpus", "1"]
    return Agent(tmp_path / f"{name}.log", *flags, "--storage.path", tmp_path / name)


def shown(url, pod):
    """Time and value of every sample of a pod's output tokens."""
    found = asked(url, OUTPUT.replace("}", f',pod="{pod}"}}') + "[10m]")
    return [(at, float(value)) for series in found for at, value in series["values"]]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: make tools installs it")
def test_increase_over_a_rolling_update_is_the_truth(tmp_path):
    """The new pod serves beside the old one, the old one drains and goes.

    Last − first sample is exact; increase(), which extrapolates, is off by at most what one scrape interval made.
    """
    port, truth = free_port(), {}
    with (
        prometheus(tmp_path) as url,
        Engines(tmp_path / "a-engine.log") as old,
        sidecar(tmp_path, "a", old.urls[0]) as first,
        Clients(old.urls[0], 3, 1) as served,
    ):
        scraped(tmp_path, a=first)
        eventually(lambda: shown(url, "a"), "the first sample")
        served.start()
        time.sleep(4)
        with (
            sidecar(
                tmp_path, "b", f"http://127.0.0.1:{port}/metrics"
            ) as second,  # before its engine, as Kubernetes does
            Engines(tmp_path / "b-engine.log", 1, 0.0, "--port", port) as new,
            Clients(new.urls[0], 3, 2) as serving,
        ):
            scraped(tmp_path, a=first, b=second)
            eventually(lambda: shown(url, "b"), "a sample of the new pod")
            serving.start()
            time.sleep(2)
            served.stop()  # the old pod has drained
            finish(url, old, "a", truth)
            old.kill()
            assert first.stop() == 0
            scraped(tmp_path, b=second)
            time.sleep(4)
            serving.stop()
            finish(url, new, "b", truth)
            counted = {pod: shown(url, pod) for pod in "ab"}
            (total,) = asked(url, f"sum(increase({OUTPUT}[10m]))")
    assert {pod: samples[-1][1] - samples[0][1] for pod, samples in counted.items()} == truth
    assert sum(truth.values()) > 500
    most = sum(max(after - before for before, after in steps(samples)) for samples in counted.values())
    off = float(total["value"][1]) - sum(truth.values())
    print(f"truth {sum(truth.values()):g}, increase() off by {off:+.1f}, one scrape interval {most:g}")  # noqa: T201
    assert abs(off) <= most


def steps(samples):
    values = [value for _, value in samples]
    return itertools.pairwise(values)


def finish(url, engine, pod, truth):
    """Wait until the last page of an engine that does nothing more is in Prometheus."""
    eventually(lambda: generated(engine) == shown(url, pod)[-1][1], f"all of {pod} in Prometheus")
    truth[pod] = generated(engine)
