"""The measurements of a real GPU, on a driver of ours and with a model that only waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakenvml import Driver, build
from inferometer.sources import boottime
from inferometer.sources.recording import gpu_reading, read
from live import environment

ROOT = Path(__file__).parents[1]
NOT_SUPPORTED = 3


def bench(*arguments, **more):
    """``python -m bench.gpu``: exit code and report."""
    command = [sys.executable, "-m", "bench.gpu", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def driver(tmp_path):
    """A GPU that draws 350.5 W."""
    build(tmp_path)
    driver = Driver(tmp_path)
    driver[0].since = boottime()
    return driver


def test_a_machine_without_a_gpu(tmp_path):
    """One sentence and exit code 1; with a driver but no GPU likewise."""
    sentence = "No NVIDIA GPU to test: {}. Run this where nvidia-smi shows one.\n"
    said = bench("--out", tmp_path / "out", LD_LIBRARY_PATH=str(tmp_path))
    assert said == (1, sentence.format("libnvidia-ml.so.1 is not on this machine"))
    build(tmp_path)
    driver = Driver(tmp_path, gpus=0)
    said = bench("--out", tmp_path / "out", **driver.environ)
    assert said == (1, sentence.format("the NVIDIA driver shows no GPU to this user or container"))
    assert not (tmp_path / "out").exists()


def test_a_gpu_without_an_energy_counter(driver, tmp_path):
    driver[0].meters_energy = 0
    code, said = bench("--out", tmp_path / "out", "--calls", 2, **driver.environ)
    assert code == 1
    assert said.endswith("This GPU has no energy counter (code 3): there is nothing to check joules against.\n")


def test_the_agent_meters_what_the_counter_says(driver, tmp_path):
    """Call by call, the counter's tick, and two batch sizes that the agent meters to the token and the millijoule."""
    driver.fail("186", NOT_SUPPORTED)
    out = tmp_path / "out"
    flags = ("--pretend", "--calls", 5, "--idle", 1.5, "--seconds", 1, "--batches", 4, "--out", out)
    code, said = bench(*flags, **driver.environ)
    assert code == 0, said
    report = json.loads((out / "report.json").read_text())
    signals = {answer["signal"]: answer for answer in report["signals"]}
    assert signals["power (mW)"]["value"] == 350_500
    assert signals["power, instant, GPU (mW)"] == signals["power, instant, GPU (mW)"] | {"value": None, "code": 3}
    assert signals["energy, field 83 (mJ)"]["code"] == NOT_SUPPORTED
    assert 0 < signals["power (mW)"]["p50_microseconds"] <= signals["power (mW)"]["p99_microseconds"]
    assert report["idle"]["tick_seconds"] == pytest.approx(0.1, abs=0.03)
    assert report["idle"]["counter_joules"] == pytest.approx(350.5 * report["idle"]["seconds"], abs=80)
    shapes = [(phase["shape"]["name"], phase["shape"]["batch"]) for phase in report["phases"]]
    assert shapes == [("decode-heavy", 4), ("prefill-heavy", 4)]
    for phase in report["phases"]:
        agent = phase["agent"]
        assert phase["tokens"] == agent["tokens"] > 0
        assert agent["joules"] == pytest.approx(agent["counter_joules"], abs=0.002)
        assert agent["joules"] == pytest.approx(350.5 * (phase["working"]["seconds"] + 1.5), abs=700)
        assert agent["age_seconds"] < 3
    kinds = [row.kind for row in read(out / "recording")]
    assert {"metrics", "nvml"} == set(kinds)
    readings = [gpu_reading(row) for row in read(out / "recording") if row.kind == "nvml"]
    assert all(reading.gpus[0].power_watts == 350.5 for reading in readings)
