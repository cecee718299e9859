"""What may be wrong with the text of a page. A fault takes a seeded random source and a page, and gives another page.

After an exact one nothing is lost: what the page tells falsely or not at all, the next page tells.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]
_VALUE = re.compile(rb"^([^#\n]\S*(?: [^\n{}]*\})?) (\S+)$", re.MULTILINE)
_HISTOGRAM = re.compile(
    rb"^(vllm:(?:time_to_first|e2e_request|request_time_per)\S*_(?:bucket|sum|count)\S*) \S+$", re.MULTILINE
)
_BIRTH = re.compile(rb"^(process_start_time_seconds) (\S+)$", re.MULTILINE)


def _values(rng: random.Random, page: bytes, words: tuple[bytes, ...], pattern: re.Pattern[bytes] = _VALUE) -> bytes:
    """Other words where numbers should be: on one line, on some, or on all."""
    share = rng.choice((0.002, 0.02, 0.3, 1.0))
    return pattern.sub(lambda m: m[1] + b" " + rng.choice(words) if rng.random() < share else m[0], page)


def not_numbers(rng: random.Random, page: bytes) -> bytes:
    return _values(rng, page, (b"NaN", b"+Inf", b"-Inf", b"nan", b"Infinity"))


def negative(rng: random.Random, page: bytes) -> bytes:
    return _values(rng, page, (b"-1", b"-0.5", b"-1e9", b"-5e-324", b"-1e300"))


def huge(rng: random.Random, page: bytes) -> bytes:
    return _values(rng, page, (b"1e18", b"1e300", b"1.7976931348623157e308", b"1e999", b"9" * 400, b"1e16"))


def no_floats(rng: random.Random, page: bytes) -> bytes:
    """Hex, underscores, other scripts, words, nothing at all."""
    words = (b"0x1p3", b"0x10", b"1_000", "१२".encode(), b"true", b"", b"1,5", b"1e", b"--1", b"1\x00")
    return _values(rng, page, words)


def broken_histograms(rng: random.Random, page: bytes) -> bytes:
    """Buckets, sums and counts that are no numbers, on pages that are well otherwise."""
    return _values(rng, page, (b"NaN", b"0x1p3", b"-1", b"+Inf"), _HISTOGRAM)


def denormal_gauges(rng: random.Random, page: bytes) -> bytes:
    gauges = re.compile(rb"^(vllm:(?:num_requests|kv_cache)\S*) \S+$", re.MULTILINE)
    return gauges.sub(lambda m: m[1] + b" " + rng.choice((b"5e-324", b"-0", b"2.2e-308")), page)


def without_lines(rng: random.Random, page: bytes) -> bytes:
    """Lines that are not there: a filter, or an answer that ended between two lines."""
    lines = page.splitlines(keepends=True)
    if rng.random() < 0.5:
        return b"".join(lines[: rng.randrange(1, len(lines))])
    share = rng.random()
    return b"".join(line for line in lines if rng.random() > share) or lines[0]


def shuffled(rng: random.Random, page: bytes) -> bytes:
    lines = page.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def twice(_: random.Random, page: bytes) -> bytes:
    """Every family two times."""
    return page + page


def repeated_lines(rng: random.Random, page: bytes) -> bytes:
    return b"".join(line * rng.choice((1, 1, 2, 3)) for line in page.splitlines(keepends=True))


def contradicted(rng: random.Random, page: bytes) -> bytes:
    """Series that the page shows twice, with another value the second time."""
    share = rng.choice((0.01, 0.1))
    found = [m for m in _VALUE.finditer(page) if rng.random() < share]
    return page + b"".join(b"%s %d\n" % (m[1], rng.choice((0, 1, 10**6))) for m in found)


def storm(rng: random.Random, page: bytes) -> bytes:
    """Labels without end, on families that nobody wants and on one that is counted."""
    text = [f'vllm:lora_requests_info{{id="{rng.random()}"}} 1\n' for _ in range(2000)]
    text += [f'vllm:admission_rejections_total{{model_name="small",reason="r{n}"}} 0\n' for n in range(50)]
    return page + "".join(text).encode()


def long_lines(rng: random.Random, page: bytes) -> bytes:
    size = rng.choice((10_000, 200_000))
    return (
        page + b"x" * size + b" 1\n" + b'vllm:prompt_tokens_total{a="' + b"y" * size + b'"} NaN\n' + b"{" * size + b"\n"
    )


def not_utf8(rng: random.Random, page: bytes) -> bytes:
    junk = bytes(rng.randrange(128, 256) for _ in range(40))
    return page + b"# " + junk + b'\nvllm:odd{a="' + junk + b'"} 1\n' + junk + b"\n"


def nul_bytes(rng: random.Random, page: bytes) -> bytes:
    lines = page.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), b"\x00" * rng.randrange(1, 500) + b"\n")
    return b"".join(lines)


def crlf(_: random.Random, page: bytes) -> bytes:
    return page.replace(b"\n", b"\r\n")


def other_types(rng: random.Random, page: bytes) -> bytes:
    kinds = (b"counter", b"gauge", b"histogram", b"summary", b"untyped", b"unheard-of")
    return re.sub(rb"^(# TYPE \S+) \S+$", lambda m: m[1] + b" " + rng.choice(kinds), page, flags=re.MULTILINE)


def timestamps(rng: random.Random, page: bytes) -> bytes:
    stamp = rng.choice((b"1", b"-5", b"1800000000000", b"9223372036854775807", b"1.5"))
    return _VALUE.sub(lambda m: m[0] + b" " + stamp, page)


def exemplars(_: random.Random, page: bytes) -> bytes:
    return _VALUE.sub(lambda m: m[0] + b' # {trace_id="a"} 0.5 1.5', page) + b"# EOF"


def born_later(rng: random.Random, page: bytes) -> bytes:
    """The start of the process, put forward: its host's clock was set."""
    by = rng.choice((2.0, 3600.0, 1e6))
    return _BIRTH.sub(lambda m: m[1] + b" %f" % (float(m[2]) + by), page)


EXACT: dict[str, Mutation] = {
    one.__name__: one
    for one in (
        not_numbers, negative, huge, no_floats, broken_histograms, denormal_gauges, without_lines, shuffled, twice,
        repeated_lines, contradicted, storm, long_lines, not_utf8, nul_bytes, crlf, other_types, timestamps, exemplars,
        born_later,
    )
}  # fmt: skip
"""Faults of pages that are read all the same, and after which every count is exact."""
