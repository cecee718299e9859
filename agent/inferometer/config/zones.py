"""Timezones by name; UTC needs no timezone data on the machine."""

from __future__ import annotations

from datetime import UTC, tzinfo

from inferometer.config.faults import near


def zone(name: str) -> tzinfo:
    """The timezone of a checked name."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - with all that is known of the machine's Python

    return ZoneInfo(name)


def problem(name: str) -> str:
    """How a fault goes on after the name, or nothing where the name is good."""
    try:
        zone(name)
    except (KeyError, ValueError, OSError):  # unknown, a path outside the data, a directory of the data
        from zoneinfo import available_timezones  # noqa: PLC0415 - only for what is wrong

        return _advice(name, sorted(available_timezones()))
    return ""


def _advice(name: str, known: list[str]) -> str:
    if not known:
        return ", but this machine has no timezone data; install tzdata, or use UTC"
    guess = near(name, known)
    return ", which is no timezone; " + (f"did you mean {guess}?" if guess else "give one like UTC or Europe/Berlin")
