"""What ``inferometer top`` draws of a board that some server sent: lines that fit and steer no terminal, or a sentence."""

from __future__ import annotations

import json
import re

from fuzz.draw import Draw
from inferometer.app.screen import View, fit, lines
from inferometer.app.top import press
from inferometer.app.watch import address, understood
from inferometer.errors import InferometerError

KEYS = ("wall", "currency", "windows", "workloads", "gpus", "sources", "hints", "name", "made", "engines", "up", "errors", "detail", "how", "index", "power_watts", "power_limit_watts", "activity_ratio", "source", "idle_ratio", "cost_per_million_all", "1m")  # fmt: skip
DICTIONARY = (
    *tuple(f'"{key}":'.encode() for key in KEYS),
    b"\\u001b[2J",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b"1e400",
    b"-1e308",
)
GOOD = {
    "wall": 1.7e9,
    "currency": "USD",
    "windows": ["1m"],
    "workloads": [
        {"name": "chat", "windows": {"1m": {"cost_per_million_all": 1.5, "idle_ratio": 0.5}}, "made": {"cost": {"how": "assumed"}},
         "engines": [{"name": "e", "up": True}]},
    ],
    "gpus": [{"index": 0, "up": True, "workloads": ["chat"], "power_watts": 300.0, "power_limit_watts": 700.0, "activity_ratio": 0.5}],
    "sources": [{"source": "e", "up": False, "errors": {"timeout": 2}, "detail": "slow"}],
    "hints": ["no price"],
}  # fmt: skip
_PLAIN = re.compile(r"\x1b\[\d*m")


def seeds():
    """A good board, and decisions that change one."""
    yield b"\0" + json.dumps(GOOD).encode()
    yield b"\1" + bytes(range(80))


def check(data):
    """Any JSON."""
    draw = Draw(data)
    try:
        board = _changed(draw, GOOD, 0) if draw.byte() & 1 else json.loads(draw.rest())
    except (ValueError, RecursionError):
        _addresses(data)
        return
    view = press(View(), "rw>" if len(data) & 1 else "<")
    try:
        shown = fit(lines(understood(board, "http://x"), view, "http://x", ""), 100, 20, "keys")
    except InferometerError:
        return
    if len(shown) != 20 or any(not _PLAIN.sub("", line).isprintable() for line in shown):
        raise AssertionError(shown)


def _addresses(data):
    try:
        address(data.decode("utf-8", "replace"))
    except InferometerError:
        return


def _changed(draw, value, depth):
    """The value with parts replaced by others."""
    what = draw.byte() if draw.more else 0
    if what > 200:
        return draw.choose(
            (None, "", "\x1b[2J", -1, 1e308, draw.number(), [], {}, True, {"a": []}, draw.text(6), 10**400)
        )
    if isinstance(value, dict):
        kept = {key: _changed(draw, one, depth + 1) for key, one in value.items() if what != 200}
        return kept | ({draw.choose(KEYS): draw.number()} if what > 180 else {})
    if isinstance(value, list):
        return [_changed(draw, one, depth + 1) for one in value]
    return value
