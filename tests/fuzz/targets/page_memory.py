"""A parser of pages that remembers the page before, or wants some names only, says what one says that does neither."""

from __future__ import annotations

from fuzz.targets import page
from inferometer.sources.page import PageParser, is_readable

WANTED = ("x", "x_total", "y_bucket", "vllm:prompt_tokens_total", "")
LENGTH = 512
DICTIONARY = page.DICTIONARY


def seeds():
    """Two pages behind one another, parted by a NUL."""
    yield b'# HELP x Help.\n# TYPE x counter\nx_total{a="b"} 1\n\0x_total{a="b"} 2\n# EOF\n'
    yield b'y_bucket{le="0.5",m="q\\"\\n\\\\"} 3 1700000000\ny_bucket{le="+Inf"} NaN # {trace_id="k"} 0.4\n\0x 1'
    yield b'{"x y",a="b"} 1\n x {} -Inf\n\nbad{\n\0{"x y",a="b"} 1\n x {} +Inf\n\nbad}\n'


def check(data):
    """The second page, by a parser that has seen the first, by one that has not, and by one that wants some names."""
    before, _, after = data.partition(b"\0")
    remembering, choosy = PageParser(None), PageParser(WANTED)
    for parser in (remembering, choosy):
        for _ in range(3):  # names are learnt from the first, the outline from the second
            parser.parse(before)
    shown, fresh = remembering.parse(after), PageParser(None).parse(after)
    if repr(shown) != repr(fresh):
        raise AssertionError((shown, fresh))
    chosen = choosy.parse(after)
    wanted = tuple(reading for reading in fresh.series if reading[0].name in WANTED)
    if repr(chosen.series) != repr(wanted) or chosen.complete != fresh.complete or chosen.malformed > fresh.malformed:
        raise AssertionError((chosen, wanted))
    if is_readable(after) != bool(fresh.series):
        raise AssertionError("is_readable")
