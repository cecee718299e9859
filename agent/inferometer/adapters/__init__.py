"""Adapters: one YAML file per engine says what its metrics mean; ``Translator`` applies it to pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inferometer.adapters.language import Adapter, load
from inferometer.adapters.translate import Translator, matches

__all__ = ["Adapter", "Translator", "builtin", "load", "matches", "wanted"]


def builtin() -> dict[str, Adapter]:
    """The adapters that ship with the package, by engine."""
    adapters = (load(path) for path in sorted(Path(__file__).parent.glob("*.yaml")))
    return {adapter.engine: adapter for adapter in adapters}


def wanted(adapters: Iterable[Adapter]) -> frozenset[str]:
    """The sample names that any of these adapters reads."""
    return frozenset().union(*(adapter.wanted for adapter in adapters))
