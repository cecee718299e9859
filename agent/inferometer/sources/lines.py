"""The lines of a /metrics page that have to be looked at: those that a wanted name begins, and odd ones.

Odd are lines that no name begins: a quoted name follows a brace, and the rest, after blanks perhaps, is garbage.

One regular expression finds them on any page. But an engine shows the same names line by line as on the page before,
and that is told for less: a frame has how each line has to begin, and every line is compared with its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from io import BytesIO
from operator import le, lt
from os.path import commonprefix
from weakref import WeakValueDictionary

from msgspec import Struct

from inferometer.model import Pick, picked

LEGAL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A name that stands before its labels."""

_HEAD = re.compile(rb"(%s)[^a-zA-Z0-9_:]|[^a-zA-Z_:]" % LEGAL.pattern.encode())
_NEVER = (b"#", b"\n")
_PATIENCE = 8
_MOST_LINES = 5_000  # a frame keeps all of them, wanted or not


class Finder:
    """Finds the lines of ``wanted`` names, None for all, on pages that are mostly like the one before.

    A line that it gives may end with its line feed. ``search`` finds them on any page, and remembers none.
    Not to be used from two threads at once.
    """

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self.search = _search(wanted)
        self._wanted = wanted
        self._frame: _Frame | None = None
        self._strange = 0

    def __call__(self, body: bytes) -> Sequence[bytes]:
        """Those of a page, in its order."""
        lines = self._frame.lines(body) if self._frame is not None else None
        if lines is not None:
            return lines
        # Not of a page that may be the only one; nor often, where lines come and go all the time: it takes its while.
        if self._strange % _PATIENCE == 1:
            self._frame = _framed(body, self._wanted)
        self._strange += 1
        return self.search(body)


class _Frame(Struct, frozen=True, weakref=True):
    """A page's lines by how they begin: with a name and what ends it, or as no name does.

    A line that sorts neither before its head nor after all lines with it, its ``tails``, begins so.
    """

    heads: tuple[bytes, ...]
    tails: tuple[bytes, ...]
    pick: Pick

    def lines(self, body: bytes) -> Sequence[bytes] | None:
        """Those that have to be looked at; None where any line of the page begins otherwise than here."""
        lines = BytesIO(body).readlines()
        if len(lines) == len(self.heads) and all(map(le, self.heads, lines)) and all(map(lt, lines, self.tails)):
            return self.pick(lines)
        return None


_frames: WeakValueDictionary[tuple[tuple[bytes, ...], tuple[int, ...]], _Frame] = WeakValueDictionary()


def _framed(body: bytes, wanted: frozenset[str] | None) -> _Frame | None:
    """The frame of a page, one for all engines that show such pages; None of one that is too long or too odd."""
    heads: dict[bytes, bytes] = {}  # of many lines with one name one is kept
    found, places = [], []
    for place, line in enumerate(BytesIO(body)):
        begin = _HEAD.match(line)
        if place == _MOST_LINES or begin is None or begin[0].endswith(b"\xff"):
            return None
        head = heads.setdefault(begin[0], begin[0])
        found.append(head)
        if head not in _NEVER if wanted is None or begin[1] is None else begin[1].decode() in wanted:
            places.append(place)
    key = tuple(found), tuple(places)
    frame = _frames.get(key)
    if frame is None:
        tails = {head: head[:-1] + bytes([head[-1] + 1]) for head in heads}
        frame = _frames[key] = _Frame(key[0], tuple(map(tails.__getitem__, found)), picked(places))
    return frame


@lru_cache(64)
def _search(wanted: frozenset[str] | None) -> Callable[[bytes], list[bytes]]:
    """Finds the lines on any page."""
    odd = rb"[^#\n]" if wanted is None else rb"[^#a-zA-Z_:\n]"
    names = sorted(name for name in wanted or () if LEGAL.fullmatch(name))
    begin = rb"%s(?![a-zA-Z0-9_:])|%s" % (_any_of(names).encode(), odd) if names else odd
    # A search for a line feed is one for a single byte, much faster than one for the beginning of a line.
    find, first = re.compile(rb"\n((?:%s)[^\n]*)" % begin).findall, re.compile(rb"(?:%s)[^\n]*" % begin).match

    def lines(body: bytes) -> list[bytes]:
        begun = first(body)
        return find(body) if begun is None else [begun[0], *find(body)]

    return lines


def _any_of(names: Collection[str]) -> str:
    """An expression for any of these words that looks at no character twice: what they begin with is factored out."""
    begin = commonprefix(list(names))  # noqa: RUF071  characters are meant
    by_next: dict[str, list[str]] = {}
    for rest in (name[len(begin) :] for name in names):
        by_next.setdefault(rest[:1], []).append(rest)
    ends = by_next.pop("", None) is not None
    branches = "|".join(map(_any_of, by_next.values()))
    return re.escape(begin) + (f"(?:{branches}){'?' * ends}" if branches else "")
