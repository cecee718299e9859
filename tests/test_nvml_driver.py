"""The real pynvml, loading a driver's library of ours written in C: signals, losses, hangs and what is given back."""

from __future__ import annotations

import shutil
import time

import pytest
from fakenvml import GAP, Driver, Probe, build
from inferometer.model import Gpu, Instance
from inferometer.sources.nvml import REASONS
from inferometer.sources.recording import gpu_reading, read
from live import Agent, Engines, eventually, inferometer_says

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, MISMATCH, UNKNOWN = 3, 4, 9, 18, 999
FULL = Gpu(
    uuid="GPU-0",
    index=0,
    name="NVIDIA Test 80GB",
    power_watts=350.5,
    energy_joules=1000.0,
    utilization_ratio=0.73,
    memory_used_bytes=float(40 << 30),
    memory_total_bytes=float(81559 << 20),
    temperature_celsius=61.0,
    memory_temperature_celsius=71.0,
    sm_clock_hertz=1980e6,
    memory_clock_hertz=2619e6,
    power_limit_watts=700.0,
    throttle_seconds={
        "power": 1.5,
        "thermal": 0.25,
        "sync_boost": 0.0,
        "board_limit": 0.0,
        "low_utilization": 0.0,
        "reliability": 0.0,
        "software_thermal": 0.0,
        "hardware_thermal": 0.0,
        "power_brake": 4.0,
    },
    ecc_errors=2.0,
    pcie_rx_bytes=7e9,
    pcie_tx_bytes=5e9,
    nvlink_rx_bytes=2048.0,
    nvlink_tx_bytes=1024.0,
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def old_library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("old-nvml"), "-DOLD_DRIVER")


@pytest.fixture
def driver(library, tmp_path):
    """One GPU, as full of signals as they come."""
    shutil.copy(library, tmp_path)
    return furnished(Driver(tmp_path))


def furnished(driver):
    card = driver[0]
    card.percent[:] = (73.0, 60.0, 41.5, 20.0)
    card.throttle_ns[0], card.throttle_ns[1], card.throttle_ns[8] = 1_500_000_000, 250_000_000, 4_000_000_000
    card.pcie_tx, card.pcie_rx, card.nvlink_tx_kib, card.nvlink_rx_kib, card.ecc = 5 * 10**9, 7 * 10**9, 1, 2, 2
    return driver


# -- signals --------------------------------------------------------------------------------------


def test_every_signal_in_base_units(driver):
    """Watts, joules, ratios, bytes, degrees, hertz and seconds; activity from the second reading on."""
    with Probe(driver) as probe:
        reading = probe.read()
        assert (reading.source, reading.error) == ("nvml", "")
        assert (reading.driver, reading.library) == ("580.95.05", "13.580.95.05")
        assert reading.gpus == (FULL,)
        (gpu,) = probe.read_again().gpus
        ratios = (gpu.activity_ratio, gpu.sm_active_ratio, gpu.tensor_active_ratio, gpu.dram_active_ratio)
        assert ratios == (0.73, 0.60, 0.415, 0.20)


def test_the_energy_counter_ticks_as_the_gpu_draws(driver):
    """What is read between two readings is watts × time, to a tick of the counter."""
    card = driver[0]
    card.since, card.watts = time.clock_gettime(time.CLOCK_BOOTTIME), 500.0
    with Probe(driver) as probe:
        first = probe.read()
        time.sleep(0.5)
        second = probe.read()
    joules = second.gpus[0].energy_joules - first.gpus[0].energy_joules
    assert joules == pytest.approx(500 * (second.at - first.at), abs=500 * (0.11 + first.seconds + second.seconds))


def test_an_energy_counter_that_was_reset_is_shown_as_it_is(driver):
    """The driver was reloaded: the meter downstream sees the fall and settles it; nothing is smoothed here."""
    with Probe(driver) as probe:
        assert probe.gpu().energy_joules == 1000.0
        driver[0].joules = 2.0
        assert probe.gpu().energy_joules == 2.0


def test_a_gpu_with_power_only(driver):
    """No energy counter: None, never 0, and it is asked for once."""
    driver[0].meters_energy = 0
    with Probe(driver) as probe:
        for _ in range(3):
            gpu = probe.gpu()
            assert (gpu.energy_joules, gpu.power_watts, gpu.up) == (None, 350.5, True)
    assert driver.calls("nvmlDeviceGetTotalEnergyConsumption") == 1


@pytest.mark.parametrize(
    ("refused", "watts", "scope"),
    [
        ((), 350.5, "gpu"),
        (("185",), 351.5, "gpu"),  # A100: the instant only
        (("185/0", "186/0"), 450.5, "module"),  # CPU and GPU on one board
        (("185/0", "186/0", "185/1"), 451.5, "module"),
        (("185", "186"), 350.5, "gpu"),  # by the call that every driver has
        (("nvmlDeviceGetFieldValues",), 350.5, "gpu"),
    ],
)
def test_power_in_the_best_way_there_is(driver, refused, watts, scope):
    """Mean before instant, the GPU before its board; a board's power is named so, and so is its energy."""
    for name in refused:
        driver.fail(name, NOT_SUPPORTED)
    with Probe(driver) as probe:
        for _ in range(2):
            gpu = probe.gpu()
            assert (gpu.power_watts, gpu.power_scope, gpu.energy_scope) == (watts, scope, scope)


def test_a_field_that_is_refused_costs_no_other_and_is_not_asked_again(driver):
    driver.fail("82", NO_PERMISSION)
    driver.fail("75", NOT_SUPPORTED)
    driver.fail("138", NOT_SUPPORTED)  # NVLink 5 counts bytes, in another field
    driver.fail("139", NOT_SUPPORTED)
    driver[0].gpm = 0  # its ratios would come with the second reading
    with Probe(driver) as probe:
        gpu = probe.gpu()
        assert gpu.memory_temperature_celsius is None
        assert gpu.throttle_seconds == {k: v for k, v in FULL.throttle_seconds.items() if k != "thermal"}
        assert (gpu.nvlink_rx_bytes, gpu.nvlink_tx_bytes) == (2048.0, 1024.0)
        calls = driver.calls("nvmlDeviceGetFieldValues")
        driver.mend()
        assert probe.gpu() == gpu
    assert driver.calls("nvmlDeviceGetFieldValues") == calls + 1


def test_a_field_that_fails_once_is_back_next_time(driver):
    driver.fail("82", UNKNOWN)
    with Probe(driver) as probe:
        assert probe.gpu().memory_temperature_celsius is None
        driver.mend()
        assert probe.gpu().memory_temperature_celsius == 71.0


def test_byte_counters_never_fall(driver):
    """They wrap at 32 bits on some drivers, and begin again with the driver on all."""
    card = driver[0]
    card.counter_bits, card.pcie_tx, card.pcie_rx = 32, 2**32 - 100, 1000
    with Probe(driver) as probe:
        first = probe.gpu()
        assert (first.pcie_tx_bytes, first.pcie_rx_bytes) == (2**32 - 100, 1000)
        card.pcie_tx, card.pcie_rx = 50, 10
        wrapped = probe.gpu()
        assert (wrapped.pcie_tx_bytes, wrapped.pcie_rx_bytes) == (2**32 + 50, 1010)


def test_an_old_driver_is_asked_in_the_old_way(old_library, tmp_path):
    """Functions that its library does not have are left out or replaced, one by one."""
    shutil.copy(old_library, tmp_path)
    driver = furnished(Driver(tmp_path))
    with Probe(driver) as probe:
        probe.read()
        (gpu,) = probe.read_again().gpus
    assert gpu.temperature_celsius == 55.0
    assert gpu.memory_used_bytes == (40 << 30) + (479 << 20), "the driver's own memory counts as used there"
    assert (gpu.energy_joules, gpu.activity_ratio, gpu.power_watts) == (1000.0, None, 350.5)


# -- activity, instances, errors ------------------------------------------------------------------


def test_activity_is_not_asked_for_more_often_than_its_counters_allow(driver):
    """Within 100 ms the newest ratios stand; two samples are held for a GPU, however often it is read."""
    with Probe(driver) as probe:
        probe.read()
        ratios = {probe.read_again().gpus[0].tensor_active_ratio}
        ratios |= {probe.gpu().tensor_active_ratio for _ in range(20)}
        probe.advance(3600)
        assert probe.gpu().tensor_active_ratio is None, "an hour ago says nothing about now"
        assert (driver.world.samples, driver.world.samples_ever) == (2, 2)
    assert ratios == {0.415}
    assert driver.world.short_windows == 0


def test_no_gpm_before_hopper(driver):
    driver[0].gpm = 0
    with Probe(driver) as probe:
        probe.read()
        assert probe.read_again().gpus[0].activity_ratio is None
    assert (driver.calls("nvmlGpmQueryDeviceSupport"), driver.world.samples_ever) == (1, 0)


def test_nonsense_is_no_activity(driver):
    driver[0].percent[:] = (float("nan"), -5.0, 1e9, 100.4)
    with Probe(driver) as probe:
        probe.read()
        (gpu,) = probe.read_again().gpus
    assert (gpu.activity_ratio, gpu.sm_active_ratio, gpu.tensor_active_ratio, gpu.dram_active_ratio) == (
        None, None, None, 1.0,
    )  # fmt: skip


@pytest.fixture
def partitioned(driver):
    """3g.40gb, 2g.20gb and 1g.10gb in slots with empty ones between."""
    card = driver[0]
    card.mig = 1
    card.partition(0, 2, 3, 40448, 90.0)
    card.slots[1].state = GAP
    card.partition(3, 3, 2, 20096, 30.0, named=0)
    card.partition(5, 9, 1, 9984, 0.0)
    return driver


def test_instances_of_a_partitioned_gpu(partitioned):
    """Sparse slots, slices of compute and memory, profiles, memory and activity of each; power of the whole only."""
    with Probe(partitioned) as probe:
        probe.read()
        (gpu,) = probe.read_again().gpus
    assert (gpu.energy_joules, gpu.utilization_ratio, gpu.activity_ratio) == (1000.0, None, None)
    shapes = [(i.uuid, i.gi, i.profile, i.compute_slices, i.memory_slices) for i in gpu.instances]
    assert shapes == [
        ("MIG-2-1", 2, "3g.40gb", 3, 4), ("MIG-3-1", 3, "2g.20gb", 2, 2), ("MIG-9-1", 9, "1g.10gb", 1, 1),
    ]  # fmt: skip
    assert [i.activity_ratio for i in gpu.instances] == [0.9, 0.3, 0.0]
    assert [i.memory_total_bytes for i in gpu.instances] == [40448 * 2**20, 20096 * 2**20, 9984 * 2**20]
    assert partitioned.world.mixed_samples == 0


def test_an_id_that_is_given_again_is_another_instance(partitioned):
    """The same id, but something else after a reconfiguration: its activity begins anew, and old samples are freed."""
    with Probe(partitioned) as probe:
        probe.read()
        probe.read_again()
        assert partitioned.world.samples == 6
        partitioned[0].partition(0, 2, 1, 9984, 50.0)
        partitioned[0].slots[3].state = partitioned[0].slots[5].state = 0
        (gpu,) = probe.read_again().gpus
        assert [(i.profile, i.activity_ratio) for i in gpu.instances] == [("1g.10gb", None)]
        (gpu,) = probe.read_again().gpus
        assert [i.activity_ratio for i in gpu.instances] == [0.5]
    assert (partitioned.world.samples, partitioned.world.mixed_samples) == (2, 0)


def test_instances_that_share_an_id_have_one_memory(driver):
    """Two compute instances of one GPU instance are one: its memory is counted once."""
    driver[0].mig = 1
    driver[0].partition(0, 2, 3, 40448)
    driver[0].partition(1, 2, 3, 40448, uuid=b"MIG-of-the-second")
    with Probe(driver) as probe:
        (instance,) = probe.gpu().instances
    assert instance == Instance(
        "MIG-2-1", 2, "3g.40gb", 3, 4, memory_used_bytes=2**30, memory_total_bytes=40448 * 2**20
    )


def test_a_gpu_without_mig_is_asked_once(driver):
    driver[0].mig = 2
    with Probe(driver) as probe:
        assert [probe.gpu().instances for _ in range(3)] == [(), (), ()]
    assert driver.calls("nvmlDeviceGetMigMode") == 1


def test_errors_are_counted_each_once(driver):
    """By number, since the agent began to listen; they neither stick nor repeat, and survive a loss."""
    card = driver[0]
    card.xid(13)  # before anyone listened
    with Probe(driver) as probe:
        assert probe.gpu().xids == {}
        for number in (31, 31, 79):
            card.xid(number)
        assert [probe.gpu().xids for _ in range(3)] == [{"31": 2.0, "79": 1.0}] * 3
        card.lost = 1
        card.xid(79)
        gpu = probe.gpu()
        assert (gpu.up, gpu.xids) == (False, {"31": 2.0, "79": 2.0})


# -- faults ---------------------------------------------------------------------------------------


def test_a_lost_gpu_is_down_and_comes_back(library, tmp_path):
    """The other goes on; after a minute the driver is opened anew, with new handles, and nothing is left behind."""
    shutil.copy(library, tmp_path)
    driver = Driver(tmp_path, gpus=2)
    driver[0].pcie_tx = 3 * 10**9
    with Probe(driver) as probe:
        probe.read()
        probe.read_again()
        driver[0].lost = 1
        for _ in range(2):
            first, second = probe.read().gpus
            assert (first.uuid, first.up, first.power_watts, second.up) == ("GPU-0", False, None, True)
        driver[0].lost, driver[0].pcie_tx = 0, 7
        probe.advance(61)
        first, second = probe.read().gpus
        assert (first.up, second.up, first.energy_joules) == (True, True, 1000.0)
        assert first.pcie_tx_bytes == 3 * 10**9 + 7, "the counter began again with the GPU"
    world = driver.world
    assert (world.users, world.event_sets, world.samples, world.stale_handles) == (1, 1, 2, 0)


def test_a_driver_that_hangs_is_left_alone_until_it_returns(driver):
    """No second call joins the first, every reading says timeout at once, and then they go on."""
    with Probe(driver, watchdog_seconds=1.0) as probe:
        assert probe.read().error == ""
        with driver.hanging():
            before = driver.world.users, sum(call.count for call in driver.world.calls)
            assert [probe.read().error for _ in range(5)] == ["timeout"] * 5
            assert (driver.world.users, sum(call.count for call in driver.world.calls)) == (before[0], before[1] + 1)
            assert probe.release(60) is False, "what hangs cannot be let go of"
            assert probe.read().error == "released"
        time.sleep(0.3)
        assert probe.read().error == "released"
        assert driver.world.users == 0, "let go of as soon as the call was back"


def test_a_library_that_is_missing_and_then_appears(library, tmp_path):
    """A driver that is installed while the agent runs is found within a minute."""
    driver = Driver(tmp_path)
    with Probe(driver) as probe:
        reading = probe.read()
        assert (reading.error, reading.gpus) == ("no_library", ())
        assert "libnvidia-ml.so.1 is not on this machine or not in this container" in reading.detail
        shutil.copy(library, tmp_path)
        assert probe.read().error == "no_library"
        probe.advance(61)
        assert probe.gpu().energy_joules == 1000.0


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues"])
def test_a_driver_upgraded_under_the_agent_needs_a_restart(driver, function):
    """The old library stays mapped: only a new process can load the new one, and somebody has to be told."""
    driver.fail("185", NOT_SUPPORTED)
    driver.fail("186", NOT_SUPPORTED)
    driver.fail(function, MISMATCH)
    with Probe(driver) as probe:
        reading = probe.read()
        assert (reading.error, reading.gpus) == ("mismatch", ())
        assert reading.detail == "the NVIDIA driver was upgraded under this process; restart the agent"
        assert probe.needs_restart()
    assert driver.world.users == driver.world.event_sets == driver.world.samples == 0


def test_a_driver_that_is_unloaded_is_opened_again(driver):
    with Probe(driver) as probe:
        probe.read()
        driver.fail("nvmlDeviceGetTotalEnergyConsumption", DRIVER_NOT_LOADED)
        assert probe.read().error == "no_driver"
        driver.mend()
        probe.advance(61)
        assert probe.gpu().up
        assert not probe.needs_restart()
    assert driver.world.users == 1


def test_a_release_window(driver):
    """NVML is shut down with all that was held, stays so for the window, and is read again right after it."""
    with Probe(driver) as probe:
        probe.read()
        probe.read_again()
        world = driver.world
        assert (world.users, world.event_sets, world.samples) == (1, 1, 2)
        assert probe.release(30) is True
        assert (world.users, world.event_sets, world.samples) == (0, 0, 0)
        calls = sum(call.count for call in world.calls)
        reading = probe.read()
        assert (reading.error, reading.gpus) == ("released", ())
        assert reading.detail == "let go of for 30 s more, as asked"
        assert reading.error in REASONS
        assert sum(call.count for call in world.calls) == calls, "nothing is asked meanwhile"
        probe.advance(31)
        assert probe.gpu().up
        assert probe.release(3600) is True
        assert probe.release(0) is True
        assert probe.gpu().up
    assert driver.world.stale_handles == 0


def test_other_sources_keep_their_interval_while_the_driver_hangs(driver, tmp_path):
    """A whole agent, with a hang that outlasts its watchdog of 5 s: the engine is read on, pages are served on time."""
    flags = ("--interval", "200ms", "--storage.path", tmp_path / "ledger", "--gpus", "all")
    with (
        Engines(tmp_path / "engines.log", 1, 5.0) as engines,
        Agent(tmp_path / "agent.log", "--engine.url", engines.urls[0], *flags, **driver.environ) as agent,
    ):
        agent.until(lambda page: page.sum("inferometer_gpu_energy_joules_total") == 1000.0)
        with driver.hanging():
            began, ages = time.monotonic(), []
            while time.monotonic() < began + 7:
                page = agent.page()
                ages.append(
                    time.time() - page.sum("inferometer_source_last_success_timestamp_seconds", source=engines.urls[0])
                )
                time.sleep(0.1)
            assert page.sum("inferometer_source_up", source="nvml") == 0
            assert page.sum("inferometer_source_errors_total", source="nvml", reason="timeout") >= 1
        assert max(ages) < 4.0, "the engine was read all the while"
        eventually(lambda: agent.page().sum("inferometer_source_up", source="nvml") == 1)
        assert driver.world.users == 1


def test_a_recording_with_gpus_beside_the_pages(driver, tmp_path):
    """``inferometer record --gpus``: each tick has a row of the driver's, which reads back as it was read."""
    with Engines(tmp_path / "engines.log") as engines:
        out = tmp_path / "recording"
        flags = ("--gpus", "--out", out, "--for", "300ms", "--every", "150ms")
        code, said, _ = inferometer_says("record", engines.urls[0], *flags, **driver.environ)
    rows = list(read(out))
    assert (code, [row.kind for row in rows]) == (0, ["metrics", "nvml"] * 3)
    assert said.startswith(f"{out}: recorded, 0 readings failed")
    readings = [gpu_reading(row) for row in rows if row.kind == "nvml"]
    assert readings[0].gpus == (FULL,)
    assert readings[2].gpus[0].tensor_active_ratio == 0.415
    assert [reading.at for reading in readings] == [row.at for row in rows if row.kind == "nvml"]
