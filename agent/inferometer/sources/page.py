"""The text of a /metrics page: Prometheus exposition 0.0.4 and what OpenMetrics adds to its lines.

An engine's page has some 670 lines of which an adapter wants a hundred, once a second, and from one page to the next
only numbers change. So the wanted lines are picked out of the page (``lines``), and compared with how those of the page
before began: what is left of them is numbers. Where they begin otherwise, each is read whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferometer.model import Labels, Layout, Series
from inferometer.sources.lines import LEGAL, Finder

_TEXTS = 65_536  # series texts remembered by all parsers together
_TEXT_LENGTH = 2_048  # a longer series text is parsed anew every time
_LABELS = 1_000  # labels on one line
_BLOCK_BYTES = 1 << 20  # parsed at a time; a page of several blocks is not remembered

_NAME = re.compile(rf"[ \t]*({LEGAL.pattern})?[ \t]*")
_QUOTED = r'"((?:[^"\\]++|\\.)*+)"'
_LABEL = re.compile(
    rf"[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*)|{_QUOTED})[ \t]*(?:=[ \t]*{_QUOTED}[ \t]*)?([,}}])",
    re.DOTALL,
)
_CLOSE = re.compile(r"[ \t]*\}")
_ESCAPE = re.compile(r'\\([\\"n])')

Reading = tuple[Series, float]


class ParsedPage(Struct, frozen=True):
    """The wanted series in page order with their values.

    ``malformed`` lines among those looked at; ``complete`` = not cut off. ``too_many``: there are more wanted series
    than are read of one page, and what is after them was not looked at.
    """

    layout: Layout
    values: tuple[float, ...]
    malformed: int
    complete: bool
    too_many: bool = False

    @property
    def series(self) -> tuple[Reading, ...]:
        """Every series with its value."""
        return tuple(zip(self.layout, self.values, strict=True))


class PageParser:
    """Parses the pages of one target. ``wanted``: sample names (``x_total``, ``y_bucket``, …), None for all of them.

    ``most``: wanted series after which a page is not read on. Not to be used from two threads at once.
    """

    def __init__(self, wanted: Collection[str] | None, *, most: int = sys.maxsize) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._lines = Finder(self._wanted)
        self._most = most
        self._outline: _Outline | None = None

    def parse(self, body: bytes) -> ParsedPage:
        """Read a page. Never raises: what is no sample is counted, what is no UTF-8 is replaced."""
        complete = _is_complete(body)
        if len(body) > _BLOCK_BYTES:
            return self._read(map(self._lines.search, _blocks(body))).page(self._most, complete=complete)
        lines, outline = self._lines(body), self._outline
        values = outline.values(lines) if outline is not None and complete else None
        if outline is not None and values is not None:
            return ParsedPage(outline.layout, values, 0, complete)
        draft = self._read([lines])
        page = draft.page(self._most, complete=complete)
        is_plain = complete and not page.too_many and len(draft.begins) == len(lines) > 0 and all(draft.begins)
        self._outline = _shared_outline(tuple(draft.begins), page.layout) if is_plain else None
        return page if self._outline is None else replace(page, layout=self._outline.layout)

    def _read(self, blocks: Iterable[Sequence[bytes]]) -> _Draft:
        """Read every line that has to be looked at."""
        draft = _Draft()
        for lines in blocks:
            for line in lines:
                try:
                    reading, begin = _reading(line)
                except ValueError:
                    draft.malformed += 1
                    continue
                if reading is not None and (self._wanted is None or reading[0].name in self._wanted):
                    draft.add(reading, begin)
            if len(draft.layout) > self._most:
                break
        return draft


class _Draft:
    """What has been read of a page line by line. ``begins``: of each wanted line what is before its number."""

    def __init__(self) -> None:
        self.layout: list[Series] = []
        self.values: list[float] = []
        self.begins: list[bytes] = []
        self.malformed = 0

    def add(self, reading: Reading, begin: bytes) -> None:
        """A wanted line."""
        self.layout.append(reading[0])
        self.values.append(reading[1])
        self.begins.append(begin)

    def page(self, most: int, *, complete: bool) -> ParsedPage:
        """The page that these lines are."""
        too_many = len(self.layout) > most
        return ParsedPage(tuple(self.layout), tuple(self.values), self.malformed, complete, too_many)


class _Outline(Struct, frozen=True, weakref=True):
    """The wanted lines of a page without their numbers."""

    begins: tuple[bytes, ...]
    layout: Layout

    def values(self, lines: Sequence[bytes]) -> tuple[float, ...] | None:
        """The numbers of a page with these wanted lines; None where it has others."""
        if len(lines) != len(self.begins) or not all(map(bytes.startswith, lines, self.begins)):
            return None
        return _values(list(map(bytes.removeprefix, lines, self.begins)))


def _values(texts: list[bytes]) -> tuple[float, ...] | None:
    """Numbers as Prometheus writes them; None where one is none, or is followed by a timestamp or an exemplar."""
    try:
        values = _as_json.decode(b"[%b]" % b",".join(texts))  # many times as fast as one after the other
        if len(values) == len(texts):
            return values
    except msgspec.DecodeError:  # JSON has no infinities, and is strict about zeros
        pass
    try:
        return tuple(map(float, texts)) if _are_plain(texts) else None
    except ValueError:
        return None


_as_json = msgspec.json.Decoder(tuple[float, ...])
_outlines: WeakValueDictionary[tuple[bytes, ...], _Outline] = WeakValueDictionary()


def _shared_outline(begins: tuple[bytes, ...], layout: Layout) -> _Outline:
    """Engines of one kind show the same series: a thousand of them have one outline, and one layout."""
    outline = _outlines.get(begins)
    if outline is None:
        outline = _outlines[begins] = _Outline(begins, layout)
    return outline


def is_readable(body: bytes) -> bool:
    """Whether the first block has any sample at all, wanted or not."""
    return bool(PageParser(None).parse(next(_blocks(body), b"")).layout)


def _blocks(body: bytes) -> Iterator[bytes]:
    """The body in pieces of about a mebibyte that end with a line: parsing takes little room beside the text."""
    start, size = 0, len(body)
    while size - start > _BLOCK_BYTES:
        end = body.rfind(b"\n", start, start + _BLOCK_BYTES) + 1 or body.find(b"\n", start) + 1 or size
        yield body[start:end]
        start = end
    yield body[start:]


def _is_complete(body: bytes) -> bool:
    """OpenMetrics lets the line feed after its end marker go; anything else without one was cut off."""
    return body.endswith((b"\n", b"\n# EOF")) or body == b"# EOF"


def _reading(line: bytes) -> tuple[Reading | None, bytes]:
    """The sample on a line, None where there is none, and all that is before its number.

    That is empty where more than the number can change (a timestamp, an exemplar). ValueError where it is no sample.
    """
    head, _, number = line.rpartition(b" ")
    try:
        series = (_shared_series if len(head) <= _TEXT_LENGTH else _whole_series)(head.decode("utf-8", "replace"))
        return (series, _value(number)), head + b" "
    except ValueError:
        return _sample(line.decode("utf-8", "replace")), b""


def _sample(line: str) -> Reading | None:
    """The sample on any line; None on a blank one or a comment. Timestamp and exemplar are checked and dropped."""
    if line.lstrip()[:1] in ("", "#"):
        return None
    series, end = _parse_series(line)
    value, *more = line[end:].partition(" # ")[0].split()
    if len(more) > 1:
        raise ValueError(line)
    for timestamp in more:
        _value(timestamp.encode())
    return series, _value(value.encode())


def _value(text: bytes) -> float:
    """One number."""
    values = _values([text])
    if values is None:
        raise ValueError(text)
    return values[0]


def _are_plain(texts: Iterable[bytes]) -> bool:
    """Of Python's own spellings of numbers the underscore and foreign digits are refused."""
    all_texts = b"".join(texts)
    return all_texts.isascii() and b"_" not in all_texts


def _whole_series(text: str) -> Series:
    """The series that ``text`` spells and nothing else."""
    series, end = _parse_series(text + " ")
    if end <= len(text) and text[end:].strip(" \t"):
        raise ValueError(text)
    return series


# Engines of one kind spell the same series, so all parsers share them.
_shared_series = lru_cache(_TEXTS)(_whole_series)


def _parse_series(line: str) -> tuple[Series, int]:
    """The series at the start of a line and where the rest begins."""
    match = _NAME.match(line)
    if match is None:
        raise ValueError(line)
    name, end = match[1] or "", match.end()
    if line[end : end + 1] == "{":
        return _labelled(line, name, end + 1)
    if not name or end == match.end(1):
        raise ValueError(line)
    return Series(name, ()), end


def _labelled(line: str, name: str, start: int) -> tuple[Series, int]:
    labels: dict[str, str] = {}
    for match in _labels(line, start):
        plain, quoted, value, end = match[1], match[2], match[3], match.end()
        key = plain or _unescape(quoted or "")
        if value is None and not name and plain is None:
            name = key  # a quoted name without a value is the metric's own
        elif value is None or not key or key in labels or len(labels) >= _LABELS:
            raise ValueError(line)
        else:
            labels[key] = _unescape(value)
        start = end
        if match[4] == "}":
            return _named(name, tuple(labels.items()), line), end
    closing = _CLOSE.match(line, start)
    if closing is None:
        raise ValueError(line)
    return _named(name, tuple(labels.items()), line), closing.end()


def _labels(line: str, start: int) -> Iterator[re.Match[str]]:
    while match := _LABEL.match(line, start):
        yield match
        start = match.end()


def _named(name: str, labels: Labels, line: str) -> Series:
    if not name:
        raise ValueError(line)
    return Series(name, labels)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], text) if "\\" in text else text
