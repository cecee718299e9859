"""A span is taken once in ten minutes, whatever is exported again, before and after a restart."""

import asyncio
import random
import tracemalloc

import old_ledgers
import pytest
from inferometer.ledger import Ledger
from inferometer.ledger.span_ids import SpanIds

NOON = 1_800_000_000.0


class Wall:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def ids(count, seed=1):
    rng = random.Random(seed)
    return [rng.randbytes(24) for _ in range(count)]


def test_a_span_is_new_once():
    known = SpanIds(Wall())
    assert [known.take(span) for span in (b"a" * 24, b"b" * 24, b"a" * 24)] == [True, True, False]


def test_a_span_is_remembered_for_ten_minutes_and_not_for_ever():
    wall = Wall()
    known = SpanIds(wall)
    assert known.take(b"a" * 24)
    for _ in range(10):
        wall.now += 60
        assert not known.take(b"a" * 24), f"forgotten after {wall.now - NOON:g} s"
    wall.now += 120
    assert known.take(b"a" * 24)


def test_all_of_many_spans_are_remembered_over_the_minutes():
    wall = Wall()
    known = SpanIds(wall)
    spans = ids(5000)
    for start in range(0, 5000, 500):
        assert all(known.take(span) for span in spans[start : start + 500])
        wall.now += 59
    assert not any(known.take(span) for span in spans)


def test_a_minute_of_2000_spans_a_second_takes_a_few_bytes_a_span():
    wall = Wall()
    known = SpanIds(wall)
    tracemalloc.start()
    for span in ids(120_000):
        known.take(span)
    known.committed(known.waiting())
    wall.now += 60
    known.take(b"a" * 24)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / 120_000 < 20


def test_the_ids_are_committed_with_the_entries_and_loaded_again(tmp_path):
    wall = Wall()
    ledger = Ledger(tmp_path, "USD", wall)
    assert ledger.spans.take(b"a" * 24)
    assert asyncio.run(ledger.post([], {}))
    assert ledger.spans.waiting() == b""
    assert ledger.spans.take(b"b" * 24)  # taken, and never committed
    ledger.close()
    ledger = Ledger(tmp_path, "USD", wall)
    assert [ledger.spans.take(span) for span in (b"a" * 24, b"b" * 24)] == [False, True]
    ledger.close()


@pytest.mark.parametrize("set_by", [-3600, 3600, 86_400 * 365])
def test_a_clock_that_is_set_makes_no_span_count_twice(tmp_path, set_by):
    """The agent is killed, the clock is set, and the exporter repeats what nobody acknowledged; twice."""
    wall = Wall()
    ledger = Ledger(tmp_path, "USD", wall)
    assert ledger.spans.take(b"a" * 24)
    assert asyncio.run(ledger.post([], {}))
    ledger.close()
    for number in range(3):
        wall.now += set_by
        ledger = Ledger(tmp_path, "USD", wall)
        assert not ledger.spans.take(b"a" * 24), f"after {number + 1} restarts"
        assert ledger.spans.take(b"%024d" % number)
        assert asyncio.run(ledger.post([], {}))
        ledger.close()


def test_what_the_disk_refuses_waits_for_the_next_commit(tmp_path):
    ledger = Ledger(tmp_path, "USD", Wall())
    ledger.spans.take(b"a" * 24)
    ledger._database.execute("PRAGMA query_only = ON")
    assert not asyncio.run(ledger.post([], {}))
    assert len(ledger.spans.waiting()) == 8
    ledger._database.execute("PRAGMA query_only = OFF")
    assert asyncio.run(ledger.post([], {}))
    assert ledger.spans.waiting() == b""
    ledger.close()


def test_the_ledger_forgets_what_is_older_than_ten_minutes(tmp_path):
    wall = Wall()
    ledger = Ledger(tmp_path, "USD", wall)
    for _ in range(30):
        ledger.spans.take(f"{wall.now:024f}".encode())
        asyncio.run(ledger.post([], {}))
        wall.now += 60
    assert ledger._database.execute("SELECT count(*) FROM spans").fetchone()[0] <= 11
    ledger.close()


def test_a_ledger_of_the_first_schema_is_gone_on_with(tmp_path):
    old_ledgers.write(tmp_path, 1, "INSERT INTO marks VALUES ('e', CAST('mark' AS BLOB))")
    ledger = Ledger(tmp_path, "USD", Wall())
    assert ledger.state.marks == {"e": b"mark"}
    assert ledger.spans.take(b"a" * 24)
    assert asyncio.run(ledger.post([], {}))
    ledger.close()
