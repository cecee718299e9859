"""RAPL out of folders that look as the kernel's do: real files, real permissions, another user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from inferometer.model import Domain
from inferometer.sources import boottime
from inferometer.sources.rapl import REASONS, Rapl

RANGE = 262_143_328_850
SERVER = {
    "intel-rapl:0": ("package-0", 1_000_000),
    "intel-rapl:0:0": ("dram", 2_000_000),
    "intel-rapl:1": ("package-1", 3_000_000),
    "intel-rapl:1:0": ("dram", 4_000_000),
}
CLIENT = {
    "intel-rapl:0": ("package-0", 5_000_000),
    "intel-rapl:0:0": ("core", 1_000_000),
    "intel-rapl:0:1": ("uncore", 2_000_000),
    "intel-rapl:0:2": ("dram", 3_000_000),
    "intel-rapl:1": ("psys", 9_000_000),
    "intel-rapl-mmio:0": ("package-0", 6_000_000),
    "intel-rapl-mmio:0:0": ("dram", 4_000_000),
}
AMD = {
    "intel-rapl:0": ("package-0", 7_000_000),
    "intel-rapl:0:0": ("core", 1_000_000),
    "intel-rapl:1": ("package-1", 8_000_000),
    "intel-rapl:1:0": ("core", 1_000_000),
}
DIES = {
    "intel-rapl:0": ("package-0-die-0", 1_000_000),
    "intel-rapl:1": ("package-0-die-1", 2_000_000),
    "intel-rapl:10": ("package-1-die-0", 3_000_000),
}


def machine(root: Path, zones: dict[str, tuple[str, int]], largest: int | None = RANGE) -> Path:
    """The class folder of a machine: links to the zones, which nest elsewhere, beside their control types."""
    powercap, devices = root / "class/powercap", root / "devices/virtual/powercap"
    powercap.mkdir(parents=True)
    for folder, (name, energy) in zones.items():
        control = folder.partition(":")[0]
        parent = folder.rpartition(":")[0]
        home = devices / control / (f"{parent}/{folder}" if ":" in parent else folder)
        home.mkdir(parents=True, exist_ok=True)
        (home / "name").write_text(f"{name}\n")
        (home / "energy_uj").write_text(f"{energy}\n")
        (home / "energy_uj").chmod(0o400)
        if largest is not None:
            (home / "max_energy_range_uj").write_text(f"{largest}\n")
        link = Path("../..") / home.relative_to(root)
        (powercap / folder).symlink_to(link)
        if not (powercap / control).exists():
            (powercap / control).symlink_to(Path("../..") / (devices / control).relative_to(root))
    return powercap


def joules(root: Path) -> dict[str, float]:
    reading = Rapl(root, clock=boottime).read()
    assert (reading.source, reading.error, reading.detail) == ("rapl", "", "")
    found = {domain.name: domain.energy_joules for domain in reading.domains}
    assert len(found) == len(reading.domains)
    return found


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (SERVER, {"package-0": 1.0, "package-0-dram": 2.0, "package-1": 3.0, "package-1-dram": 4.0}),
        (CLIENT, {"package-0": 5.0, "package-0-dram": 3.0}),
        (AMD, {"package-0": 7.0, "package-1": 8.0}),
        (DIES, {"package-0-die-0": 1.0, "package-0-die-1": 2.0, "package-1-die-0": 3.0}),
        ({"intel-rapl:0": ("psys", 6_000_000)}, {"psys": 6.0}),
        ({"intel-rapl-mmio:0": ("package-0", 6_000_000)}, {"package-0": 6.0}),
    ],
    ids=["server", "client", "amd", "dies", "psys alone", "mmio alone"],
)
def test_every_joule_is_in_one_domain(
    tmp_path: Path, zones: dict[str, tuple[str, int]], expected: dict[str, float]
) -> None:
    """Packages and their memory; no part of another zone, and no zone that shows another one again."""
    assert joules(machine(tmp_path, zones)) == pytest.approx(expected)


def test_counters_move_and_say_where_they_wrap(tmp_path: Path) -> None:
    root = machine(tmp_path, AMD)
    rapl = Rapl(root, clock=iter([10.0, 10.25, 20.0, 20.5]).__next__)
    first = rapl.read()
    assert (first.at, first.seconds) == (10.25, 0.25)
    assert first.domains[0] == Domain("package-0", pytest.approx(7.0), pytest.approx(RANGE / 1e6))
    energy = root / "intel-rapl:0/energy_uj"
    energy.chmod(0o600)
    energy.write_text("12\n")
    assert rapl.read().domains[0].energy_joules == pytest.approx(12e-6)


@pytest.mark.parametrize("largest", [None, 0])
def test_an_unknown_range_is_zero(tmp_path: Path, largest: int | None) -> None:
    (domain,) = Rapl(machine(tmp_path, {"intel-rapl:0": ("package-0", 1)}, largest), clock=boottime).read().domains
    assert domain.range_joules == 0.0


def test_what_vanished_is_left_out(tmp_path: Path) -> None:
    """A zone without its counter, or with half a line, is no zone at 0 J."""
    root = machine(tmp_path, SERVER)
    (root / "intel-rapl:0:0/energy_uj").unlink()
    (root / "intel-rapl:1/energy_uj").unlink()
    (root / "intel-rapl:1/energy_uj").write_text("\n")
    assert joules(root) == pytest.approx({"package-0": 1.0, "package-1-dram": 4.0})
    (root / "intel-rapl:0/energy_uj").unlink()
    (root / "intel-rapl:1:0/energy_uj").unlink()
    assert Rapl(root, clock=boottime).read().error == "no_rapl"


@pytest.mark.parametrize("made", ["nothing", "empty", "other", "file"])
def test_a_machine_without_rapl(tmp_path: Path, made: str) -> None:
    """A virtual machine, one with other power zones only, or a path that is none: not a host at 0 J."""
    root = tmp_path / "powercap"
    if made == "file":
        root.write_text("")
    elif made != "nothing":
        root.mkdir()
    if made == "other":
        (root / "intel-rapl").mkdir()
        (root / "dtpm").mkdir()
    reading = Rapl(root, clock=boottime).read()
    assert (reading.error, reading.domains) == ("no_rapl", ())
    assert "configured watts" in reading.detail


def test_a_container_that_hides_it_is_told_apart(tmp_path: Path) -> None:
    """Container runtimes mask what the links of the class lead to."""
    root = machine(tmp_path, SERVER)
    (tmp_path / "devices").rename(tmp_path / "masked")
    reading = Rapl(root, clock=boottime).read()
    assert (reading.error, reading.domains) == ("no_permission", ())
    assert "mount the host's /sys" in reading.detail


AS_NOBODY = """
import os, sys
sys.path[:0] = sys.argv[2:]
from inferometer.sources.rapl import Rapl
rapl = Rapl(sys.argv[1], clock=float)
rapl.read()  # whatever Python still loads at a first call may not belong to nobody
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
reading = rapl.read()
print(reading.error, len(reading.domains), reading.detail)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(root: Path) -> str:
    """What a user says of it to whom files of mode 0400 do not belong."""
    if os.geteuid() != 0:
        for energy in root.glob("*/energy_uj"):
            energy.chmod(energy.stat().st_mode & 0o044)
    command = [sys.executable, "-c", AS_NOBODY, str(root), *sys.path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_user_without_the_right_is_told_how_to_get_it(public: Path) -> None:
    """The counters belong to root since they were found to leak secrets."""
    says = as_nobody(machine(public, SERVER))
    assert says.startswith("no_permission 0 ")
    assert "DAC_READ_SEARCH" in says
    assert "chmod a+r" in says


def test_half_a_permission_is_none(public: Path) -> None:
    """Where some counters are refused the others would pass for the whole host."""
    root = machine(public, SERVER)
    (root / "intel-rapl:0/energy_uj").chmod(0o444)
    assert as_nobody(root).startswith("no_permission 0 ")
    for energy in root.glob("*/energy_uj"):
        energy.chmod(0o444)
    if os.geteuid() == 0:
        assert as_nobody(root).startswith(" 4 ")


def test_errors_are_of_a_closed_set() -> None:
    """They become values of a label."""
    assert REASONS == ("no_rapl", "no_permission")
