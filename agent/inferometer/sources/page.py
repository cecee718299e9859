"""The text of a /metrics page: Prometheus exposition 0.0.4 and what OpenMetrics adds to its lines.

An engine's page has some 670 lines of which an adapter wants a hundred, once a second. So a line that did not
change since the page before is not looked at, an unwanted one costs one look-up, and a wanted one two and a float.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import compress, count
from operator import ne

from msgspec import Struct

from inferometer.model import Labels, Series

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
    """The wanted series in page order; ``malformed`` lines among those looked at; ``complete`` = not cut off.

    ``too_many``: there are more wanted series than are read of one page, and what is after them was not looked at.
    """

    series: tuple[Reading, ...]
    malformed: int
    complete: bool
    too_many: bool = False


class PageParser:
    """Parses the pages of one target. ``wanted``: sample names (``x_total``, ``y_bucket``, …), None for all of them.

    ``remember`` keeps the lines of the page before, about 100 kB for an engine, which saves a third of the time on a
    busy engine and most of it on an idle one. ``most``: wanted series after which a page is not read on. Not to be
    used from two threads at once.
    """

    def __init__(self, wanted: Collection[str] | None, *, remember: bool = True, most: int = sys.maxsize) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._remember, self._most = remember, most
        self._fates: dict[str, bool] = {"#": False}
        self._forget(0)

    def parse(self, body: bytes) -> ParsedPage:
        """Read a page. Never raises: what is no sample is counted, what is no UTF-8 is replaced."""
        series: list[Reading] = []
        malformed = 0
        for block in _blocks(body):
            series.extend(self._block(block))
            malformed += len(self._malformed)
            if len(series) > self._most:
                break
        if not self._remember or len(body) > _BLOCK_BYTES:
            self._forget(0)
        return ParsedPage(tuple(series), malformed, _is_complete(body), len(series) > self._most)

    def _forget(self, lines: int) -> None:
        self._lines: list[str] = [""] * lines
        self._readings: list[Reading | None] = [None] * lines
        self._malformed: set[int] = set()

    def _block(self, block: bytes) -> Iterator[Reading]:
        lines = block.decode("utf-8", "replace").split("\n")
        if len(lines) != len(self._lines):
            self._forget(len(lines))
        readings, malformed = self._readings, self._malformed
        for i in compress(count(), map(ne, lines, self._lines)):
            line = lines[i]
            head, brace, _ = line.partition("{")
            name = head if brace else head.partition(" ")[0]
            fate = self._fates.get(name)
            malformed.discard(i)
            try:
                readings[i] = _usual(line, name) if fate else None if fate is False else self._first(line, name)
            except ValueError:
                readings[i] = None
                malformed.add(i)
        self._lines = lines
        return filter(None, readings)

    def _first(self, line: str, name: str) -> Reading | None:
        """A line whose name was not seen before, or is spelled such that it cannot be remembered."""
        reading = _sample(line)
        if reading is None:
            return None
        is_wanted = self._wanted is None or reading[0].name in self._wanted
        if name == reading[0].name:
            if len(self._fates) >= _NAMES:
                self._fates = {"#": False}
            self._fates[name] = is_wanted
        return reading if is_wanted else None


def is_readable(body: bytes) -> bool:
    """Whether the first block has any sample at all, wanted or not."""
    return bool(PageParser(None).parse(next(_blocks(body), b"")).series)


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


def _usual(line: str, name: str) -> Reading | None:
    """A series and one number; whatever else can follow (a timestamp, an exemplar, blanks) is left to _sample."""
    text, _, number = line.rpartition(" ")
    if text[-1:] != "}" and text != name:
        return _sample(line)
    try:
        return _shared_series(text) if len(text) <= _TEXT_LENGTH else _whole_series(text), _value(number)
    except ValueError:
        return _sample(line)


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
    """A number as Prometheus writes it; of Python's own spellings the underscore and foreign digits are refused."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


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
