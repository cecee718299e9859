"""The parser of metrics pages against prometheus_client's: where both take a page, both say the same of it."""

from __future__ import annotations

import math

from fuzz.targets import page
from inferometer.sources.page import PageParser
from prometheus_client.parser import text_string_to_metric_families

LENGTH = 256
DICTIONARY = page.DICTIONARY


def seeds():
    """Pages that both take."""
    yield b'# HELP x Help.\n# TYPE x gauge\nx{a="b"} 1\nx{a="c"} 2 1700000000000\n'
    yield b'# TYPE y histogram\ny_bucket{le="0.5"} 3\ny_bucket{le="+Inf"} 4\ny_sum 5\ny_count 4\n'
    yield b'y{m="q\\"\\n\\\\"} NaN\nz -Inf\n'


def check(data):
    """Samples in any order, names as they stand on the page."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    if "#" in text or not text.isascii() or any(ord(letter) < 32 and letter != "\n" for letter in text):
        return  # a type changes names there; what is no text either may take as it will
    try:
        theirs = [s for family in text_string_to_metric_families(text) for s in family.samples]
    except Exception:  # noqa: BLE001 - whatever that parser makes of garbage
        return
    found = PageParser(None).parse(data)
    if found.malformed:
        return  # ours refuses more: what stands for one metric twice, names that are none
    ours = sorted((series.name, sorted(series.labels), _shown(value)) for series, value in found.series)
    reference = sorted((s.name, sorted(s.labels.items()), _shown(s.value)) for s in theirs)
    if ours != reference:
        raise AssertionError((ours, reference))


def _shown(value):
    return "NaN" if math.isnan(value) else repr(float(value) + 0.0)  # the reference reads -0 as 0
