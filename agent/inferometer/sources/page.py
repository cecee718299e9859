"""The text of a /metrics page: Prometheus exposition 0.0.4 and what OpenMetrics adds to its lines.

An engine's page has some 670 lines of which an adapter wants a hundred, once a second, and from one page to the next
only numbers change. So a page is compared with the outline of the one before, in C, and then only the wanted numbers
are read; where it has another outline every line is looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from operator import itemgetter

from msgspec import Struct

from inferometer.model import Labels, Layout, Series

_NAMES = 50_000  # names remembered by one parser
_TEXTS = 65_536  # series texts remembered by all parsers together
_TEXT_LENGTH = 2_048  # a longer series text is parsed anew every time
_LABELS = 1_000  # labels on one line
_BLOCK_BYTES = 1 << 20  # parsed at a time; a page of several blocks is not remembered

_NAME = re.compile(r"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)?[ \t]*")
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
        self._most = most
        self._fates: dict[str, bool] = {}
        self._outline: _Outline | None = None

    def parse(self, body: bytes) -> ParsedPage:
        """Read a page. Never raises: what is no sample is counted, what is no UTF-8 is replaced."""
        if len(body) > _BLOCK_BYTES:
            return self._parse_blocks(body)
        lines = body.decode("utf-8", "replace").split("\n")
        outline = self._outline
        values = outline.values(lines) if outline is not None else None
        if outline is None or values is None:
            return self._parse_lines(lines, complete=_is_complete(body))
        return ParsedPage(outline.layout, values, 0, complete=True)

    def _parse_lines(self, lines: list[str], *, complete: bool) -> ParsedPage:
        """Look at every line, and remember the outline of the page if the next one can be read by it."""
        draft = _Draft()
        for number, line in enumerate(lines):
            self._read(line, number, draft)
        too_many = len(draft.layout) > self._most
        self._outline = draft.outline(len(lines)) if complete and not lines[-1] and not too_many else None
        layout = self._outline.layout if self._outline is not None else tuple(draft.layout)
        return ParsedPage(layout, tuple(draft.values), draft.malformed, complete, too_many)

    def _parse_blocks(self, body: bytes) -> ParsedPage:
        draft = _Draft()
        for block in _blocks(body):
            for line in block.decode("utf-8", "replace").split("\n"):
                self._read(line, 0, draft)
            draft.forget_lines()
            if len(draft.layout) > self._most:
                break
        too_many = len(draft.layout) > self._most
        return ParsedPage(tuple(draft.layout), tuple(draft.values), draft.malformed, _is_complete(body), too_many)

    def _read(self, line: str, number: int, draft: _Draft) -> None:
        if line.startswith("#"):
            draft.unwanted("#")
            return
        head, brace, _ = line.partition("{")
        name = head if brace else head.partition(" ")[0]
        fate = self._fates.get(name)
        if fate is False:
            draft.unwanted(name + (brace or " "))
            return
        try:
            reading, begin = _usual(line, name) if fate else (self._first(line, name), "")
        except ValueError:
            draft.malformed += 1
            reading, begin = None, ""
        draft.looked_at(begin, number, reading)

    def _first(self, line: str, name: str) -> Reading | None:
        """A line whose name was not seen before, or is spelled such that it cannot be remembered."""
        reading = _sample(line)
        if reading is None:
            return None
        is_wanted = self._wanted is None or reading[0].name in self._wanted
        if name == reading[0].name:
            if len(self._fates) >= _NAMES:
                self._fates = {}
            self._fates[name] = is_wanted
        return reading if is_wanted else None


class _Outline(Struct, frozen=True):
    """A page without its numbers: how each line begins, and the wanted lines.

    ``begins``: of a wanted line all before its number, of another one enough to know that it is not wanted.
    """

    begins: list[str]
    pick: Callable[[list[str]], tuple[str, ...]]
    before_numbers: tuple[str, ...]
    layout: Layout

    def values(self, lines: list[str]) -> tuple[float, ...] | None:
        """The wanted numbers of a page that has this outline; None where it has another."""
        if len(lines) != len(self.begins) or lines[-1] or not all(map(str.startswith, lines, self.begins)):
            return None
        texts = list(map(str.removeprefix, self.pick(lines), self.before_numbers))
        try:
            return tuple(map(float, texts)) if _are_plain(texts) else None
        except ValueError:  # a timestamp or an exemplar, or no number
            return None


class _Draft:
    """What has been read of a page whose outline is not known."""

    def __init__(self) -> None:
        self.layout: list[Series] = []
        self.values: list[float] = []
        self.malformed = 0
        self._begins: list[str] = []
        self._wanted: list[int] = []

    def unwanted(self, begin: str) -> None:
        """A line that is not wanted because of how it begins."""
        self._begins.append(sys.intern(begin))

    def looked_at(self, begin: str, number: int, reading: Reading | None) -> None:
        """A line by its number that was read whole; ``begin`` is empty where its number is not all that can change."""
        if reading is not None:
            self.layout.append(reading[0])
            self.values.append(reading[1])
            self._wanted.append(number)
        self._begins.append(sys.intern(begin))

    def forget_lines(self) -> None:
        """The page is too large for an outline."""
        self._begins, self._wanted = [], []

    def outline(self, lines: int) -> _Outline | None:
        """The outline, where every line but the empty one after the last can be known by how it begins."""
        if not self._wanted or not all(self._begins[: lines - 1]):
            return None
        first, *others = self._wanted
        pick: Callable[[list[str]], tuple[str, ...]] = itemgetter(first, *others) if others else lambda x: (x[first],)
        return _Outline(self._begins, pick, pick(self._begins), tuple(self.layout))


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


def _usual(line: str, name: str) -> tuple[Reading | None, str]:
    """A series and one number, and all that is before the number.

    Whatever else can follow (a timestamp, an exemplar, blanks) is left to _sample, and makes that empty.
    """
    text, _, number = line.rpartition(" ")
    if text[-1:] != "}" and text != name:
        return _sample(line), ""
    try:
        return (_shared_series(text) if len(text) <= _TEXT_LENGTH else _whole_series(text), _value(number)), text + " "
    except ValueError:
        return _sample(line), ""


def _sample(line: str) -> Reading | None:
    """The sample on any line; None on a blank one or a comment. Timestamp and exemplar are checked and dropped."""
    if line.lstrip()[:1] in ("", "#"):
        return None
    series, end = _parse_series(line)
    value, *more = line[end:].partition(" # ")[0].split()
    if len(more) > 1:
        raise ValueError(line)
    for timestamp in more:
        _value(timestamp)
    return series, _value(value)


def _value(text: str) -> float:
    """A number as Prometheus writes it."""
    if not _are_plain((text,)):
        raise ValueError(text)
    return float(text)


def _are_plain(texts: Iterable[str]) -> bool:
    """Of Python's own spellings of numbers the underscore and foreign digits are refused."""
    all_texts = "".join(texts)
    return all_texts.isascii() and "_" not in all_texts


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
