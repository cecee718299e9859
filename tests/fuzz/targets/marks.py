"""Marks as a ledger gives them back: what cannot be is refused by name, what is taken is followed without a fault."""

from __future__ import annotations

import copy
import math

import msgspec
from fuzz.draw import Draw
from fuzz.targets.economics import START, WATCH, Scene
from inferometer.interval import Meter
from inferometer.interval.kept import Common, Mark
from inferometer.model import Key
from msgspec.structs import force_setattr


def _written():
    """The marks of a short life with pages, spans and joules, by name; beside them which series the engines have."""
    scene = Scene(Draw(bytes(range(256)) * 2))
    scene.play(30)
    return {name: msgspec.msgpack.decode(mark, type=_kind(name)) for name, mark in scene.marks.items()}


def _kind(name):
    if name.endswith("\n"):
        return tuple[tuple[Key, ...], tuple[tuple[Key, tuple[float, ...]], ...]]
    return Mark if name else Common


LENGTH = 200
MARKS = _written()
DICTIONARY = (
    b"state",
    b"settled_at",
    b"marks",
    b"histograms",
    b"joules",
    b"devices",
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xc0",
    b"\x90",
    b"\x80",
)


def seeds():
    """Untouched, changed, and raw."""
    yield b"\1\0"
    yield b"\1" + bytes(range(100))
    yield b"\0e" + msgspec.msgpack.encode(MARKS["e"])


def check(data):
    """Restore, then go on for some batches; amounts stay finite whatever the marks held."""
    draw = Draw(data)
    if draw.byte() & 1:
        marks = {name: msgspec.msgpack.encode(_changed(draw, copy.deepcopy(mark))) for name, mark in MARKS.items()}
    else:
        name = draw.choose(("e", "", "f", "(w)", "gone", "e\n"))
        marks = {"e": msgspec.msgpack.encode(MARKS["e"]), name: draw.rest()}
    meter = Meter((WATCH,), 5.0)
    faults = meter.restore(marks, 0.0)
    if any("\n" in fault for fault in faults):
        raise AssertionError(faults)
    scene = Scene(draw if draw.more else Draw(bytes(range(64))), meter)
    scene.play(6)
    scene.settle(scene.meter.finish(scene.at))
    total = sum(scene.sums.values())
    if not math.isfinite(total) or scene.at < START:
        raise AssertionError(total)


def _changed(draw, value):
    """The mark with one part replaced, as msgpack would let it be."""
    places = _places(value)
    if not places or draw.byte() > 240:
        return draw.choose(
            (
                None,
                -1.0,
                draw.number(),
                [],
                {},
                "x",
                math.nan,
                math.inf,
                -math.inf,
                1e308,
                [1.0],
                10**18,
                [draw.number()] * 3,
            )
        )
    place = draw.choose(places)
    if isinstance(value, msgspec.Struct):
        force_setattr(value, place, _changed(draw, getattr(value, place)))
        return value
    whole = dict(value) if isinstance(value, dict) else list(value)
    whole[place] = _changed(draw, value[place])
    return whole


def _places(value):
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    return list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list | tuple) else ()
