"""Where and of what a measurement was taken: without it a number means nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def described() -> str:
    """Processor, cores, kernel, file system, Python, the commit and the day, on one line."""
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.release()}, {_file_system(_ROOT)}, {_python()}"
    cores = f"{os.cpu_count()} cores (load {load:.1f} before)"
    return f"{_processor()}, {cores}, {system}, commit {_commit()}, {datetime.now(UTC).date()}"


def _python() -> str:
    """Its version, and whose it is: how it was compiled shows in all that it takes."""
    owner = "the system's" if Path(sys.base_prefix) == Path("/usr") else "of its own"
    with contextlib.suppress(OSError):
        owner = owner.replace("the system", platform.freedesktop_os_release()["NAME"])
    return f"Python {platform.python_version()} ({owner})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _file_system(path: Path) -> str:
    """The type of the one that a path is on: commits to memory would cost nothing."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    around = [(len(where), kind) for _, where, kind, *_ in mounts if path.is_relative_to(where)]
    return max(around, default=(0, "unknown file system"))[1]


def _commit() -> str:
    """The commit, and whether the code differs from it."""
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return "unknown"
    said = [
        subprocess.run([git, *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603  git
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "agent", "bench/*.py"])
    ]
    return said[0].strip() + (" with changes" if said[1] else "")
