"""What the ledger keeps of the meter: its marks, from which a later life goes on (design §7, restart)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from inferometer.interval.engine import EngineState
from inferometer.interval.followed import Followed
from inferometer.interval.joules import Joules
from inferometer.interval.sound import is_sound
from inferometer.model import NO_SERIES, Shape

_SERIES = "\n"  # in the name of no engine


class Mark(Struct, omit_defaults=True):
    """An engine's state as the ledger keeps it: ``ahead`` is what the wall clock was ahead of the steady one.

    ``left``: it was no longer followed, so that the time since is none of its workload's. ``gpus``: what it held.
    ``source``: what it was read from.
    """

    ahead: float
    state: EngineState
    left: bool = False
    gpus: float | None = None
    source: str = ""

    def settled_at(self, ahead: float) -> float:
        """Until when the engine's time is settled, on a steady clock that the wall clock is ``ahead`` of."""
        return self.state.settled_at + self.ahead - ahead

    def shifted(self, ahead: float) -> EngineState:
        """The state, with its times on a steady clock that the wall clock is ``ahead`` of."""
        self.state.shift(self.ahead - ahead)
        return self.state


class Common(Struct):
    """What the ledger keeps beside the engines' states. ``forgotten``: as Left has it.

    ``gone``: engines that an agent's life began without, and ran without since: their time is none of theirs.
    """

    watched_since: dict[str, float]
    joules: Joules
    ahead: float = 0.0
    gone: tuple[str, ...] = ()
    forgotten: float = 0.0


class _Since(Struct):
    watched_since: dict[str, float]


_Part = TypeVar("_Part", Mark, Common, _Since)


class Kept:
    """Makes the marks of engines, by name. Which series an engine has is a mark of its own, written when it changes."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}

    def mark(self, name: str, engine: Followed, state: EngineState, ahead: float) -> dict[str, bytes]:
        """What is to be written of an engine that is followed."""
        watched, shape = engine.watched, state.marks.shape
        marks = {name: encoded(Mark(ahead, state, gpus=watched.gpus, source=watched.source))}
        if shape is not NO_SERIES and self._shapes.get(name) is not shape:
            self._shapes[name] = shape
            marks[name + _SERIES] = shape.encoded()
        return marks

    def left(self, name: str, mark: bytes) -> dict[str, bytes]:
        """What is to be written of one that no longer is: its mark, which is whole, or nothing."""
        return {name: mark, name + _SERIES: b""} if self._shapes.pop(name, None) is not None else {name: mark}

    def restored(self, marks: Mapping[str, bytes]) -> Iterable[tuple[str, bytes, bytes]]:
        """Every engine's mark as a ledger has it, by name, and what says which series it has."""
        for name, mark in marks.items():
            if name.endswith(_SERIES):
                self._shapes[name.removesuffix(_SERIES)] = NO_SERIES
            elif name:
                yield name, mark, marks.get(name + _SERIES, b"")


def encoded(mark: Mark | Common) -> bytes:
    """As the ledger has it."""
    return msgspec.msgpack.encode(mark)


def decoded(mark: bytes, series: bytes = b"") -> Mark:
    """What the ledger has, whole; ``series``: what says which series it has. ValueError where that is not so."""
    found = msgspec.msgpack.decode(mark, type=Mark)
    if found.state.marks.numbers:
        found.state.marks.spell_out(Shape.decoded(series))
    return _sound(found)


def watched_since(mark: bytes) -> dict[str, float]:
    """Since when workloads are watched, which every version's mark says; ValueError as above."""
    return _sound(msgspec.msgpack.decode(mark, type=_Since)).watched_since


def common(mark: bytes) -> Common:
    """All of the mark beside the engines'; ValueError as above."""
    return _sound(msgspec.msgpack.decode(mark, type=Common))


def _sound(kept: _Part) -> _Part:
    if not is_sound(kept):
        raise ValueError("it holds numbers that cannot be")
    return kept
