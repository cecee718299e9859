"""Where a measurement takes place: a folder on a disk, a printer, children that end with it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_CACHE = Path(__file__).parents[1] / ".cache"  # on a disk, where temporary folders may be in memory


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder for the length of the block."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended too
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_CACHE, ignore_cleanup_errors=True) as name:
        yield Path(name)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parser(part: str, text: str | None) -> argparse.ArgumentParser:
    """Options that every part has."""
    made = argparse.ArgumentParser(prog=f"python -m {part}", description=text)
    made.add_argument("--out", type=Path, help="keep the result as JSON in this folder")
    return made


def numbers(text: str) -> list[int]:
    """An option's value with commas."""
    return [int(number) for number in text.split(",")]
