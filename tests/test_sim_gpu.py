"""The real pynvml reads simulated GPUs as it reads real ones."""

from __future__ import annotations

import threading

import pynvml
import pytest
from inferometer.sim.driver import Nvml
from inferometer.sim.gpu import FULL_WATTS, IDLE_WATTS, Card
from inferometer.sources import nvml


class Bench:
    """A clock and a load that a test sets by hand."""

    def __init__(self):
        self.at, self.loads = 1000.0, [0.0, 0.0]
        self.library = Nvml(2, lambda index: self.loads[index], lambda: self.at)


@pytest.fixture
def bench(monkeypatch):
    """The real pynvml on two simulated GPUs, initialised."""
    bench = Bench()
    monkeypatch.setattr(pynvml, "nvmlLib", bench.library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    pynvml.nvmlInit()
    yield bench
    bench.library.resume()
    pynvml.nvmlShutdown()


def test_pynvml_reads_a_card(bench):
    """Each call that a reader makes goes through the real pynvml and comes back with a card's value."""
    assert pynvml.nvmlDeviceGetCount() == 2
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
    assert len({pynvml.nvmlDeviceGetUUID(h) for h in handles}) == 2
    bench.loads[1] = 1.0
    card = handles[1]
    assert pynvml.nvmlDeviceGetName(card) == "NVIDIA H100 80GB HBM3"
    assert pynvml.nvmlDeviceGetPowerUsage(card) == 700_000
    assert pynvml.nvmlDeviceGetPowerUsage(handles[0]) == 72_000
    assert pynvml.nvmlDeviceGetUtilizationRates(card).gpu == 100
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(card) == 700_000
    for version in (None, pynvml.nvmlMemory_v2):
        memory = pynvml.nvmlDeviceGetMemoryInfo(card, version)
        assert memory.used + memory.free == memory.total == 81559 * 2**20
    cool = pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU)
    bench.at += 300
    assert pynvml.nvmlDeviceGetTemperatureV(card, pynvml.NVML_TEMPERATURE_GPU) > cool + 30
    assert pynvml.nvmlSystemGetDriverVersion().startswith("570.")
    assert pynvml.nvmlErrorString(pynvml.NVML_ERROR_GPU_IS_LOST) == "GPU is lost"


def test_the_agent_finds_every_signal_of_a_card(bench):
    """What the demo shows looks like a real card's: nothing is missing but instances and errors."""
    reader = nvml.Nvml(lambda: bench.at, bench.library)
    bench.loads[:] = (0.5, 1.0)
    reader.read()
    bench.at += 10
    reading = reader.read()
    half, full = reading.gpus
    missing = {name for gpu in reading.gpus for name in gpu.__struct_fields__ if getattr(gpu, name) is None}
    assert (reading.error, missing, half.instances, half.xids) == ("", set(), (), {})
    assert (half.activity_ratio, full.activity_ratio) == (pytest.approx(0.5), pytest.approx(1.0))
    assert half.tensor_active_ratio == pytest.approx(0.21)
    assert (half.sm_clock_hertz, full.sm_clock_hertz) == (1980e6, 1755e6)
    assert (half.throttle_seconds["power"], full.throttle_seconds["power"]) == (0, 10)
    assert (full.pcie_rx_bytes, full.ecc_errors, full.power_scope) == (3.1e9, 0, "gpu")
    assert bench.library.profiler.samples == 4
    reader.close()
    assert bench.library.profiler.samples == 0


def test_energy_is_the_integral_of_power(bench):
    """Over any load, the counter is Σ power × time up to the last tick of 100 ms, in whole millijoules."""
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    expected = 0.0
    for load, seconds in ((0.0, 2.5), (1.0, 0.7), (0.25, 10.0), (0.5, 0.3)):
        bench.loads[0] = load
        watts = pynvml.nvmlDeviceGetPowerUsage(card) / 1000
        assert watts == pytest.approx(IDLE_WATTS + (FULL_WATTS - IDLE_WATTS) * load)
        bench.at += seconds
        expected += watts * seconds
        assert pynvml.nvmlDeviceGetTotalEnergyConsumption(card) == pytest.approx(1000 * expected, abs=1)
    bench.at += 0.09
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(card) == pytest.approx(1000 * expected, abs=1), "no tick yet"
    bench.at += 0.02
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(card) == pytest.approx(1000 * (expected + 0.1 * watts), abs=1)


def test_faults_are_the_errors_of_a_real_driver(bench):
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    bench.at += 10
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(card) == 720_000
    bench.library.cards[0].reset_energy()
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(card) == 0
    bench.library.cards[0].meters_energy = False
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    bench.library.cards[0].lost = True
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetPowerUsage(card)
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetFanSpeed(card)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(2)


def test_a_hung_driver_answers_only_when_resumed(bench):
    bench.library.hang()
    counts = []
    reader = threading.Thread(target=lambda: counts.append(pynvml.nvmlDeviceGetCount()))
    reader.start()
    reader.join(0.1)
    assert reader.is_alive()
    bench.library.resume()
    reader.join(5)
    assert counts == [2]


def test_calls_before_init_are_refused(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlLib", Nvml(1, lambda _: 0.0))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def test_a_card_keeps_its_uuid():
    uuids = {Card(3, lambda: 0.0, lambda: 0.0).uuid for _ in range(2)}
    assert len(uuids) == 1
