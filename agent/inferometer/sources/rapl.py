"""The host's own energy counters (RAPL): processor packages and their memory, out of sysfs. Intel and AMD.

Zones nest: psys holds the packages, a package holds core and uncore, and intel-rapl-mmio shows the same packages again.
So a package is read once, its core and uncore never, and psys only where there is no package. Memory (dram) is a zone
below its package and yet not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from inferometer.model import Domain, HostReading

SOURCE = "rapl"
ROOT = "/sys/class/powercap"
REASONS = ("no_rapl", "no_permission")
"""Every ``HostReading.error``, beside ''. The first is the normal state of virtual machines and of ARM."""

_ZONE = re.compile(r"(\w+-rapl(?:-\w+)?):(\d+)(?::(\d+))?")
_MEMORY, _PLATFORM = "dram", "psys"
_MICRO = 1e-6
_NO_RAPL = (
    "this machine shows no RAPL energy counters (virtual machines and ARM have none);"
    " host energy needs configured watts instead"
)
_NO_PERMISSION = (
    "only root may read the RAPL energy counters: give the agent the capability DAC_READ_SEARCH, or on every start of"
    " the machine chmod a+r /sys/class/powercap/*/energy_uj"
)
_MASKED = (
    "this container hides the RAPL energy counters: mount the host's /sys read-only at another place"
    " and read class/powercap there"
)


class _Zone(Struct, frozen=True):
    """A folder with one counter. ``parent`` is '' for a zone that is in no other one."""

    folder: Path
    name: str
    parent: str


class Rapl:
    """Reads all counters of the host. ``root``: the folder of the zones; ``clock`` gives steady seconds.

    Some twenty small files, which the kernel answers from memory in a millisecond at most: cheap enough for the event
    loop. Zones are looked up anew each time, as they come and go with drivers.
    """

    def __init__(self, root: str | Path = ROOT, *, clock: Callable[[], float]) -> None:
        self.root = Path(root)
        self.clock = clock

    def read(self) -> HostReading:
        """Every counter that there is; where one of them is refused, none and the error. Never raises."""
        began = self.clock()
        domains: tuple[Domain, ...] = ()
        error, detail = "", ""
        try:
            domains = tuple(_domains(self._zones()))
            if not domains:
                error, detail = "no_rapl", _NO_RAPL
        except PermissionError:
            error, detail = "no_permission", _NO_PERMISSION
        except _MaskedError:
            error, detail = "no_permission", _MASKED
        except OSError as failure:
            error, detail = "no_rapl", f"{_NO_RAPL} ({failure.strerror or type(failure).__name__})"
        at = self.clock()
        return HostReading(SOURCE, at, error, domains, at - began, detail)

    def _zones(self) -> list[_Zone]:
        """All zones, those of intel-rapl before what shows them again."""
        folders = sorted((match.groups(""), folder) for folder in self._folders() if (match := _match(folder)))
        zones = [
            _Zone(folder, name, f"{control}:{number}" if part else "")
            for (control, number, part), folder in folders
            if (name := _text(folder / "name"))
        ]
        if folders and not zones:
            raise _MaskedError
        return zones

    def _folders(self) -> list[Path]:
        try:
            return list(self.root.iterdir())
        except FileNotFoundError:
            return []


class _MaskedError(Exception):
    """Zones are listed, and none of them is there."""


def _match(folder: Path) -> re.Match[str] | None:
    return _ZONE.fullmatch(folder.name)


def _domains(zones: list[_Zone]) -> Iterator[Domain]:
    """The counters of which none is part of another, each name once."""
    outer = [zone for zone in zones if not zone.parent]
    packages = [zone for zone in outer if zone.name.startswith("package")]
    if not packages:
        packages = [zone for zone in outer if zone.name == _PLATFORM]
    seen: set[str] = set()
    for package in packages:
        inner = [zone for zone in zones if zone.parent == package.folder.name and zone.name == _MEMORY]
        for zone, name in ((package, package.name), *((one, f"{package.name}-{_MEMORY}") for one in inner)):
            domain = None if name in seen else _domain(zone, name)
            if domain is not None:
                seen.add(name)
                yield domain


def _domain(zone: _Zone, name: str) -> Domain | None:
    """The counter of a zone; None when it vanished in the meantime. PermissionError when it may not be read."""
    energy = _number(_text(zone.folder / "energy_uj"))
    if energy is None:
        return None
    try:
        largest = _number(_text(zone.folder / "max_energy_range_uj"))
    except PermissionError:
        largest = None
    return Domain(name, energy * _MICRO, (largest or 0) * _MICRO)


def _text(path: Path) -> str:
    """What a file says; '' when it is gone or its driver fails."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError:
        raise
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
