"""A disk that tests set up: a library of our own in C that a program is started with, its log and its faults."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "disk" / "disk.c"


class Control(ctypes.Structure):
    """What the disk refuses: errno of each, 0 for nothing; ``room`` in bytes counts where it is ``limited``."""

    _fields_ = (("room", ctypes.c_int64), *((name, ctypes.c_int32) for name in
                ("limited", "write_error", "sync_error", "open_error")))  # fmt: skip


def build(folder):
    """Compile the library into ``folder``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert os.environ.get("CI") != "true", "a C compiler is missing; `make tools` installs one"
        pytest.skip("no C compiler is installed")
    library = Path(folder) / "disk.so"
    warnings = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *warnings, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class FakeDisk:
    """The disk below ``root`` of every program that is started with ``environ``. ``log``: what they did to it."""

    def __init__(self, library, root, log=None):
        self.root, self.log = Path(root), log
        path = Path(library).with_name(f"control-{os.urandom(4).hex()}")
        path.write_bytes(bytes(ctypes.sizeof(Control)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.control = Control.from_buffer(self._memory)
        self.environ = {"LD_PRELOAD": str(library), "DISK_ROOT": str(root), "DISK_CONTROL": str(path)}
        if log is not None:
            self.environ["DISK_LOG"] = str(log)

    def full(self, room=0):
        """So many bytes fit still."""
        self.control.room, self.control.limited = room, 1

    def refuse(self, write=0, sync=0, opening=0):
        """These calls fail with these errnos."""
        self.control.write_error, self.control.sync_error, self.control.open_error = write, sync, opening

    def mend(self):
        """Nothing is refused any more."""
        self.control.limited = 0
        self.refuse()
