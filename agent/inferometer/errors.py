"""Every error the agent raises on purpose.

InferometerError
├── ConfigError      the configuration is wrong: all its faults, each with file, line and key
├── AdapterError     an adapter file is wrong
├── LedgerError      the ledger cannot be opened or written
├── RecordingError   a recording cannot be read or written
└── SourceError      a source could not be read; ``reason`` is from a closed set, for a metric label
"""

from __future__ import annotations


class InferometerError(Exception):
    """The root: its text is meant for people and says what to do."""


class ConfigError(InferometerError):
    """A configuration with one or more faults."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class AdapterError(InferometerError):
    """An adapter that cannot be used, with the file and the key at fault."""


class LedgerError(InferometerError):
    """A ledger that cannot be opened or written."""


class RecordingError(InferometerError):
    """A recording that cannot be read or written, with the file at fault."""


class SourceError(InferometerError):
    """A failed reading. ``reason`` goes into a label, the text into the log."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
