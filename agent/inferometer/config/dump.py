"""Dumping: a Config as the YAML that would load it again."""

from __future__ import annotations

import yaml

from inferometer.config.schema import Config
from inferometer.config.tables import table


def dump(config: Config) -> str:
    """Every resolved value as YAML, durations with units; secrets appear as the paths of their files."""
    text: str = yaml.safe_dump(table(Config).show(config), sort_keys=False, allow_unicode=True, width=120)
    return text
