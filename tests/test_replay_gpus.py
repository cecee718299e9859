"""GPUs in a recording: pages of dcgm-exporter and readings of the driver, through the whole pipeline into totals."""

import asyncio
import gzip
import re
from pathlib import Path

import pytest
from inferometer import config
from inferometer.app.replay import replay
from inferometer.model import Gpu, GpuReading
from inferometer.sources.recording import Writer, gpu_body

PAGE = gzip.decompress((Path(__file__).parent / "pages" / "dcgm-exporter-mig.prom.gz").read_bytes())
T = 1_800_000_000.0
POWER = {"GPU-6513": 433.78, "GPU-d23f": 372.48, "GPU-9531": 629.447}  # the first row of each
NODE = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NODE_NAME": "gpu-node-07"}
CONFIG = """
interval: 5s
gpu: {sources: [dcgm], dcgm_url: "recording:node"}
workloads:
  - {name: mistral, engines: [{url: "recording:vllm", pod: llm-prod/vllm-mistral-7b-6b5d9c7f8-2wq8r}]}
  - {name: phi, engines: [{url: "recording:phi", pod: team-b/vllm-phi-4-mini-7c4f6d9b8-hh5xd}]}
  - {name: qwen, engines: [{url: "recording:qwen", pod: llm-prod/vllm-qwen3-8b-7f6d5c4b9-k4m2t}]}
prices: {default: {gpu_hour: 3.60}}
"""


def later(seconds):
    """The page after so many seconds of the power that it shows, on every row of its energy counter."""

    def moved(match):
        milliwatts = 1000 * next(watts for gpu, watts in POWER.items() if gpu in match[1])
        return f"{match[1]}{int(match[2]) + round(milliwatts * seconds)}".encode()

    def row(match):
        return moved([None, match[1].decode(), match[2].decode()])

    return re.sub(rb"(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION\{[^}]*\} )(\d+)", row, PAGE)


@pytest.fixture
def node(tmp_path):
    """A minute of a node with three GPUs, two of them cut, read every 5 s; three engines that never answer."""
    with Writer(tmp_path / "recording") as writer:
        for n in range(13):
            writer.write(T + 5 * n, "node", "metrics", "200", later(5 * n))
            for engine in ("vllm", "phi", "qwen"):
                writer.write(T + 5 * n, engine, "metrics", "refused", b"")
    return tmp_path / "recording"


def settled(folder, text, tmp_path, environ=None):
    file = tmp_path / "inferometer.yaml"
    file.write_text(text)
    return asyncio.run(replay(folder, config.load(str(file), {}, {}), environ or {}))


def sums(snapshot, name, place=0):
    found = {}
    for (metric, labels), value in snapshot.totals.items():
        if metric == f"inferometer_{name}_total":
            found[labels[place]] = found.get(labels[place], 0.0) + value
    return found


def test_each_device_once_and_its_instances_add_up(node, tmp_path):
    """1,435.7 W in total, not the 3,854.7 W of all rows; by pods to workloads, what has no workload to nobody."""
    snapshot = settled(node, CONFIG, tmp_path, NODE)
    assert sum(gpu.power_watts for gpu in snapshot.gpus) == pytest.approx(1_435.707)
    joules = sums(snapshot, "energy_joules")
    assert sum(joules.values()) == pytest.approx(60 * 1_435.707, rel=1e-6)
    # Slices 3g, 2g, 1g, 1g block 1/2 + 2/7 + 1/7 + 1/7 = 15/14 of a GPU; before there is a floor nothing is active.
    assert joules["mistral"] == pytest.approx(60 * 433.78 * (1 / 2) / (15 / 14), rel=1e-6)
    assert joules["phi"] == pytest.approx(60 * 433.78 * (2 / 7) / (15 / 14), rel=1e-6)
    assert joules["qwen"] == pytest.approx(60 * 629.447, rel=1e-6)
    held = sums(snapshot, "gpu_seconds")
    assert sum(held.values()) == pytest.approx(3 * 60)
    assert sum(sums(snapshot, "cost").values()) == pytest.approx(3 * 60 * 3.60 / 3600)
    assert held["mistral"] == pytest.approx(60 * 7 / 15)


def test_active_joules_go_by_measured_activity(node, tmp_path):
    """With a floor of 70 W: instance 2 of GPU 0 is 91 % active, 3 is 64 %, 9 is 22 %, 10 not at all."""
    text = CONFIG.replace("sources: [dcgm]", "sources: [dcgm], idle_watts: 70")
    snapshot = settled(node, text, tmp_path, NODE)
    loads = {"mistral": 0.91 * 7 / 15, "phi": 0.64 * 4 / 15, "nobody": 0.22 * 2 / 15}
    active = {
        labels[0]: value
        for (name, labels), value in snapshot.totals.items()
        if name == "inferometer_energy_joules_total" and labels[2] == "active"
    }
    for workload in ("mistral", "phi"):
        share = loads[workload] / sum(loads.values())
        assert active[workload] == pytest.approx(60 * (433.78 - 70) * share, rel=1e-6)
    assert sum(sums(snapshot, "energy_joules").values()) == pytest.approx(60 * 1_435.707, rel=1e-6)


def test_a_sidecar_takes_its_own_slice_alone(node, tmp_path):
    own = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "team-b"}
    text = "\n".join(line for line in CONFIG.splitlines() if "mistral" not in line and "qwen" not in line)
    text = text.replace(", pod: team-b/vllm-phi-4-mini-7c4f6d9b8-hh5xd", "")
    snapshot = settled(node, text, tmp_path, own | {"POD_NAME": "vllm-phi-4-mini-7c4f6d9b8-hh5xd"})
    assert sums(snapshot, "gpu_seconds") == {"phi": pytest.approx(60 * 4 / 15)}
    assert sums(snapshot, "energy_joules") == {"phi": pytest.approx(60 * 433.78 * 4 / 15, rel=1e-6)}


def test_rows_of_the_driver_are_replayed(tmp_path):
    """Ten seconds of 300 W, with a reading that failed in between."""
    with Writer(tmp_path / "recording") as writer:
        for n in range(11):
            gpus = (Gpu("GPU-0", 0, energy_joules=300.0 * n, power_watts=300.0),)
            reading = GpuReading("nvml", T + n, gpus=gpus) if n != 5 else GpuReading("nvml", T + n, "timeout")
            writer.write(T + n, "nvml", "nvml", "200" if n != 5 else "timeout", gpu_body(reading))
    snapshot = settled(tmp_path / "recording", "workloads: [{name: a}]\n", tmp_path)
    assert sums(snapshot, "energy_joules") == {"a": pytest.approx(3_000)}
    assert snapshot.values["inferometer_gpu_share_ratio", ("a", "GPU-0", "", "exclusive")] == 1
    assert snapshot.values["inferometer_energy_coverage_ratio", ("a", "1m")] == pytest.approx(1)
