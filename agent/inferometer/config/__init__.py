"""Configuration: YAML, environment and flags become one frozen, checked ``Config``; all faults are told at once."""

from __future__ import annotations

from inferometer.config import costs, durations, slos
from inferometer.config.dump import dump
from inferometer.config.flags import FLAGS, Flag
from inferometer.config.load import load, load_to_show
from inferometer.config.schema import Budget, Config, Engine, Feed, Otlp, Price, Slo, Tls, Training, Workload

__all__ = [
    "FLAGS",
    "Budget",
    "Config",
    "Engine",
    "Feed",
    "Flag",
    "Otlp",
    "Price",
    "Slo",
    "Tls",
    "Training",
    "Workload",
    "costs",
    "dump",
    "durations",
    "load",
    "load_to_show",
    "slos",
]
