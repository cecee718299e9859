"""Dumping: a Config as the YAML that would load it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from inferometer.config.node import Path
from inferometer.config.schema import Config
from inferometer.config.tables import table


def dump(config: Config, references: Mapping[Path, str] | None = None) -> str:
    """Every resolved value as YAML, durations with units; secrets appear as the paths of their files.

    ``references``: by path, values to show as they were written, with ``$(NAME)`` in them.
    """
    shown = table(Config).show(config)
    for path, written in (references or {}).items():
        _put(shown, path, written)
    text: str = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120)
    return text


def _put(shown: Any, path: Path, written: str) -> None:
    """A path that is not shown, as of a key that was overruled, is left out."""
    *steps, last = path
    try:
        for step in steps:
            shown = shown[step]
        if shown[last] is not None:
            shown[last] = written
    except (KeyError, IndexError, TypeError):
        return
