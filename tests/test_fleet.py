"""One GPU seen by two sources that come and go: its counts, how it is cut, and its pods."""

import pytest
from inferometer.app.fleet import Fleet
from inferometer.model import Gpu, GpuReading, Instance, Pod

POD = Pod("llm", "vllm-0", "vllm")
DRIVERS_CUT = (Instance("MIG-a", 1, "3g.40gb", 3, 4), Instance("MIG-b", 2, "3g.40gb", 3, 4))
PAGES_CUT = (
    Instance("GPU-0/1", 1, "3g.40gb", 3, 4, activity_ratio=0.5, memory_used_bytes=7.0, pods=(POD,)),
    Instance("GPU-0/2", 2, "3g.40gb", 3, 4),
)


@pytest.fixture
def fleet():
    return Fleet(("nvml", "dcgm"))


def see(fleet, source, at, **values):
    """Whether who holds what may have changed."""
    return fleet.see(GpuReading(source, at, gpus=(Gpu("GPU-0", 0, **values),)))


def shown(fleet, at):
    (gpu,) = fleet.gpus(at)
    return gpu


def labels(gpu):
    return [(one.uuid, one.pods) for one in gpu.instances]


@pytest.mark.parametrize("source", ["nvml", "dcgm"])
def test_a_gpu_that_is_lost_is_cut_and_held_as_it_was(fleet, source):
    see(fleet, source, 0.0, instances=PAGES_CUT, pods=(POD,))
    assert not see(fleet, source, 1.0, up=False)
    gpu = shown(fleet, 1.0)
    assert (gpu.up, gpu.pods, labels(gpu)) == (False, (POD,), [("GPU-0/1", (POD,)), ("GPU-0/2", ())])
    assert see(fleet, source, 2.0)
    assert shown(fleet, 2.0).instances == ()


def test_instances_are_the_drivers_and_their_pods_the_pages(fleet):
    """They are the same where they have the same number; activity and memory go along while they are fresh."""
    see(fleet, "nvml", 0.0, instances=DRIVERS_CUT)
    see(fleet, "dcgm", 0.0, instances=PAGES_CUT)
    first, second = shown(fleet, 0.0).instances
    assert (first.uuid, first.pods, first.activity_ratio, first.memory_used_bytes) == ("MIG-a", (POD,), 0.5, 7.0)
    assert second == DRIVERS_CUT[1]
    see(fleet, "nvml", 100.0, instances=DRIVERS_CUT)
    first, _ = shown(fleet, 100.0).instances
    assert (first.uuid, first.pods, first.activity_ratio, first.memory_used_bytes) == ("MIG-a", (POD,), None, None)


def test_a_driver_that_cuts_no_longer_is_believed(fleet):
    """The page may show instances that are gone; a driver that never showed any may not be allowed to."""
    see(fleet, "dcgm", 0.0, instances=PAGES_CUT)
    see(fleet, "nvml", 0.0)
    assert len(shown(fleet, 0.0).instances) == 2
    see(fleet, "nvml", 1.0, instances=DRIVERS_CUT)
    assert see(fleet, "nvml", 2.0)
    assert shown(fleet, 2.0).instances == ()


def test_labels_last_while_their_source_is_silent(fleet):
    see(fleet, "dcgm", 0.0, pods=(POD,), power_watts=300.0)
    see(fleet, "nvml", 3600.0)
    gpu = shown(fleet, 3600.0)
    assert (gpu.up, gpu.pods, gpu.power_watts) == (True, (POD,), None)
    assert see(fleet, "dcgm", 3601.0)
    assert shown(fleet, 3601.0).pods == ()


COUNTS = {
    "energy_joules": (1000.0, 5.0),
    "throttle_seconds": ({"power": 9.0}, {"power": 1.0, "heat": 1.0}),
    "xids": ({"79": 2.0}, {"79": 1.0, "31": 1.0}),
    "ecc_errors": (3.0, 0.0),
    "pcie_rx_bytes": (8e9, 1.0),
    "pcie_tx_bytes": (8e9, 1.0),
    "nvlink_rx_bytes": (8e9, 1.0),
    "nvlink_tx_bytes": (8e9, 1.0),
}


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("trusted", ["nvml", "dcgm"])
def test_a_count_is_one_sources(trusted, field):
    """Sources count from different starts: while the trusted one is silent or lost, its count stands still."""
    fleet = Fleet((trusted, other := "dcgm" if trusted == "nvml" else "nvml"))
    mine, its = COUNTS[field]
    see(fleet, other, 0.0, **{field: its})
    assert getattr(shown(fleet, 0.0), field) == its
    see(fleet, trusted, 1.0, **{field: mine}, energy_scope="module")
    see(fleet, other, 100.0, **{field: its}, power_watts=300.0)
    silent = shown(fleet, 100.0)
    assert (getattr(silent, field), silent.power_watts, silent.up) == (mine, 300.0, True)
    assert silent.energy_scope == "module"
    see(fleet, trusted, 101.0, up=False)
    assert getattr(shown(fleet, 101.0), field) == mine
    see(fleet, trusted, 102.0, utilization_ratio=1.0)
    assert getattr(shown(fleet, 102.0), field) == mine
