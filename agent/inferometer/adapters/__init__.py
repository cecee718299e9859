"""Adapters: a YAML file per engine says what its metrics and spans mean; Translator and SpanReader apply it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from inferometer.adapters.language import Adapter, load
from inferometer.adapters.spans import SpanReader
from inferometer.adapters.tenants import Tenants
from inferometer.adapters.translate import Translator, matches, recognised

__all__ = ["Adapter", "SpanReader", "Tenants", "Translator", "builtin", "load", "matches", "recognised", "wanted"]


def builtin() -> dict[str, Adapter]:
    """The adapters that ship with the package, by engine."""
    return {adapter.engine: adapter for adapter in _shipped()}


@functools.cache
def _shipped() -> tuple[Adapter, ...]:
    return tuple(load(path) for path in sorted(Path(__file__).parent.glob("*.yaml")))


def wanted(adapters: Iterable[Adapter]) -> frozenset[str]:
    """The sample names that any of these adapters reads."""
    return frozenset().union(*(adapter.wanted for adapter in adapters))
