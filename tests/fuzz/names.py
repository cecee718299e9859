"""Which targets there are, and where their corpora lie."""

from __future__ import annotations

import importlib
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "targets").glob("*.py"))


def target(name):
    """The module: ``check(data)`` raises where a promise is broken; ``seeds()``; maybe ``DICTIONARY``."""
    return importlib.import_module(f"fuzz.targets.{name}")


def corpus(name):
    """The committed inputs of a target, each of which found something once."""
    return sorted((HERE / "corpus" / name).glob("*"))
