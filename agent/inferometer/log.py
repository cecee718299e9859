"""Logging: a constant message and key=value fields, as logfmt or JSON, and only when something changes."""

from __future__ import annotations

import json
import logging
import sys
import time

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def setup(level: str = "info", fmt: str = "logfmt") -> None:
    """Send the log to stderr. ``level``: debug, info, warning, error; ``fmt``: logfmt or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if fmt == "json" else _Logfmt())
    handler.addFilter(_is_ours)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.ERROR)


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what is malformed in a client's request: its bytes may be a password, and anybody could fill the log."""
    fault = record.exc_info[1] if record.exc_info else None
    return not (record.name == "aiohttp.server" and type(fault).__module__ == "aiohttp.http_exceptions")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    fields: dict[str, object] = {
        "ts": f"{stamp}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "msg": record.getMessage(),
    }
    fields.update((key, value) for key, value in vars(record).items() if key not in _RESERVED)
    if record.exc_info and record.exc_info[1]:
        fields["error"] = repr(record.exc_info[1])
    return fields


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), default=str)


class _Logfmt(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in _fields(record).items())


def _quoted(text: str) -> str:
    plain = text and not any(c in ' "=\n\t\\' for c in text)
    return text if plain else json.dumps(text)
