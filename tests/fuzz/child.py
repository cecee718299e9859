"""One target under atheris: started by run.py."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris
from fuzz.names import target

HANG_SECONDS = 1.0
"""Of processor time: what another process on the machine takes from us is no hang."""


def main(name, measured, stats, arguments):
    """``measured``: the package whose coverage guides."""
    with atheris.instrument_imports(include=[measured]):
        found = target(name)
    slowest = 0.0
    now, check = time.process_time, found.check
    for number, seed in enumerate(found.seeds()):
        (Path(stats).parent / "corpus" / f"seed-{number}").write_bytes(seed)

    def one(data):
        nonlocal slowest
        began = now()
        check(data)
        took = now() - began
        if took > slowest:
            slowest = took
            Path(stats).write_text(f"{took:.3f}", encoding="ascii")
            if took > HANG_SECONDS:
                raise TimeoutError(f"{took:.1f} s of processor time")

    atheris.Setup(["fuzz", *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
