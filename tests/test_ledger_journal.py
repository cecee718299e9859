"""The ledger's journal: what commits changed is there once, before, amid and after every fold into the tables."""

import asyncio
import contextlib
import json
import math
import random
import shutil
import sqlite3
from pathlib import Path

import old_ledgers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inferometer.ledger import Ledger, hours, journal, tables
from inferometer.model import Entry, Histogram

HOUR = 3600
NOON = 500_000 * HOUR
INF = math.inf
TOKENS = "inferometer_tokens_total"
TTFT = "inferometer_ttft_seconds"
RESETS = ("inferometer_resets_total", ("e",))
COST = ("inferometer_cost_total", ("w", "gpu", "busy"))
OLD_HISTOGRAM = "9392cb3fb999999999999acb7ff000000000000092cb0000000000000000cb4010000000000000cb4000000000000000"
"""Edges 0.1 and +Inf, counts 0 and 4, sum 2, in MessagePack."""


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@contextlib.contextmanager
def opened(folder, wall=lambda: NOON):
    ledger = Ledger(folder, "USD", wall)
    try:
        yield ledger
    finally:
        ledger.close()


@pytest.fixture
def short(monkeypatch):
    """Every fourth commit folds what the three before it left."""
    monkeypatch.setattr(journal, "_MOST_ROWS", 3)


def post(ledger, *entries, **marks):
    return asyncio.run(ledger.post(entries, marks))


def entry(engine="e", tokens=1.0, seen=1.0, edges=(0.1, INF)):
    amounts = {(TOKENS, ("w", engine, "m", "output")): tokens, COST: tokens / 4}
    return Entry("w", NOON, amounts, {(TTFT, ("w", engine, "m")): Histogram(edges, (0.0, seen), seen / 2)})


def tokens(state, engine="e"):
    return state.totals.get((TOKENS, ("w", engine, "m", "output")))


def copied(folder, to):
    """The files as a kill leaves them: copied while they are in use."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("lock")))


def after_a_kill(folder, to):
    """What an agent finds that starts now."""
    with opened(copied(folder, to)) as ledger:
        assert ledger.kept_aside == 0
        return ledger.state


def rows(ledger, table):
    return ledger._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# -- what a commit writes, and where


@pytest.mark.usefixtures("short")
def test_a_commit_is_one_row_of_the_journal_and_a_fold_puts_all_into_the_tables(tmp_path):
    with opened(tmp_path) as ledger:
        for number in range(1, 4):
            assert post(ledger, entry(), e=b"%d" % number)
            assert (rows(ledger, "journal"), rows(ledger, "totals"), rows(ledger, "marks")) == (number, 0, 0)
            assert hours(tmp_path)[0][2][COST] == number / 4, "an hour is read while the agent runs, by others"
        assert post(ledger, entry(), e=b"4")
        assert (rows(ledger, "journal"), rows(ledger, "totals"), rows(ledger, "marks")) == (1, 2, 1)
        in_tables = tables.read(ledger._database)
        assert (tokens(in_tables), in_tables.marks) == (3.0, {"e": b"3"})


@pytest.mark.usefixtures("short")
def test_a_commit_that_changes_nothing_of_it_has_no_row(tmp_path):
    with opened(tmp_path) as ledger:
        for number in range(20):
            assert ledger.spans.take(b"%024d" % number)
            assert post(ledger)
        assert (rows(ledger, "journal"), ledger.state.generation) == (0, 20)


def test_a_journal_of_many_bytes_is_folded_before_it_has_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_MOST_BYTES", 100_000)
    with opened(tmp_path) as ledger:
        most = 0
        for _ in range(20):
            assert post(ledger, entry(), e=bytes(30_000))
            most = max(most, rows(ledger, "journal"))
        assert most == 4
        state = ledger.state
    with opened(tmp_path) as ledger:
        assert ledger.state == state


def test_a_fold_of_many_names_waits_for_more_bytes(tmp_path, monkeypatch):
    """It writes all that was touched, and would else come at every commit."""
    monkeypatch.setattr(journal, "_MOST_BYTES", 10_000)
    marks = {f"e{number}": bytes(300) for number in range(100)}
    with opened(tmp_path) as ledger:
        most = 0
        for _ in range(20):
            assert post(ledger, entry(), **marks)
            most = max(most, rows(ledger, "journal"))
        assert most == 7
        state = ledger.state
    with opened(tmp_path) as ledger:
        assert ledger.state == state


@given(st.lists(st.text(st.characters(codec=None)), max_size=4).map(tuple))
@example(("", '"\\', "a\x00\x7f\u2028", "\ud800", "\U0001f600"))
def test_labels_are_spelled_as_all_rows_have_them(labels):
    """Another spelling would be another row."""
    assert tables._key(("name", labels)) == ("name", json.dumps(labels))


def test_edges_are_written_where_they_are_new_only(tmp_path):
    edges = (*(n / 128 for n in range(200)), INF)
    seen = Entry("w", NOON, {}, {(TTFT, ("w", "e", "m")): Histogram(edges, tuple(map(float, range(201))))})
    with opened(tmp_path) as ledger:
        for _ in range(2):
            assert post(ledger, seen)
        first, second = ledger._database.execute("SELECT length(change) FROM journal ORDER BY generation").fetchall()
        assert second[0] < 0.6 * first[0]
        state = ledger.state
    with opened(tmp_path) as ledger:
        assert ledger.state == state


# -- restarts


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("is_killed", [False, True])
def test_after_any_number_of_commits_and_lives_the_ledger_has_what_was_exposed(tmp_path, is_killed):
    clock, rng = Clock(), random.Random(1)
    state, folder = None, tmp_path / "0"
    for life in range(1, 12):
        with opened(folder, clock) as ledger:
            assert state is None or ledger.state == state
            for _ in range(rng.randrange(6)):
                clock.now += 1
                name = rng.choice("efgh")
                layout = rng.choice([(0.1, INF), (0.1, INF), (0.1, INF), (0.2, INF)])
                assert post(ledger, entry(name, tokens=rng.random(), edges=layout), **{name: rng.randbytes(9)})
            assert ledger.kept_aside == 0
            state = ledger.state
            if is_killed:
                folder = copied(folder, tmp_path / str(life))
    assert len(state.created) > 6


def test_a_layout_that_changes_within_a_journal_is_read_back_with_its_time(tmp_path):
    clock = Clock()
    with opened(tmp_path, clock) as ledger:
        for edges in ((0.1, INF), (0.1, INF), (0.2, INF), (0.2, INF), (0.1, INF)):
            assert post(ledger, entry(edges=edges))
            clock.now += 1
        state = ledger.state
    with opened(tmp_path) as ledger:
        assert ledger.state == state
        account = (TTFT, ("w", "e", "m"))
        assert (ledger.state.histograms[account].edges, ledger.state.created[account]) == ((0.1, INF), NOON + 4)


# -- engines that are forgotten


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("after", range(5))
def test_a_forgotten_engine_stays_forgotten_and_begins_anew_when_it_returns(tmp_path, before, after):
    """Whichever of it is in the tables and which in the journal; others keep what they have."""
    clock = Clock()
    with opened(tmp_path / "a", clock) as ledger:
        assert post(ledger, entry("e", 8), entry("f", 8), Entry("w", NOON, {RESETS: 2.0}), e=b"e", f=b"f")
        for _ in range(before):
            assert post(ledger, entry("f", 1))
        assert post(ledger, e=b"")
        gone = after_a_kill(tmp_path / "a", tmp_path / "gone")
        assert gone == ledger.state
        assert (tokens(gone), gone.marks, RESETS in gone.totals) == (None, {"f": b"f"}, False)
        assert not [account for account in gone.created if "e" in account[1]]
        for _ in range(after):
            assert post(ledger, entry("f", 1))
        clock.now += 60
        assert post(ledger, entry("e", 5), e=b"new")
        for _ in range(4):
            assert post(ledger, entry("f", 1))
        state = ledger.state
    with opened(tmp_path / "a") as ledger:
        assert ledger.state == state
        assert (tokens(state), tokens(state, "f")) == (5, 12 + before + after)
        assert (state.created[TOKENS, ("w", "e", "m", "output")], state.marks["e"]) == (NOON + 60, b"new")
        assert tables.read(ledger._database).created[TOKENS, ("w", "e", "m", "output")] == NOON + 60


@pytest.mark.usefixtures("short")
def test_a_fold_leaves_nothing_of_a_forgotten_engine_on_the_disk(tmp_path):
    with opened(tmp_path) as ledger:
        for _ in range(4):
            assert post(ledger, entry("f"), entry("secret"), secret=b"mark")
        assert rows(ledger, "histograms") == 2
        assert post(ledger, secret=b"")
        for _ in range(4):
            assert post(ledger, entry("f"))
        for table in ("totals", "histograms", "marks", "journal"):
            for row in ledger._database.execute(f"SELECT * FROM {table}"):
                assert "secret" not in str(row)


@pytest.mark.usefixtures("short")
def test_an_account_that_is_opened_in_the_commit_that_forgets_its_engine_is_forgotten(tmp_path):
    with opened(tmp_path) as ledger:
        assert post(ledger, entry("f"))
        assert post(ledger, entry("e"), e=b"")
        for _ in range(4):
            assert post(ledger, entry("f"))
        state = ledger.state
        assert tokens(state) is None
    with opened(tmp_path) as ledger:
        assert ledger.state == state


# -- a fold is all or nothing


@pytest.mark.usefixtures("short")
def test_a_kill_amid_a_fold_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    """The tables are written already, and the journal's rows are deleted; none of it is committed."""
    found = []
    with opened(tmp_path / "a") as ledger:
        for number in range(3):
            assert post(ledger, entry(), e=b"%d" % number)
        before = after_a_kill(tmp_path / "a", tmp_path / "before")
        assert before == ledger.state
        write = Ledger._write_hours

        def killed(*arguments):
            assert rows(ledger, "totals") == 2
            assert rows(ledger, "journal") == 1
            found.append(after_a_kill(tmp_path / "a", tmp_path / "amid"))
            write(*arguments)

        monkeypatch.setattr(Ledger, "_write_hours", killed)
        assert post(ledger, entry(), e=b"3")
        monkeypatch.undo()
        assert found == [before]
        assert after_a_kill(tmp_path / "a", tmp_path / "after") == ledger.state


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("where", ["_write_hours", "_read_hour"])
def test_a_fold_that_the_disk_refuses_is_done_with_the_next_commit(tmp_path, monkeypatch, where):
    until = NOON + HOUR * (where == "_read_hour")
    refusing = False
    step = getattr(Ledger, where)

    def refused(*arguments):
        if refusing:
            raise sqlite3.OperationalError("disk I/O error")
        return step(*arguments)

    monkeypatch.setattr(Ledger, where, refused)
    with opened(tmp_path / "a") as ledger:
        for number in range(3):
            assert post(ledger, entry(), e=b"%d" % number)
        before = ledger.state.totals.copy()
        for number in range(3, 6):
            refusing = True
            assert not post(ledger, Entry("w", until, {COST: 1.0}), e=b"%d" % number)
            assert (ledger.state.totals, rows(ledger, "journal"), rows(ledger, "totals")) == (before, 3, 0)
            assert after_a_kill(tmp_path / "a", tmp_path / f"{number}").totals == before
        refusing = False
        assert post(ledger, entry(), e=b"6")
        assert (rows(ledger, "journal"), rows(ledger, "totals")) == (1, 2)
        assert ledger.state.totals[COST] == 1 + 3
        state = ledger.state
    with opened(tmp_path / "a") as ledger:
        assert (ledger.state, ledger.state.marks) == (state, {"e": b"6"})


@pytest.mark.usefixtures("short")
def test_a_ledger_that_is_begun_anew_has_all_in_its_tables_and_goes_on(tmp_path):
    """What a damaged one had in its tables and in its journal is in memory."""
    with opened(tmp_path) as ledger:
        for number in range(5):
            assert post(ledger, entry("e"), entry("f"), e=b"%d" % number, f=b"f")
        ledger._damage = "planted"
        assert post(ledger, entry("e"), f=b"")
        assert (rows(ledger, "journal"), rows(ledger, "histograms")) == (1, 2)
        assert ledger.kept_aside == 1
        for _ in range(4):
            assert post(ledger, entry("e"))
        state = ledger.state
        assert (tokens(state), tokens(state, "f")) == (10, None)
    with opened(tmp_path) as ledger:
        assert ledger.state == state


# -- what cannot be trusted


@pytest.mark.usefixtures("short")
def test_a_row_with_any_damage_is_read_or_sets_the_ledger_aside(tmp_path):
    """As far as SQLite has no checksums, a number may be another; the agent always starts, and nothing is deleted."""
    with opened(tmp_path / "whole") as ledger:
        for number in range(5):
            assert post(ledger, entry("e"), entry("f"), e=b"%d" % number)
    rng, aside = random.Random(1), 0
    for number in range(60):
        folder = copied(tmp_path / "whole", tmp_path / str(number))
        with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database, database:
            ((generation, row),) = database.execute("SELECT * FROM journal WHERE generation = 5").fetchall()
            spoiled = bytearray(row)
            for _ in range(rng.choice((1, 1, 4))):
                spoiled[rng.randrange(len(row))] = rng.randrange(256)
            del spoiled[len(row) - rng.choice((0, 0, 1, len(row) // 2)) :]
            database.execute("UPDATE journal SET change = ? WHERE generation = ?", (bytes(spoiled), generation))
        with opened(folder) as ledger:
            aside += ledger.kept_aside
            assert (ledger.state.generation == 0) == bool(ledger.kept_aside)
            assert post(ledger, entry("g"))
    assert 10 < aside < 60


def test_a_total_that_is_not_a_number_is_refused_before_it_is_in_the_journal(tmp_path):
    with opened(tmp_path) as ledger:
        assert post(ledger, entry())
        assert not post(ledger, Entry("w", NOON, {COST: math.nan}))
        assert ledger.error == "a total is not a number"
        assert ledger.state.totals[COST] == 0.25


def test_a_total_that_is_not_a_number_is_not_read_back(tmp_path, caplog):
    with opened(tmp_path) as ledger:
        assert post(ledger, Entry("w", NOON, {COST: 1.5}))
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        (row,) = database.execute("SELECT change FROM journal").fetchone()
        one, none = (b"\xcb\x3f\xf8" + bytes(6), b"\xcb\x7f\xf8" + bytes(6))
        assert row.count(one) == 1
        database.execute("UPDATE journal SET change = ?", (row.replace(one, none),))
    with opened(tmp_path) as ledger:
        assert (ledger.state.totals, ledger.kept_aside) == ({}, 1)
    assert caplog.records[0].error == "its journal has a total that is not a number"


# -- the file


def test_a_ledger_of_the_second_schema_goes_on_with_its_numbers(tmp_path):
    """Made by the SQL of its time; an agent that is killed at once has lost nothing of it either."""
    old_ledgers.write(
        tmp_path / "a",
        2,
        """INSERT INTO totals VALUES ('inferometer_tokens_total', '["w", "e", "m", "output"]', 40.0, 7.0)""",
        """INSERT INTO totals VALUES ('inferometer_tokens_total', '["w", "f", "m", "output"]', 3.0, 7.0)""",
        f"""INSERT INTO histograms VALUES ('inferometer_ttft_seconds', '["w", "e", "m"]', x'{OLD_HISTOGRAM}', 7.0)""",
        "INSERT INTO marks VALUES ('e', CAST('old' AS BLOB)), ('f', CAST('f' AS BLOB))",
        f"""INSERT INTO hours VALUES ('w', {NOON}, '[["inferometer_cost_total", ["w", "gpu", "busy"], 10.0]]')""",
        "INSERT INTO spans VALUES (30000000, x'0102030405060708')",
        "UPDATE meta SET value = 41 WHERE key = 'generation'",
    )
    with opened(tmp_path / "a") as ledger:
        assert (tokens(ledger.state), ledger.state.marks["e"], ledger.state.generation) == (40, b"old", 41)
        assert after_a_kill(tmp_path / "a", tmp_path / "killed") == ledger.state
        assert rows(ledger, "spans") == 1
        assert post(ledger, entry("e"), e=b"new", f=b"")
    with opened(tmp_path / "a") as ledger:
        account = (TTFT, ("w", "e", "m"))
        assert (tokens(ledger.state), tokens(ledger.state, "f")) == (41, None)
        assert ledger.state.histograms[account] == Histogram((0.1, INF), (0.0, 5.0), 2.5)
        assert (ledger.state.created[account], ledger.state.marks) == (7.0, {"e": b"new"})
        assert (ledger.state.generation, ledger.kept_aside) == (42, 0)
    assert hours(tmp_path / "a")[0][2] == {COST: 10.25, (TOKENS, ("w", "m", "output")): 1}


def test_the_file_does_not_grow_with_the_number_of_commits(tmp_path):
    """What a fold frees is used again by the rows that follow."""
    rng = random.Random(1)
    with opened(tmp_path) as ledger:
        pages, log = [], []
        for number in range(4_000):
            post(ledger, entry(rng.choice("efgh")), **{f"m{number % 5}": rng.randbytes(rng.choice((10, 4_000, 9_000)))})
            if number % 10 == 0:
                pages.append(ledger._database.execute("PRAGMA page_count").fetchone()[0])
                log.append((tmp_path / "ledger.db-wal").stat().st_size)
        assert max(pages[100:]) <= 1.1 * max(pages[:100])
        assert max(pages) * 4096 < 1_000_000
        assert max(log) < 5_000_000
        state = ledger.state
    assert (tmp_path / "ledger.db").stat().st_size < 1_000_000
    with opened(tmp_path) as ledger:
        assert ledger.state == state


def test_what_is_touched_in_memory_only_is_not_remembered():
    with opened(None) as ledger:
        for number in range(50):
            assert post(ledger, entry(str(number)))
            assert post(ledger, **{str(number): b""})
        assert not ledger._journal.touched.totals


@pytest.mark.parametrize("amount", [0.1, 1e300, INF, 123456789012345678.0])
def test_an_hours_row_is_read_as_it_was_written(tmp_path, amount):
    account = ("inferometer_cost_total", ("wörk\u2028load", 'q"\\', "busy"))
    with opened(tmp_path) as ledger:
        assert post(ledger, Entry("w", NOON, {account: amount}))
        assert hours(tmp_path) == [("w", NOON, {account: amount})]
    with opened(tmp_path) as ledger:
        assert post(ledger, Entry("w", NOON, {account: 0.1}))
    assert hours(tmp_path) == [("w", NOON, {account: amount + 0.1})]
