"""The parser of metrics pages on any bytes: it raises nothing, and every sample that it gives is one."""

from __future__ import annotations

from inferometer.sources.page import PageParser

LENGTH = 96

DICTIONARY = (
    b"# HELP x ", b"# TYPE x counter\n", b"# EOF\n", b"x_total", b"y_bucket", b'{le="+Inf"}', b'{le="', b'"} ', b"+Inf",
    b"-Inf", b"NaN", b"1e308", b"0x1p3", b"1_0", b'\\"', b"\\n", b"\\\\", b' # {trace_id="a"} 1 2', b"{}", b'{"x"}',
    b'{"x",a="b"}', b",}", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\t", b"\0", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x0b", b"\x1c",
    b"vllm:prompt_tokens_total", b" 1700000000000", b"\xd9\xa3", b'a="b",', b"{{", b"}}",
)  # fmt: skip


def seeds():
    """Single lines of every kind."""
    yield b'x_total{a="b"} 1\n# EOF\n'
    yield b'y_bucket{le="+Inf"} NaN # {trace_id="k"} 0.4\n'
    yield b'{"x y",a="q\\"\\n\\\\"} -Inf 17\n'


def check(data):
    """A page by a parser that has seen none before."""
    page = PageParser(None).parse(data)
    if len(page.series) + page.malformed > data.count(b"\n") + 1:
        raise AssertionError("more samples than lines")
    for series, value in page.series:
        names = {name for name, _ in series.labels}
        if not series.name or len(names) != len(series.labels) or "" in names or type(value) is not float:
            raise AssertionError((series, value))
