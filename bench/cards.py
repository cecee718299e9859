"""GPUs for a machine that has none: the tests' driver in C, which answers at once, so that what is left is ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CARDS = 8
_SOURCE = Path(__file__).parents[1] / "tests" / "nvml" / "libnvidia-ml.c"


def driver(folder: Path, instances: int = 0) -> Mapping[str, str]:
    """The environment in which a process finds the driver. ``instances``: MIG instances of each GPU.

    Raises SystemExit where no C compiler can make it.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the GPUs' driver is made of C, and there is no compiler: make tools")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    how = ["-std=gnu11", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library), str(_SOURCE)]
    subprocess.run([compiler, *how], check=True)  # noqa: S603  our own source
    cut = {"FAKE_NVML_MIG": str(instances)} if instances else {}
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_GPUS": str(CARDS), **cut}
