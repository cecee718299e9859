"""Timezones by name; UTC needs no timezone data on the machine."""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from inferometer.config.faults import near


def zone(name: str) -> tzinfo:
    """The timezone of a checked name."""
    return UTC if name == "UTC" else ZoneInfo(name)


def problem(name: str) -> str:
    """How a fault goes on after the name, or nothing where the name is good."""
    try:
        zone(name)
    except (KeyError, ValueError, OSError):  # unknown, a path outside the data, a directory of the data
        return _advice(name, sorted(available_timezones()))
    return ""


def _advice(name: str, known: list[str]) -> str:
    if not known:
        return ", but this machine has no timezone data; install tzdata, or use UTC"
    guess = near(name, known)
    return ", which is no timezone; " + (f"did you mean {guess}?" if guess else "give one like UTC or Europe/Berlin")
