"""The parser of metrics pages against the reference parser, against the grammar's odd corners, and against garbage."""

import gc
import gzip
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.model import Series
from inferometer.sources.lines import Finder, _frames
from inferometer.sources.page import PageParser, _outlines, is_readable
from prometheus_client.parser import text_string_to_metric_families

PAGES = sorted((Path(__file__).parent / "pages").glob("*.prom.gz"))
NOT_PROMETHEUS = "mlc-llm.prom.gz"


def parse(text, wanted=None):
    return PageParser(wanted).parse(text if isinstance(text, bytes) else text.encode())


def plain(name, labels, value):
    """Comparable form: the reference turns le and quantile into floats, and NaN equals nothing."""
    labels = {k: str(float(v)) if k in ("le", "quantile") else v for k, v in dict(labels).items()}
    return name, tuple(sorted(labels.items())), "NaN" if math.isnan(value) else float(value)


def reference(text):
    """The reference parser's samples, without the _total that it appends to counters which lack it on the page."""
    raw = {line.partition("{")[0].partition(" ")[0] for line in text.split("\n")}
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    names = [s.name if s.name in raw else s.name.removesuffix("_total") for s in samples]
    return Counter(plain(name, s.labels, s.value) for name, s in zip(names, samples, strict=True))


def ours(page):
    return Counter(plain(series.name, series.labels, value) for series, value in page.series)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_real_pages_say_what_the_reference_parser_says(path):
    """Every captured page gives the same series and values as prometheus_client, whole and without a bad line."""
    text = gzip.decompress(path.read_bytes()).decode()
    page = parse(text)
    assert page.complete
    if path.name == NOT_PROMETHEUS:
        assert page.malformed == 4
        return
    assert page.malformed == 0
    assert ours(page) == reference(text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_wanted_picks_exactly_those_names(path):
    """Asking for half of the names gives their series, in page order, as asking for all of them would."""
    body = gzip.decompress(path.read_bytes())
    everything = parse(body).series
    wanted = sorted({series.name for series, _ in everything})[::2]
    expected = [repr(reading) for reading in everything if reading[0].name in wanted]
    assert [repr(reading) for reading in parse(body, wanted).series] == expected


LINES = {
    "x 1": ("x", (), 1.0),
    "x\t1": ("x", (), 1.0),
    "  x   1  ": ("x", (), 1.0),
    "x 1\r": ("x", (), 1.0),
    "x 1 1700000000000": ("x", (), 1.0),
    "x 1 -5\r": ("x", (), 1.0),
    "x{} 1": ("x", (), 1.0),
    'x{a="b"} 1': ("x", (("a", "b"),), 1.0),
    'x{a="b"}1': ("x", (("a", "b"),), 1.0),
    'x {a="b"} 1': ("x", (("a", "b"),), 1.0),
    'x{a="b",} 1': ("x", (("a", "b"),), 1.0),
    'x{ a = "b" ,\tc="d" }\t1': ("x", (("a", "b"), ("c", "d")), 1.0),
    'x{a="b"}  1': ("x", (("a", "b"),), 1.0),
    'x{a="b"} 1 1700000000000': ("x", (("a", "b"),), 1.0),
    'x{a="} 5"} 1': ("x", (("a", "} 5"),), 1.0),
    'x{a="{,= # ",b=""} 1': ("x", (("a", "{,= # "), ("b", "")), 1.0),
    r'x{a="\\n\"\n\d"} 1': ("x", (("a", '\\n"\n\\d'),), 1.0),
    'x{a="ünï\u2028\x0b"} 1': ("x", (("a", "ünï\u2028\x0b"),), 1.0),
    '{"my.name",a="b"} 1': ("my.name", (("a", "b"),), 1.0),
    '{"my \\"name\\""} 1': ('my "name"', (), 1.0),
    'x{"my.label"="b"} 1': ("x", (("my.label", "b"),), 1.0),
    'x_bucket{le="1"} 7 # {trace_id="a b"} 0.5 1.7e9': ("x_bucket", (("le", "1"),), 7.0),
    'x_bucket{le="1"} 7 # {trace_id="a"} 0.5': ("x_bucket", (("le", "1"),), 7.0),
    "x_total 7 # {} 0.5": ("x_total", (), 7.0),
    "x +Inf": ("x", (), math.inf),
    "x -Inf": ("x", (), -math.inf),
    "x Inf": ("x", (), math.inf),
    "x NaN": ("x", (), math.nan),
    "x -nan": ("x", (), math.nan),
    "x 1e+011": ("x", (), 1e11),
    "x 9007199254740993": ("x", (), 9007199254740993.0),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("again", [False, True], ids=["first", "remembered"])
def test_lines_in_every_spelling(line, again):
    """Each spelling is read the same whether its name was met before on the page or not."""
    name, labels, value = LINES[line]
    before = 'x{z="z"} 0\nx_bucket{le="0"} 0\nx_total 0\n' if again else ""
    page = parse(f"{before}{line}\n")
    assert page.malformed == 0
    assert repr(page.series[-1]) == repr((Series(name, labels), value))


BAD = [
    "x", "x ", "x one", "x 1_0", "x 0x10", "x \u0661", "x 1 2 3", "x 1 now", "x 5#6", "1x 1", "x-y 1",
    "x{a=b} 1", 'x{a="b} 1', 'x{a="b" 1', 'x{a="b"}', 'x{a="b"c="d"} 1', 'x{a="b",,} 1', "x{,} 1", "x{a} 1",
    'x{a="b",a="c"} 1', 'x{1a="b"} 1', 'x{"y"} 1', '{"x","y"} 1', "{} 1", '{a="b"} 1', '{""} 1',
    "<html>", '{"status": "ok"}',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("again", [False, True], ids=["first", "remembered"])
def test_malformed_lines_are_counted_and_the_rest_is_read(line, again):
    """A line that is no sample costs that line and is counted, also when its name is known."""
    before = "x 0\n" if again else ""
    page = parse(f'{before}{line}\ny{{a="b"}} 2\n')
    assert page.malformed == 1
    assert page.series[-1] == (Series("y", (("a", "b"),)), 2.0)
    assert len(page.series) == 1 + again


def test_comments_and_blank_lines_are_nothing():
    """HELP, TYPE, UNIT, remarks, blanks and the end marker are neither samples nor faults."""
    page = parse('# HELP x it {is} 1\n# TYPE x counter\n#x 1\n  # y 2\n\n \t\r\n# {"a"} 1\nx 1\n# EOF\n')
    assert (len(page.series), page.malformed, page.complete) == (1, 0, True)


@pytest.mark.parametrize(
    ("body", "complete"),
    [("", False), ("x 1", False), ("x 1\ny 12", False), ("x 1\n", True), ("x 1\r\n", True), ("\n", True),
     ("x 1\n# EOF", True), ("# EOF", True), ("x 1\n# EO", False), ("x 1 # EOF", False)],
)  # fmt: skip
def test_a_page_that_was_cut_off_says_so(body, complete):
    """Without its last line feed a page may lack half a number."""
    assert parse(body).complete is complete


def read(page):
    """What a page says; of lines that are known to be unwanted it does not matter whether they are malformed."""
    return page.layout, [repr(value) for value in page.values], page.complete


def test_a_page_depends_on_nothing_but_its_text():
    """One parser fed page after page (values, lines and order changing) gives what a new parser gives for each."""
    pages = [
        'a{l="1"} 1\nb 1\nc 1\n',
        'a{l="1"} 2\nb 1\nc x\n',
        'a{l="1"} 2\nc 3\nb 1\n',
        'c 3\na{l="1"} 2\nb 1 5\n',
        "b 1\n",
        "b oops\n",
        "",
        'a{l="1"} 2\nd 4\nb 1\n',
        'a{l="1"} 2\n<d> 4\nb 1\n',
        'a{l="1"} 2\nd 4\nb 1\n',
    ]
    for wanted in (None, ("a", "b")):
        parser = PageParser(wanted)
        for text in [text for text in pages for _ in range(3)] + pages:
            assert read(parser.parse(text.encode())) == read(parse(text, wanted))
    assert [parse(text).malformed for text in pages] == [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]


def test_malformed_lines_stay_counted_while_they_stay():
    """A page read twice has as many bad lines the second time, and none once they are mended."""
    parser = PageParser(None)
    assert [parser.parse(text).malformed for text in (b"x y\nz 1\n", b"x y\nz 1\n", b"x 2\nz 1\n")] == [1, 1, 0]


def test_invalid_utf8_is_replaced():
    """A byte that is no UTF-8 spoils one character; the result can be written out again."""
    (series, value), *_ = parse(b'x{a="\xff\xfe"} 1\n').series
    assert (series.labels, value) == ((("a", "\ufffd\ufffd"),), 1.0)
    assert series.labels[0][1].encode()


def test_large_pages_are_read_in_blocks_without_a_seam():
    """Three mebibytes, and one line longer than a block, give every series once and in order."""
    long = "v" * 1_500_000
    text = "".join(f'x{{i="{i}"}} {i}\n' for i in range(100_000)) + f'long{{v="{long}"}} 1\nlast 2\n'
    page = parse(text)
    assert [value for _, value in page.series] == [*range(100_000), 1, 2]
    assert (page.malformed, page.complete) == (0, True)


def test_what_is_kept_between_pages_is_bounded():
    """Names and labels that never come back do not pile up; parsers of equal pages keep one outline together."""
    gc.collect()
    before = len(_outlines)
    parsers = [PageParser(None) for _ in range(3)]
    for number in range(6):
        text = "".join(f"n{number}_{i} 1\n" for i in range(10_000)).encode()
        layouts = {id(parser.parse(text).layout) for parser in parsers}
        assert (len(layouts), len(_outlines)) == (1, before + 1)
    del parsers
    assert len(_outlines) == before


def test_wanted_names_are_told_from_those_that_begin_alike():
    """One expression finds all names: one that goes on is another name, one that another begins with is wanted too."""
    names = ["x", "x_total", "x_to", "xy", "a:b", "a:bc", "x" * 3000, "no.name"]
    lines = ["x 1", "x_total 2", "x_to 3", "xy 4", "a:b 5", "a:bc 6", "x" * 3000 + " 7", '{"no.name"} 8', "x\t9"]
    others = ["x_tot 1", "xyz 1", "a: 1", "a:b:c 1", "x0 1", "X 1", "_x 1", "x" * 2999 + " 1", "a 1", '{"other"} 1']
    mixed = [line for pair in zip(lines, [*others], strict=False) for line in reversed(pair)] + others[len(lines) :]
    assert parse("\n".join([*mixed, ""]), names).values == (1, 2, 3, 4, 5, 6, 7, 8, 9)


class Searched(Finder):
    """Counts the pages that had to be searched."""

    def __init__(self, wanted):
        super().__init__(wanted)
        self.times, find = 0, self.search

        def search(body):
            self.times += 1
            return find(body)

        self.search = search


FRAMED = b'# TYPE x counter\nx{a="1"} 1\n# a comment\ny 1\n\n{"z"} 1\nx 4\n'


@pytest.mark.parametrize(
    ("page", "searches"),
    [(FRAMED, 0), (FRAMED.replace(b"1", b"27"), 0), (FRAMED.replace(b"a comment", b"#"), 0),
     (FRAMED.replace(b"y 1", b"y 1 \t"), 0), (FRAMED.replace(b"y 1", b"x 1"), 1), (FRAMED.replace(b"y 1", b"yx 1"), 1),
     (FRAMED.replace(b"y 1", b"# 1"), 1), (FRAMED.replace(b"\n\n", b"\n \n"), 1), (FRAMED.replace(b"\n\n", b"\n"), 1),
     (FRAMED.replace(b"{", b"!"), 1), (FRAMED + b"y 2\n", 1), (FRAMED[:-4], 1), (FRAMED[:-1], 0), (b"", 1)],
)  # fmt: skip
def test_a_page_is_searched_only_where_a_line_has_another_name(page, searches):
    """Numbers, labels and comments may change; whatever else does is found as on a page that is the first."""
    finder, fresh = Searched(frozenset({"x"})), Finder(frozenset({"x"}))
    assert finder(FRAMED) == finder(FRAMED)
    assert [line.rstrip(b"\n") for line in finder(page)] == fresh.search(page)
    assert finder.times == 2 + searches


def test_a_page_whose_lines_come_and_go_is_mostly_searched():
    """A frame takes longer to make than a page to search: it is made of one strange page in eight."""
    gc.collect()
    finder, before = Searched(frozenset({"x"})), len(_frames)
    kept = [finder(b"y 1\n" * (number + 1) + b"x 1\n") and finder._frame for number in range(17)]
    assert (finder.times, len({*map(id, kept)})) == (17, 3)
    del kept, finder
    gc.collect()
    assert len(_frames) == before


def test_a_page_of_very_many_lines_has_no_frame():
    """Its lines would all be kept, wanted or not."""
    finder = Finder(frozenset({"x"}))
    for lines, framed in ((5_001, False), (4_999, True)):
        finder._strange = 1
        assert finder(b"y 1\n" * lines + b"x 1\n") == [b"x 1"]
        assert (finder._frame is not None) == framed


def test_engines_that_show_the_same_names_have_one_frame():
    """Whatever their labels and numbers are; who wants other names of the same page has another."""
    finders = [Finder(frozenset({"x"})) for _ in range(3)]
    other = Finder(frozenset({"y"}))
    for _ in range(2):
        for number, finder in enumerate(finders):
            finder(f'x{{engine="{number}"}} {number}\ny{{}} 1\n'.encode())
        assert other(b'x{engine="4"} 1\ny{} 1\n') == [b"y{} 1"]
    assert len({id(finder._frame) for finder in finders}) == 1
    assert other._frame is not finders[0]._frame


def test_a_hostile_label_list_is_one_bad_line():
    """A hundred thousand labels on one line are refused, not stored."""
    labels = ",".join(f'l{i}="v"' for i in range(100_000))
    assert parse(f"x{{{labels}}} 1\ny 1\n").malformed == 1


@pytest.mark.parametrize(
    ("body", "readable"),
    [(b"x 1\n", True), (b"garbage here\nx 1\n", True), (b"<p>\n</p>\n", False), (b'{"a": 1}\n', False),
     (b"", False), (b"\xff\xfe\x00", False)],
)  # fmt: skip
def test_is_readable_tells_a_metrics_page_from_another(body, readable):
    assert is_readable(body) is readable


NAMES = st.from_regex(r"[a-z_][a-z0-9_:]{0,5}", fullmatch=True).filter(lambda name: not name.endswith("_total"))
LABEL_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True).filter(lambda name: name != "le")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)
NUMBERS = st.floats().map(str) | st.integers().map(str) | st.sampled_from(["+Inf", "-Inf", "NaN", "1e+011", "-nan"])
BLANKS = st.sampled_from(["", " ", "  "])


@st.composite
def sample_lines(draw):
    labels = draw(st.dictionaries(LABEL_NAMES, TEXTS, max_size=3))
    escaped = [(k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for k, v in labels.items()]
    inside = ("," + draw(BLANKS)).join(f'{k}="{v}"' for k, v in escaped)
    tail = draw(st.sampled_from(["", " 1700000000000"]))
    return f"{draw(NAMES)}{{{inside}}} {draw(BLANKS)}{draw(NUMBERS)}{tail}"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(sample_lines(), max_size=6, unique_by=lambda line: line.partition(" ")[0]), max_size=4))
def test_generated_pages_say_what_the_reference_parser_says(pages):
    """Whatever names, labels and numbers a page holds, also after other pages, both parsers agree."""
    parser = PageParser(None)
    for lines in pages:
        text = "".join(line + "\n" for line in lines)
        page = parser.parse(text.encode())
        assert page.malformed == 0
        assert ours(page) == Counter(
            plain(s.name, s.labels, s.value) for line in lines for s in one_family(line).samples
        )


CHANGING = st.sampled_from([
    "x 1", "x 2", "x 1 5", "x  1", "x 1_0", "x\t1", "x{} 1", "x ", "x", "xx 1", 'x{a="b"} 1', 'x{a="b"} 2', 'x{a="b"}1',
    'x{a="c"} 1', 'x{a="b} 1"} 1', 'x{a="b"} 1 # {t="1"} 1', 'x{a="b"} oops', "y 1", "y 2", "y{} 1", 'y{a="b"} 1', "y",
    "# x 1", "# HELP x {a}", " # x", "#", "", " ", "x NaN", "x \u0663", 'y{a="b"} x 1', '{"x"} 1', "\u0000x 1",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_page_read_by_its_outline_is_read_as_if_it_were_the_first(data):
    """Lines that change, come and go: a parser that saw the pages before gives what a new one does."""
    wanted = data.draw(st.sampled_from([None, ("x",)]))
    parser = PageParser(wanted)
    lines = data.draw(st.lists(CHANGING, min_size=1, max_size=5))
    for _ in range(data.draw(st.integers(2, 6))):
        for number in data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=2)):
            lines[number] = data.draw(CHANGING)
        body = ("\n".join(lines) + data.draw(st.sampled_from(["\n", "\n", "\n", "", "\n\n"]))).encode()
        for _ in range(data.draw(st.integers(1, 3))):
            assert read(parser.parse(body)) == read(PageParser(wanted).parse(body))


def one_family(line):
    """The reference on one line: on several it would merge and reorder."""
    (family,) = text_string_to_metric_families(line + "\n")
    return family


ODD = st.lists(st.sampled_from([*'x1{}="\\,# \t\r\n.+-eN_', 'x{a="b"} 1\n', "\xff", "# TYPE x"]), max_size=60)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | ODD.map(lambda parts: "".join(parts).encode("latin-1")))
def test_no_bytes_make_it_raise(body):
    """Any bytes at all give a page: series, or counted faults, twice the same."""
    parser = PageParser({"x"})
    assert repr(parser.parse(body)) == repr(parser.parse(body))
    assert parser.parse(body).malformed >= 0
    everything = parse(body)
    assert [s for s, _ in everything.series if s.name == "x"] == [s for s, _ in parser.parse(body).series]
