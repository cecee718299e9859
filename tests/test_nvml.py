"""Readings of a small stand-in for NVIDIA's library: signals, refusals, losses, absence and hangs."""

import asyncio
import subprocess
import sys
import threading
from types import SimpleNamespace

import pynvml
import pytest
from inferometer.model import Gpu
from inferometer.sources import boottime
from inferometer.sources.nvml import REASONS, Nvml, NvmlSource

NOT_SUPPORTED, FUNCTION_NOT_FOUND, LOST, DRIVER, UNKNOWN = 3, 13, 15, 9, 999
FULL = {
    "nvmlDeviceGetPowerUsage": 350_500,
    "nvmlDeviceGetTotalEnergyConsumption": 9_007_199_254_741,
    "nvmlDeviceGetUtilizationRates": {"gpu": 73, "memory": 5},
    "nvmlDeviceGetMemoryInfo_v2": {"total": 85_000_000_000, "used": 1_000, "reserved": 7, "free": 1},
    "nvmlDeviceGetTemperatureV": {"temperature": 61},
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
}
READ = Gpu(
    uuid="GPU-0",
    index=0,
    name="NVIDIA Test",
    power_watts=350.5,
    energy_joules=9_007_199_254.741,
    utilization_ratio=0.73,
    memory_used_bytes=1000.0,
    memory_total_bytes=85e9,
    temperature_celsius=61.0,
    power_limit_watts=700.0,
)


class Library:
    """C functions as pynvml calls them: the last argument is written to, the return code comes back.

    ``gpus``: for each GPU the values by function name; an int below 0 is that return code.
    """

    def __init__(self, *gpus, init=0):
        self.gpus = list(gpus)
        self.init = init
        self.calls = []
        self.hang = None

    def __getattr__(self, name):
        """A function by its C name."""
        if name.startswith("_"):
            raise AttributeError(name)
        if not any(name in gpu for gpu in self.gpus) and name not in OWN:
            raise AttributeError(name)  # as ctypes for a function that the driver does not have
        return lambda *args: self._call(name, *args)

    def _call(self, name, *args):
        self.calls.append(name)
        if self.hang:
            self.hang.wait(20)
        return OWN[name](self, *args) if name in OWN else self._read(name, args[0], args[-1]._obj)

    def _read(self, name, handle, out):
        value = self.gpus[handle.value].get(name, -NOT_SUPPORTED)
        if isinstance(value, int) and value < 0:
            return -value
        if isinstance(value, dict):
            for field, number in value.items():
                setattr(out, field, number)
        else:
            out.value = value
        return 0


def _set(out, value):
    out._obj.value = value
    return 0


def _text(text):
    def write(_library, *args):
        handle, out = (args[0].value, args[1]) if len(args) == 3 else (0, args[0])
        out.value = text.format(handle).encode()
        return 0

    return write


def _handle(library, index, out):
    if library.gpus[index.value].get("handle"):
        return -library.gpus[index.value]["handle"]
    return _set(out, index.value)


OWN = {
    "nvmlInitWithFlags": lambda library, _flags: library.init,
    "nvmlShutdown": lambda _library: 0,
    "nvmlSystemGetDriverVersion": _text("580.1"),
    "nvmlDeviceGetCount_v2": lambda library, out: _set(out, len(library.gpus)),
    "nvmlDeviceGetHandleByIndex_v2": _handle,
    "nvmlDeviceGetUUID": _text("GPU-{}"),
    "nvmlDeviceGetName": _text("NVIDIA Test"),
}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def _own_library(monkeypatch):
    """Pynvml keeps its library in globals; give them back as they were."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


def test_every_signal_in_base_units():
    """Watts, joules, ratios, bytes and degrees, under the GPU's own UUID."""
    reading = Nvml(Clock(), Library(FULL)).read()
    assert (reading.source, reading.error, reading.driver, reading.at) == ("nvml", "", "580.1", 1000.0)
    assert reading.gpus == (READ,)


def test_several_gpus_keep_their_order_and_their_own_readings():
    gpus = Nvml(Clock(), Library(FULL, FULL | {"nvmlDeviceGetPowerUsage": 1_000})).read().gpus
    assert [(gpu.uuid, gpu.index, gpu.power_watts) for gpu in gpus] == [("GPU-0", 0, 350.5), ("GPU-1", 1, 1.0)]


def test_what_a_gpu_does_not_give_is_absent_and_not_asked_again():
    """No energy counter, no utilization under MIG: None, never 0; one refusal is enough, for that GPU."""
    poor = FULL | {
        "nvmlDeviceGetTotalEnergyConsumption": -NOT_SUPPORTED,
        "nvmlDeviceGetUtilizationRates": -NOT_SUPPORTED,
    }
    library = Library(poor, FULL)
    nvml = Nvml(Clock(), library)
    for _ in range(3):
        first, second = nvml.read().gpus
        assert (first.energy_joules, first.utilization_ratio, first.power_watts, first.up) == (None, None, 350.5, True)
        assert second.energy_joules == READ.energy_joules
    assert library.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 1 + 3


def test_older_drivers_are_asked_in_the_older_way():
    """Memory and temperature fall back when the driver lacks the new call or refuses it."""
    old = {name: value for name, value in FULL.items() if name != "nvmlDeviceGetMemoryInfo_v2"} | {
        "nvmlDeviceGetTemperatureV": -NOT_SUPPORTED,
        "nvmlDeviceGetTemperature": 55,
        "nvmlDeviceGetMemoryInfo": {"total": 10, "used": 4, "free": 6},
    }
    (gpu,) = Nvml(Clock(), Library(old)).read().gpus
    assert (gpu.temperature_celsius, gpu.memory_used_bytes, gpu.memory_total_bytes) == (55.0, 4.0, 10.0)


def test_a_passing_failure_costs_one_reading_of_one_signal():
    """An error that is no refusal leaves the signal out once and asks again."""
    gpu = dict(FULL)
    nvml = Nvml(Clock(), Library(gpu))
    gpu["nvmlDeviceGetPowerUsage"] = -UNKNOWN
    assert nvml.read().gpus[0].power_watts is None
    gpu["nvmlDeviceGetPowerUsage"] = 5_000
    assert nvml.read().gpus[0].power_watts == 5.0


@pytest.mark.parametrize("how", ["lost", "mute"])
def test_a_lost_gpu_is_down_and_the_driver_is_opened_anew(how):
    """A GPU that falls off the bus, or gives nothing any more, is up=False while others are read, and comes back."""
    first, second, clock = dict(FULL), dict(FULL), Clock()
    library = Library(first, second)
    nvml = Nvml(clock, library)
    assert [gpu.up for gpu in nvml.read().gpus] == [True, True]
    clock.now += 100
    code = LOST if how == "lost" else UNKNOWN
    first.update(dict.fromkeys(FULL, -code), handle=-code)
    down = Gpu(uuid="GPU-0", index=0, name="NVIDIA Test", up=False)
    for _ in range(30):
        reading = nvml.read()
        assert (reading.error, reading.gpus[0], reading.gpus[1].up) == ("", down, True)
        clock.now += 1
    assert library.calls.count("nvmlInitWithFlags") == library.calls.count("nvmlShutdown") + 1 == 2
    first.clear()
    first.update(FULL)
    clock.now += 60
    assert nvml.read().gpus[0] == READ


@pytest.mark.parametrize(
    ("code", "reason"), [(12, "no_library"), (9, "no_driver"), (4, "no_permission"), (18, "mismatch"), (999, "driver")]
)
def test_an_absent_driver_is_asked_again_once_a_minute(code, reason):
    """No library or driver is a state with a sentence; when the driver comes, so do the readings."""
    clock, library = Clock(), Library(FULL, init=code)
    nvml = Nvml(clock, library)
    for _ in range(59):
        reading = nvml.read()
        assert (reading.error, reading.gpus) == (reason, ())
        assert reading.detail
        clock.now += 1
    assert library.calls == ["nvmlInitWithFlags"]
    library.init = 0
    clock.now += 1
    reading = nvml.read()
    assert (reading.error, reading.detail, reading.gpus) == ("", "", (READ,))
    assert reason in REASONS


def test_a_driver_unloaded_under_the_agent_is_opened_again():
    gpu, clock = dict(FULL), Clock()
    nvml = Nvml(clock, Library(gpu))
    assert nvml.read().error == ""
    gpu["nvmlDeviceGetPowerUsage"] = -DRIVER
    assert nvml.read().error == "no_driver"
    gpu["nvmlDeviceGetPowerUsage"] = 5_000
    clock.now += 60
    assert nvml.read().gpus[0].power_watts == 5.0


def test_no_library_on_this_machine(monkeypatch):
    """Without libnvidia-ml.so.1, and without the binding, there is a reading that says so."""

    def missing(_name):
        raise OSError

    monkeypatch.setattr(pynvml, "CDLL", missing)
    assert Nvml(Clock()).read().error == "no_library"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py is not installed" in Nvml(Clock()).read().detail


def test_a_broken_library_never_raises():
    """Whatever nonsense the library does, there is a reading."""
    reading = Nvml(Clock(), SimpleNamespace(nvmlInitWithFlags=lambda _: 1 // 0)).read()
    assert (reading.error, reading.detail) == ("driver", "the GPU driver failed (ZeroDivisionError)")
    assert Nvml(Clock(), object()).read().error == "driver"


def test_close_lets_go_and_the_next_reading_takes_hold_again():
    library = Library(FULL)
    nvml = Nvml(Clock(), library)
    nvml.close()
    nvml.read()
    nvml.close()
    nvml.close()
    assert library.calls.count("nvmlShutdown") == 1
    assert nvml.read().gpus == (READ,)


def test_a_call_that_hangs_is_left_alone_until_it_returns():
    """The reading is a timeout, so is every one after it, at once; no second call; then readings go on."""
    library = Library(FULL)
    source = NvmlSource(Nvml(boottime, library), watchdog_seconds=0.1)

    async def run():
        before = await source.read()
        library.hang, calls = threading.Event(), len(library.calls)
        hung = [await source.read() for _ in range(5)]
        made = len(library.calls) - calls
        library.hang.set()
        await asyncio.sleep(0.2)
        return before, hung, made, await source.read()

    before, hung, made, after = asyncio.run(run())
    assert (before.gpus, after.gpus) == ((READ,), (READ,))
    assert [reading.error for reading in hung] == ["timeout"] * 5
    assert (made, hung[0].gpus, hung[0].detail) == (1, (), "a call to the GPU driver hangs (over 0.1 s)")
    assert hung[0].seconds >= 0.1 > hung[1].seconds


def test_nothing_is_imported_before_the_first_reading():
    """A machine without GPUs does not pay for the binding at start."""
    code = "import sys, inferometer.sources.nvml as n; n.Nvml(lambda: 0.0); print('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.strip() == b"False"
