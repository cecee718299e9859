"""Large pages are made ahead: the same bytes, never old ones, nothing while nobody asks, and the loop goes on."""

from __future__ import annotations

import asyncio
import gzip
import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inferometer.exposition import press as presses
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.gauges import numbers
from inferometer.exposition.metric import COUNTER, HISTOGRAM
from inferometer.exposition.press import Press, is_large
from inferometer.exposition.prometheus import Renderer
from inferometer.exposition.text import edge, number
from inferometer.model import EngineView, Exemplar, Histogram, Snapshot, SourceView
from msgspec.structs import replace
from test_server import PROMETHEUS_2, State, ask

INF = float("inf")
NAMES = [metric for metric in CATALOG.values() if metric.type != HISTOGRAM]
EDGES = ((0.1, INF), (0.1, 0.5, 1.0, INF), (1.0, 2.5e6, INF))


def large(at=1.8e9, count=12_000, engines=0):
    """A snapshot with more series than are made at once."""
    totals = {("inferometer_resets_total", (f"http://engine-{i}/metrics",)): at + i for i in range(count)}
    views = tuple(EngineView("chat", f"e-{i}", up=True, state="busy", kind="vllm") for i in range(engines))
    return Snapshot(at, totals=totals, created=dict.fromkeys(totals, 1.7e9), engines=views)


# -- the same bytes


def escaped(value):
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def inner(account, currency):
    metric = CATALOG[account[0]]
    named = [*zip(metric.label_names, account[1], strict=True), *([("currency", currency)] if metric.money else [])]
    return ",".join(f'{name}="{escaped(value)}"' for name, value in named)


def line(name, labels, value, more=""):
    return f"{name}{f'{{{labels}}}' if labels else ''} {number(value)}{more}"


def sample(snapshot, account, value, *, openmetrics):
    metric, labels = CATALOG[account[0]], inner(account, snapshot.currency)
    yield line(metric.name, labels, value)
    if openmetrics and metric.type == COUNTER and account in snapshot.created:
        yield line(f"{metric.family}_created", labels, snapshot.created[account])


def buckets(snapshot, account, histogram, *, openmetrics):
    name, labels = account[0], inner(account, snapshot.currency)
    shown = snapshot.exemplars.get(account, {}) if openmetrics else {}
    for bucket, (upper, count) in enumerate(zip(histogram.edges, histogram.counts, strict=True)):
        one = shown.get(bucket)
        more = f' # {{trace_id="{one.trace}"}} {number(one.value)} {number(one.at)}' if one else ""
        yield line(f"{name}_bucket", f'{labels},le="{edge(upper)}"', count, more)
    yield line(f"{name}_count", labels, histogram.total)
    yield line(f"{name}_sum", labels, histogram.sum)
    if openmetrics and account in snapshot.created:
        yield line(f"{name}_created", labels, snapshot.created[account])


def header(metric, *, openmetrics):
    shown = metric.family if openmetrics else metric.name
    yield from (f"# HELP {shown} {metric.help}", f"# TYPE {shown} {metric.exposed_type}")
    if openmetrics and metric.unit and shown.endswith(f"_{metric.unit}"):
        yield f"# UNIT {shown} {metric.unit}"


def plain(snapshot, *, openmetrics):
    """The page line by line, as the formats' specifications have it, with nothing kept from other pages."""
    blocks = defaultdict(list)
    for account, value in numbers(snapshot).items():
        blocks[account[0]] += sample(snapshot, account, value, openmetrics=openmetrics)
    for account, histogram in snapshot.histograms.items():
        blocks[account[0]] += buckets(snapshot, account, histogram, openmetrics=openmetrics)
    lines = []
    for name, metric in CATALOG.items():
        if name in blocks:
            lines += [*header(metric, openmetrics=openmetrics), *blocks[name]]
    return "".join(f"{one}\n" for one in [*lines, *(["# EOF"] if openmetrics else [])]).encode()


label = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def accounts(draw, metrics):
    metric = draw(st.sampled_from(metrics))
    return (metric.name, tuple(draw(label) for _ in metric.labels))


@st.composite
def histograms(draw):
    edges = draw(st.sampled_from(EDGES))
    counts = sorted(draw(st.lists(st.integers(0, 2**53), min_size=len(edges), max_size=len(edges))))
    return Histogram(edges, tuple(map(float, counts)), draw(st.floats(min_value=0)))


@st.composite
def snapshots(draw):
    value = st.floats()
    totals = draw(st.dictionaries(accounts(NAMES), value, max_size=6))
    found = draw(
        st.dictionaries(accounts([m for m in CATALOG.values() if m.type == HISTOGRAM]), histograms(), max_size=4)
    )
    some = draw(st.sets(st.sampled_from([*totals, *found]))) if totals or found else set()
    engines = draw(st.lists(st.tuples(label, label, st.booleans()), max_size=2, unique_by=lambda one: one[:2]))
    return Snapshot(
        draw(st.floats(0, 2e9)),
        totals=totals,
        created=dict.fromkeys(some, draw(st.floats(0, 2e9))),
        histograms=found,
        exemplars={account: {0: Exemplar("0af7", 0.05, 1.8e9)} for account in found if draw(st.booleans())},
        values=draw(st.dictionaries(accounts(NAMES), value, max_size=4)),
        engines=tuple(
            EngineView(workload, name, up=up, gauges={("running", "m"): 1.0}) for workload, name, up in engines
        ),
        sources=tuple(SourceView(f"http://{name}", up=up, read_seconds=0.1) for _, name, up in engines),
        currency=draw(st.sampled_from(["USD", "EUR", 'a"b'])),
    )


@st.composite
def stories(draw):
    """Snapshots one after the other: another one, or the last one with some values changed, come or gone."""
    told = [draw(snapshots())]
    for _ in range(draw(st.integers(0, 4))):
        last, other = told[-1], draw(snapshots())
        kept = {account: last.totals[account] for account in last.totals if draw(st.booleans())}
        stays = {account: last.histograms[account] for account in last.histograms if draw(st.booleans())}
        changed = replace(other, totals={**kept, **other.totals}, histograms={**stays, **other.histograms})
        told.append(draw(st.sampled_from([other, changed])))
    return told


@settings(max_examples=200, deadline=None)
@given(stories())
def test_whatever_changes_the_page_is_what_a_plain_rendering_gives(story):
    """Byte for byte, in both formats, whole, packed and in pieces."""
    renderer = Renderer(process=False)

    async def printed(snapshot, *, openmetrics):
        return await Press(renderer, lambda: snapshot).edition(openmetrics=openmetrics)

    for snapshot in story:
        for openmetrics in (False, True):
            page = plain(snapshot, openmetrics=openmetrics)
            assert renderer.render(snapshot, openmetrics=openmetrics) == page
            assert gzip.decompress(renderer.compressed(snapshot, openmetrics=openmetrics)) == page
            edition = asyncio.run(printed(snapshot, openmetrics=openmetrics))
            assert (gzip.decompress(edition.packed), edition.size) == (page, len(page))


def test_a_page_of_many_pieces_is_what_a_plain_rendering_gives():
    snapshot = replace(
        large(engines=3_000),
        histograms={
            ("inferometer_ttft_seconds", ("chat", f"e-{i}", "m")): Histogram(
                EDGES[i % 3], (float(i),) * len(EDGES[i % 3])
            )
            for i in range(300)
        },
    )
    for openmetrics in (False, True):
        pieces = list(Renderer(process=False).pieces(snapshot, openmetrics=openmetrics))
        assert b"".join(pieces) == plain(snapshot, openmetrics=openmetrics)
        assert max(map(len, pieces)) < 1 << 17


@pytest.mark.parametrize("accept", ["text/plain", PROMETHEUS_2])
def test_a_large_page_is_served_packed_and_not(accept):
    state = State(newest=large())
    assert is_large(state.newest)
    bodies = {}
    for encoding in ("identity", "gzip"):
        status, headers, body = ask(state, "/metrics", headers={"Accept": accept, "Accept-Encoding": encoding})
        assert (status, headers.get("Content-Encoding")) == (200, "gzip" if encoding == "gzip" else None)
        assert int(headers["Content-Length"]) == len(body)
        bodies[encoding] = gzip.decompress(body) if encoding == "gzip" else body
    ours = [body.partition(b"# HELP process_")[0] for body in bodies.values()]
    assert ours[0] == ours[1] == plain(state.newest, openmetrics=accept == PROMETHEUS_2).removesuffix(b"# EOF\n")


def test_head_of_a_large_page_has_its_length_and_no_body():
    status, headers, body = ask(State(newest=large()), "/metrics", "HEAD", headers={"Accept-Encoding": "identity"})
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 500_000


# -- when it is made


class Newsroom:
    """A press with a clock of its own; ``made``: the snapshots that pages were made of."""

    def __init__(self):
        self.now, self.made, self.newest, self.fails = 1000.0, [], large(1.0), False
        self.press = Press(self, lambda: self.newest, lambda: self.now)

    def pieces(self, snapshot, *, openmetrics):
        """In place of a renderer."""
        self.made.append((snapshot.wall, openmetrics))
        for _ in range(10):
            self.now += 0.01
            yield b"x"
            if self.fails:
                raise ValueError("no page")

    def publish(self, wall):
        self.newest = large(wall, 1)
        self.press.published()


def story(tell):
    asyncio.run(tell(Newsroom()))


async def turns(count=40):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    """The pauses between two editions pass at once."""
    sleep = asyncio.sleep
    monkeypatch.setattr(presses.asyncio, "sleep", lambda _seconds: sleep(0))


def test_nothing_is_made_while_nobody_asks():
    async def tell(room):
        for wall in range(2, 20):
            room.publish(float(wall))
            await turns()
        assert room.made == []
        await room.press.edition(openmetrics=True)
        assert room.made == [(19.0, True)]
        await room.press.close(None)

    story(tell)


def test_what_was_asked_for_is_made_ahead_and_asked_for_again_at_once():
    async def tell(room):
        await room.press.edition(openmetrics=True)
        room.publish(2.0)
        await turns()
        assert room.made == [(1.0, True), (2.0, True)]
        asked = room.press.edition(openmetrics=True)
        with pytest.raises(StopIteration) as done:
            asked.send(None)  # it waits for nothing
        assert done.value.value.snapshot.wall == 2.0
        await room.press.close(None)

    story(tell)


def test_when_nobody_has_asked_for_long_nothing_is_made_or_kept():
    async def tell(room):
        await room.press.edition(openmetrics=True)
        room.now += 200
        room.publish(2.0)
        await turns()
        assert room.made == [(1.0, True)]
        assert room.press._formats == {}
        assert room.press._work.done()
        assert (await room.press.edition(openmetrics=True)).snapshot.wall == 2.0
        await room.press.close(None)

    story(tell)


def test_while_a_page_is_made_the_last_one_is_shown_and_after_two_seconds_no_more():
    async def tell(room):
        await room.press.edition(openmetrics=True)
        room.publish(2.0)
        assert (await room.press.edition(openmetrics=True)).snapshot.wall == 1.0
        room.now += 2.1
        assert (await room.press.edition(openmetrics=True)).snapshot.wall == 2.0
        await room.press.close(None)

    story(tell)


def test_a_page_that_was_overtaken_while_it_was_made_is_old_since_then():
    async def tell(room):
        first = asyncio.create_task(room.press.edition(openmetrics=True))
        await turns(2)
        room.publish(2.0)
        edition = await first
        assert (edition.snapshot.wall, edition.superseded is None) == (1.0, False)
        await turns()
        assert (await room.press.edition(openmetrics=True)).snapshot.wall == 2.0
        await room.press.close(None)

    story(tell)


def test_a_snapshot_that_nobody_told_of_counts_as_newer_all_the_same():
    async def tell(room):
        await room.press.edition(openmetrics=True)
        room.newest = large(2.0, 1)
        await room.press.edition(openmetrics=True)
        await turns()
        assert (await room.press.edition(openmetrics=True)).snapshot.wall == 2.0
        await room.press.close(None)

    story(tell)


def test_both_formats_are_kept_up_and_all_who_wait_get_the_same_page():
    async def tell(room):
        asked = [room.press.edition(openmetrics=openmetrics) for openmetrics in (True, False, True, False)]
        found = await asyncio.gather(*asked)
        assert found[0] is found[2]
        assert found[1] is found[3]
        assert sorted(room.made) == [(1.0, False), (1.0, True)]
        await room.press.close(None)

    story(tell)


def test_who_waits_for_a_page_that_cannot_be_made_is_told_so_and_the_next_one_tries_again():
    async def tell(room):
        room.fails = True
        for _ in range(2):
            with pytest.raises(ValueError, match="no page"):
                await room.press.edition(openmetrics=True)
        room.fails = False
        assert (await room.press.edition(openmetrics=True)).size == 10
        await room.press.close(None)

    story(tell)


def test_others_of_the_loop_have_their_turns_while_a_large_page_is_made():
    async def talk():
        snapshot = large(count=40_000)
        press, between = Press(Renderer(process=False), lambda: snapshot), 0
        work = asyncio.ensure_future(press.edition(openmetrics=True))
        while not work.done():
            await asyncio.sleep(0)
            between += 1
        await press.close(None)
        return between

    assert asyncio.run(talk()) > 20


def test_edges_that_never_repeat_are_forgotten():
    renderer = Renderer(process=False)
    for round_ in range(600):
        histogram = Histogram((float(round_ + 1), INF), (0.0, 1.0), math.pi)
        renderer.render(Snapshot(float(round_), histograms={("inferometer_ttft_seconds", ("w", "e", "m")): histogram}))
    assert len(renderer._series._layouts) <= 256
    assert renderer._series._counts == {}
