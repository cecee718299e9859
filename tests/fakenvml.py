"""A GPU driver that tests set up: a libnvidia-ml.so.1 of our own in C, and a child process that reads it by pynvml."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from inferometer.model import GpuReading
from live import Scoped, environment

SOURCE = Path(__file__).parent / "nvml" / "libnvidia-ml.c"
PROBE = SOURCE.with_name("probe.py")
GPUS, SLOTS, FAULTS, CALLS, XIDS, REASONS, PARTS = 8, 7, 16, 64, 64, 9, 4
EMPTY, THERE, GAP = 0, 1, 2
_U32, _I32, _U64, _F64 = ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, ctypes.c_double


class Slot(ctypes.Structure):
    """A place for a MIG device. ``serial`` tells instances apart that have the same id one after the other."""

    _fields_ = (
        *((name, _U32) for name in ("state", "gi", "slices", "multiprocessors", "serial", "named")),
        ("memory_mib", _U64),
        ("used_bytes", _U64),
        ("percent", _F64 * PARTS),
        ("uuid", ctypes.c_char * 80),
    )


class Card(ctypes.Structure):
    """A GPU. ``percent``: graphics, SM, tensor and DRAM activity. ``since`` 0: the energy meter stands still."""

    _fields_ = (
        *((name, _U32) for name in ("lost", "meters_energy", "mig", "gpm", "counter_bits", "xids_told")),
        *((name, _F64) for name in ("watts", "joules", "since", "tick")),
        ("percent", _F64 * PARTS),
        ("throttle_ns", _U64 * REASONS),
        *((name, _U64) for name in ("pcie_tx", "pcie_rx", "nvlink_tx_kib", "nvlink_rx_kib", "ecc")),
        ("xid_count", _U32),
        ("xids", _U32 * XIDS),
        ("slots", Slot * SLOTS),
    )

    def xid(self, number):
        """An error happens on it."""
        self.xids[self.xid_count % XIDS] = number
        self.xid_count += 1

    def partition(self, place, gi, slices, memory_mib, percent=0.0, **more):
        """An instance appears in a slot."""
        serial = self.slots[place].serial + 1
        names = {"uuid": f"MIG-{gi}-{serial}".encode(), "used_bytes": 2**30, "named": 1} | more
        slot = Slot(state=THERE, gi=gi, slices=slices, multiprocessors=16 * slices, serial=serial,
                    memory_mib=memory_mib, percent=(percent,) * PARTS, **names)  # fmt: skip
        self.slots[place] = slot


class Fault(ctypes.Structure):
    """A function, or a field by its number, that answers with ``code``."""

    _fields_ = (("function", ctypes.c_char * 48), ("gpu", _I32), ("code", _I32))


class Call(ctypes.Structure):
    """How often a function was called."""

    _fields_ = (("function", ctypes.c_char * 48), ("count", _U64))


_HELD = ("users", "event_sets", "samples", "samples_ever", "stale_handles", "short_windows", "mixed_samples")


class World(ctypes.Structure):
    """All that the library knows, shared with it."""

    _fields_ = (
        ("count", _U32),
        ("hang", _U32),
        *((name, _I32) for name in _HELD),
        ("faults", Fault * FAULTS),
        ("calls", Call * CALLS),
        ("gpus", Card * GPUS),
    )


def build(folder, *flags):
    """Compile the library into ``folder`` under the name by which it is loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert os.environ.get("CI") != "true", "a C compiler is missing; `make tools` installs one"
        pytest.skip("no C compiler is installed")
    library = Path(folder) / "libnvidia-ml.so.1"
    library.parent.mkdir(parents=True, exist_ok=True)
    warnings = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")
    command = [compiler, *warnings, *flags, "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, SOURCE]
    subprocess.run(command, check=True)
    return library


class Driver:
    """The driver in ``folder``, which holds the library or will: its world, and the environment that leads to it."""

    def __init__(self, folder, gpus=1):
        self.folder = Path(folder)
        path = self.folder / "world"
        path.write_bytes(bytes(ctypes.sizeof(World)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.world = World.from_buffer(self._memory)
        self.world.count = gpus
        for card in self.world.gpus:
            card.meters_energy = card.gpm = 1
            card.counter_bits, card.watts, card.joules, card.tick = 64, 350.5, 1000.0, 0.1
        self.environ = {"LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML": str(path)}

    def __getitem__(self, index):
        """A GPU."""
        return self.world.gpus[index]

    def fail(self, function, code, gpu=-1):
        """Let a function, or a field by its number, fail until ``mend``; of one GPU or all."""
        free = next(fault for fault in self.world.faults if not fault.code)
        free.function, free.gpu, free.code = function.encode(), gpu, code

    def mend(self):
        """Nothing fails any more."""
        for fault in self.world.faults:
            fault.code = 0

    def calls(self, function):
        """How often it was called."""
        return sum(call.count for call in self.world.calls if call.function == function.encode())

    @contextlib.contextmanager
    def hanging(self):
        """Every call blocks within the block."""
        self.world.hang = 1
        try:
            yield
        finally:
            self.world.hang = 0


class Probe(Scoped):
    """A child process that reads the driver when it is told to, by ``NvmlSource``."""

    def __init__(self, driver, watchdog_seconds=5.0):
        command = [sys.executable, PROBE, str(watchdog_seconds)]
        self._process = subprocess.Popen(
            command, env=environment(**driver.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self):
        """A reading."""
        return msgspec.json.decode(self._ask("read"), type=GpuReading)

    def read_again(self):
        """A reading after as long as GPM wants between its samples."""
        time.sleep(0.12)
        return self.read()

    def gpu(self):
        """The only GPU of a reading."""
        (gpu,) = self.read().gpus
        return gpu

    def advance(self, seconds):
        """Its clock is put forward."""
        self._ask(f"advance {seconds}")

    def release(self, seconds):
        """What ``NvmlSource.release`` says."""
        return msgspec.json.decode(self._ask(f"release {seconds}"))

    def needs_restart(self):
        """What it says."""
        return msgspec.json.decode(self._ask("needs_restart"))

    def end(self):
        """No more."""
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, command):
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline()
