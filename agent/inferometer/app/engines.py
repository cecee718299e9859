"""Which adapters may fit each engine's page: all that ship, the one that is named, or a file of the user's own."""

from __future__ import annotations

from pathlib import Path

from inferometer import adapters
from inferometer.adapters import Adapter
from inferometer.config import Config, Engine
from inferometer.errors import AdapterError, ConfigError


def candidates(settings: Config) -> dict[str, tuple[Adapter, ...]]:
    """By an engine's URL. Reads the users' own files; ConfigError says what is wrong with each of them, and where."""
    shipped = adapters.builtin()
    found: dict[str, tuple[Adapter, ...]] = {}
    faults = []
    for i, workload in enumerate(settings.workloads):
        for j, engine in enumerate(workload.engines):
            try:
                found[engine.url] = _of(engine, shipped)
            except AdapterError as error:
                faults.append(f"workloads[{i}].engines[{j}].adapter: {error}")
    if faults:
        raise ConfigError(faults)
    return found


def _of(engine: Engine, shipped: dict[str, Adapter]) -> tuple[Adapter, ...]:
    if engine.adapter is not None:
        return (adapters.load(Path(engine.adapter)),)
    return tuple(shipped.values()) if engine.engine == "auto" else (shipped[engine.engine],)
