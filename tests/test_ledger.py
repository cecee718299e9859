"""What is exposed is on the disk, once; what cannot be trusted is set aside (design: exposed means committed)."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from inferometer.errors import LedgerError
from inferometer.ledger import Ledger, book, hours, journal
from inferometer.model import Entry, Histogram

HOUR = 3600
NOON = 500_000 * HOUR
INF = float("inf")
TOKENS = ("inferometer_tokens_total", ("w", "e", "m", "output"))
COST = ("inferometer_cost_total", ("w", "gpu", "busy"))
TTFT = ("inferometer_ttft_seconds", ("w", "e", "m"))


@contextlib.contextmanager
def opened(folder, currency="USD", wall=lambda: NOON):
    ledger = Ledger(folder, currency, wall)
    try:
        yield ledger
    finally:
        ledger.close()


def post(ledger, *entries, **marks):
    return asyncio.run(ledger.post(entries, marks))


def entry(tokens=1.0, until=NOON, workload="w", **rest):
    return Entry(workload, until, {TOKENS: tokens, COST: tokens / 4}, **rest)


def copied(folder, to):
    """The files as a kill leaves them: copied while they are in use."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("lock")))


def set_aside(folder):
    return sorted(path for path in folder.glob("ledger.set-aside-*") if path.suffix == ".db")


# -- what is kept


def test_totals_histograms_marks_and_created_times_survive(tmp_path):
    seen = Histogram((0.1, INF), (1.0, 3.0), 1.5)
    with opened(tmp_path) as ledger:
        assert post(ledger, entry(8), entry(2, histograms={TTFT: seen}), e=b"mark")
        assert post(ledger, entry(1, histograms={TTFT: seen}), f=b"other")
        state = ledger.state
    with opened(tmp_path, wall=lambda: NOON + 99) as ledger:
        assert ledger.state == state
        assert ledger.state.totals == {TOKENS: 11, COST: 2.75}
        assert ledger.state.histograms == {TTFT: Histogram((0.1, INF), (2.0, 6.0), 3.0)}
        assert ledger.state.marks == {"e": b"mark", "f": b"other"}
        assert ledger.state.created == dict.fromkeys((TOKENS, COST, TTFT), NOON)


def test_an_account_is_created_once_and_opened_by_a_zero(tmp_path):
    now = [NOON]
    with opened(tmp_path, wall=lambda: now[0]) as ledger:
        post(ledger, entry(0))
        now[0] += 60
        post(ledger, entry(5), Entry("w", NOON, {(COST[0], ("w", "other", "idle")): 0.0}))
    with opened(tmp_path) as ledger:
        assert ledger.state.totals[TOKENS] == 5
        assert sorted(ledger.state.created.values()) == [NOON, NOON, NOON + 60]


def test_a_histogram_with_another_layout_starts_again_with_its_time(tmp_path):
    now = [NOON]
    other = Histogram((0.5, INF), (1.0, 1.0), 0.2)
    with opened(tmp_path, wall=lambda: now[0]) as ledger:
        post(ledger, entry(histograms={TTFT: Histogram((0.1, INF), (1.0, 3.0), 1.5)}))
        now[0] += 60
        post(ledger, entry(histograms={TTFT: other}))
    with opened(tmp_path) as ledger:
        assert (ledger.state.histograms[TTFT], ledger.state.created[TTFT]) == (other, NOON + 60)


def test_without_a_folder_totals_are_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened(None) as ledger:
        assert post(ledger, entry(3), e=b"1")
        assert post(ledger, entry(4))
        assert (ledger.state.totals[TOKENS], ledger.state.marks) == (7, {"e": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_a_commit_is_on_the_disk_before_it_is_exposed(tmp_path):
    with opened(tmp_path) as ledger:
        pragmas = [ledger._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]  # 2 is FULL
        post(ledger, entry(3))
        with opened(copied(tmp_path, tmp_path.parent / "copy")) as other:
            assert other.state == ledger.state


@pytest.mark.parametrize("step", ["_commit", "_read_hour"])
def test_the_event_loop_goes_on_while_the_disk_is_slow(tmp_path, monkeypatch, step):
    go_on = threading.Event()
    quick = getattr(Ledger, step)

    def slow(*arguments):
        assert go_on.wait(10), "the loop stood still"
        return quick(*arguments)

    async def both(ledger):
        posting = asyncio.create_task(ledger.post([entry(3)], {}))
        await asyncio.sleep(0.01)
        assert ledger.state.totals == {}  # not exposed before it is committed
        go_on.set()
        return await posting

    monkeypatch.setattr(Ledger, step, slow)
    with opened(tmp_path) as ledger:
        assert asyncio.run(both(ledger))
        assert ledger.state.totals[TOKENS] == 3


KILLED = """
import asyncio, sys
from pathlib import Path
from inferometer.ledger import Ledger, journal
from inferometer.model import Entry

journal._MOST_ROWS = int(sys.argv[2])

async def main():
    ledger = Ledger(Path(sys.argv[1]), "USD")
    n = int(ledger.state.marks.get("e", b"0"))
    print(n, flush=True)
    while True:
        n += 1
        amounts = {("a_total", ("w", str(k))): 1.0 for k in range(20)}
        entries = [Entry("w", 1e9, amounts), Entry("v", 1e9, {("b_total", ("v",)): 2.0})]
        await ledger.post(entries, {"e": str(n).encode()})
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("rows", [journal._MOST_ROWS, 2], ids=["mostly between folds", "amid folds"])
def test_totals_are_those_of_their_marks_after_any_kill(tmp_path, rows):
    rng = random.Random(1)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    exposed = 0
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), str(rows)], env=env, stdout=subprocess.PIPE, text=True
        ) as agent:
            for _ in range(rng.randint(2, 30)):
                exposed = int(agent.stdout.readline())
            agent.send_signal(signal.SIGKILL)
            exposed = max([exposed, *map(int, agent.stdout.read().split())])
        with opened(tmp_path) as ledger:
            posted = int(ledger.state.marks["e"])
            assert exposed <= posted <= exposed + 1  # the last one may be committed and not yet said
            assert set(ledger.state.totals.values()) == {posted, 2 * posted}
            assert not set_aside(tmp_path)
    assert hours(tmp_path)[-1][2] == {("a_total", ("w", str(k))): posted for k in range(20)}


# -- a disk that refuses


def _full(database):
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")


REFUSALS = {
    "disk is full": (_full, lambda database: database.execute("PRAGMA max_page_count = 100000")),
    "readonly": (lambda d: d.execute("PRAGMA query_only = ON"), lambda d: d.execute("PRAGMA query_only = OFF")),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_what_the_disk_refuses_waits_and_is_posted_once(tmp_path, caplog, why):
    refuse, recover = REFUSALS[why]
    seen = Histogram((0.1, INF), (1.0, 3.0), 1.5)
    with opened(tmp_path) as ledger:
        post(ledger, entry(1))
        before = dict(ledger.state.totals)
        refuse(ledger._database)
        large = os.urandom(200_000)
        for n in range(5):
            assert not post(ledger, entry(1, histograms={TTFT: seen}), e=large, f=b"%d" % n)
            assert why in ledger.error
            assert (ledger.state.totals, ledger.state.marks, ledger.state.generation) == (before, {}, 1)
        assert not ledger._database.in_transaction
        assert ledger.failures == 5
        recover(ledger._database)
        assert post(ledger, entry(1), g=b"new")
        assert ledger.error == ""
        assert (ledger.state.totals[TOKENS], ledger.state.histograms[TTFT].total) == (7, 15)
        state = ledger.state
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # one line, not one a commit; info is not kept
    with opened(tmp_path) as ledger:
        assert ledger.state == state
        assert ledger.state.marks == {"e": large, "f": b"4", "g": b"new"}
    ((_, _, amounts),) = hours(tmp_path)
    assert amounts == {(TOKENS[0], ("w", "m", "output")): 7, COST: 1.75}


def test_a_long_outage_keeps_the_memory_small_and_every_cent(tmp_path):
    with opened(tmp_path) as ledger:
        ledger._database.execute("PRAGMA query_only = ON")
        for n in range(2000):
            more = {TTFT: Histogram((0.1 if n < 1500 else 0.2, INF), (1.0, 1.0))}
            assert not post(ledger, entry(0.1, NOON + 3 * n, histograms=more), e=b"%d" % n)
        assert len(ledger._waiting) == 2  # one for each hour
        ledger._database.execute("PRAGMA query_only = OFF")
        assert post(ledger)
        assert ledger.state.totals[TOKENS] == pytest.approx(200, rel=1e-9)
        assert ledger.state.histograms[TTFT] == Histogram((0.2, INF), (500.0, 500.0))
    rows = {hour: amounts[COST] for _, hour, amounts in hours(tmp_path)}
    assert rows == {NOON: pytest.approx(30), NOON + HOUR: pytest.approx(20)}


@pytest.mark.parametrize("refusals", [0, 3])
def test_a_ledger_damaged_while_it_is_used_is_set_aside_and_totals_go_on(tmp_path, caplog, monkeypatch, refusals):
    """All that it had is in memory; where the new one cannot be written at once, it waits."""
    with opened(tmp_path) as ledger:
        assert ledger.spans.take(b"a" * 24)
        post(
            ledger, *(entry(1, workload=f"w{n}") for n in range(300)), **{f"e{n}": os.urandom(500) for n in range(300)}
        )
        ledger._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with (tmp_path / "ledger.db").open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        ledger._database.execute("PRAGMA shrink_memory")
        left = [sqlite3.OperationalError("disk is full")] * refusals
        connect = book.connected
        monkeypatch.setattr(book, "connected", lambda path: _raise(left.pop()) if left else connect(path))
        before = dict(ledger.state.totals)
        for _ in range(refusals):
            assert ledger.spans.take(os.urandom(24))
            assert not post(ledger, entry(1))
            assert (ledger.state.totals, ledger.error) == (before, "disk is full")
        assert post(ledger, entry(5), e7=b"more")
        assert ledger.state.totals[TOKENS] == 305 + refusals
        assert (ledger.kept_aside, len(set_aside(tmp_path))) == (1, 1)
        assert post(ledger, entry(1))
        state = ledger.state
    assert [record.message for record in caplog.records if "set aside" in record.message] == [
        "the ledger is damaged and set aside; totals go on in a new one, earlier hours stay in the old one"
    ]
    with opened(tmp_path) as ledger:
        assert (ledger.state, ledger.state.marks["e7"]) == (state, b"more")
        assert not ledger.spans.take(b"a" * 24)
        assert ledger.kept_aside == 1
    assert sum(amounts[COST] for _, _, amounts in hours(tmp_path)) == (306 + refusals) / 4


def _raise(error):
    raise error


def test_an_hour_that_cannot_be_read_is_begun_anew(tmp_path):
    with opened(tmp_path) as ledger:
        post(ledger, entry(8))
    _sql(tmp_path, "UPDATE hours SET amounts = '{'")
    with opened(tmp_path) as ledger:
        assert post(ledger, entry(2))
        assert ledger.state.totals[TOKENS] == 10
    assert hours(tmp_path)[0][2][COST] == 0.5


# -- a ledger that cannot be trusted


def _sql(folder, *statements):
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def _overwrite(folder, start=0.1, end=0.9):
    path = folder / "ledger.db"
    data = bytearray(path.read_bytes())
    a, b = (int(len(data) * part) // 4096 * 4096 for part in (start, end))
    data[a:b] = b"\xa5" * (b - a)
    path.write_bytes(data)


def _foreign(folder):
    (folder / "ledger.db").unlink()
    (folder / "exposed").unlink()
    _sql(folder, "CREATE TABLE theirs (x)")


DAMAGE = {
    "newer Inferometer": lambda folder: _sql(folder, "PRAGMA user_version = 99"),
    "damaged": _overwrite,
    "malformed": lambda folder: os.truncate(folder / "ledger.db", (folder / "ledger.db").stat().st_size // 2),
    "not a database": lambda folder: (folder / "ledger.db").write_bytes(random.Random(1).randbytes(9000)),
    "is not a": lambda folder: (folder / "ledger.db").write_bytes(b"oops"),
    "something else": _foreign,
    "older than what was exposed": lambda folder: os.truncate(folder / "ledger.db", 0),
    "no such table": lambda folder: _sql(folder, "DROP TABLE totals"),
    "NoneType": lambda folder: _sql(folder, "DELETE FROM meta"),
    "Expecting": lambda folder: _sql(folder, "UPDATE totals SET labels = 'x' WHERE name LIKE '%cost%'"),
    "not iterable": lambda folder: _sql(folder, "UPDATE totals SET labels = '7' WHERE name LIKE '%cost%'"),
    "UTF-8": lambda folder: _sql(folder, "UPDATE totals SET name = CAST(x'ff' AS TEXT) WHERE name LIKE '%cost%'"),
    "Expected `array`": lambda folder: _sql(folder, "UPDATE histograms SET histogram = x'90'"),
    "got `int`": lambda folder: _sql(folder, "UPDATE journal SET change = x'07'"),
    "truncated": lambda folder: _sql(folder, "UPDATE journal SET change = substr(change, 1, length(change) / 2)"),
    "trailing characters": lambda folder: _sql(folder, "UPDATE journal SET change = CAST(change || x'00' AS BLOB)"),
    "bytes-like": lambda folder: _sql(folder, "UPDATE journal SET change = 'x'"),
    "its journal has 0 rows, and had 1": lambda folder: _sql(folder, "DELETE FROM journal"),
    "its journal is newer than itself": lambda folder: _sql(folder, "UPDATE journal SET generation = generation + 1"),
    "its journal has another layout": lambda folder: _sql(folder, "DELETE FROM histograms"),
    "no such table: journal": lambda folder: _sql(folder, "DROP TABLE journal"),
}


@pytest.mark.parametrize("why", DAMAGE)
def test_a_ledger_that_cannot_be_trusted_is_set_aside_and_totals_start_at_zero(tmp_path, caplog, monkeypatch, why):
    """It has a part in its tables and a part in its journal."""
    monkeypatch.setattr(journal, "_MOST_ROWS", 2)
    with opened(tmp_path) as ledger:
        for n in range(3):
            seen = {TTFT: Histogram((0.1, INF), (1.0, 3.0), 1.5)}
            post(ledger, entry(8, histograms=seen), **{f"e{k}": os.urandom(3000) for k in range(n, 30)})
    DAMAGE[why](tmp_path)
    kept = (tmp_path / "ledger.db").read_bytes()
    with opened(tmp_path) as ledger:
        assert (ledger.state.totals, ledger.state.marks) == ({}, {})
        (aside,) = set_aside(tmp_path)
        (record,) = caplog.records
        assert record.message == "the ledger is set aside and totals start at zero"
        assert why in record.error
        assert record.kept_as == str(aside)
        assert post(ledger, entry(2), e=b"new")
    if kept:
        assert len(aside.read_bytes()) == len(kept)
    if why == "something else":
        assert aside.read_bytes() == kept
    with opened(tmp_path) as ledger:
        assert (ledger.state.totals[TOKENS], ledger.state.marks) == (2, {"e": b"new"})
        assert set_aside(tmp_path) == [aside]


def test_a_ledger_with_uncommitted_pages_beside_it_is_set_aside_whole_and_its_successor_is_not_harmed(tmp_path):
    """A kill leaves ledger.db-wal and -shm; the new ledger has files of the same names."""
    with opened(tmp_path / "a") as ledger:
        post(ledger, entry(8))
        ledger._database.execute("PRAGMA user_version = 99")
        folder = copied(tmp_path / "a", tmp_path / "b")
    assert (folder / "ledger.db-wal").stat().st_size > 0
    with opened(folder) as ledger:
        post(ledger, entry(2))
        copied(folder, tmp_path / "c")
        assert not [path for path in folder.glob("ledger.set-aside-*") if path.suffix != ".db"]
    with contextlib.closing(sqlite3.connect(set_aside(folder)[0])) as aside:
        assert journal.load(aside)[0].totals[TOKENS] == 8
    with opened(tmp_path / "c") as ledger:
        assert ledger.state.totals[TOKENS] == 2


def test_nothing_that_was_set_aside_is_overwritten(tmp_path):
    contents = [b"first" * 1000, b"second" * 1000]
    for content in contents:
        (tmp_path / "ledger.db").write_bytes(content)
        with opened(tmp_path):
            pass
    assert [path.read_bytes() for path in set_aside(tmp_path)] == contents


def test_a_backup_that_was_copied_back_is_older_than_what_was_exposed(tmp_path):
    with opened(tmp_path / "a") as ledger:
        post(ledger, entry(8))
        copied(tmp_path / "a", tmp_path / "backup")
        post(ledger, entry(1))
    shutil.copy(tmp_path / "backup/ledger.db", tmp_path / "a")
    shutil.copy(tmp_path / "backup/ledger.db-wal", tmp_path / "a")
    for _ in range(2):
        with opened(tmp_path / "a") as ledger:
            assert (ledger.state.totals, len(set_aside(tmp_path / "a"))) == ({}, 1)
    with opened(tmp_path / "a") as ledger:
        post(ledger, entry(3))
    with opened(tmp_path / "a") as ledger:
        assert ledger.state.totals[TOKENS] == 3


@pytest.mark.parametrize("content", [None, b"", b"x", b"\xff\xfe"])
def test_without_a_word_about_what_was_exposed_a_whole_ledger_is_trusted(tmp_path, content):
    with opened(tmp_path) as ledger:
        post(ledger, entry(8))
    (tmp_path / "exposed").unlink()
    if content is not None:
        (tmp_path / "exposed").write_bytes(content)
    with opened(tmp_path) as ledger:
        assert ledger.state.totals[TOKENS] == 8


# -- a folder that cannot be used


def test_another_currency_is_refused_with_the_way_out(tmp_path):
    with opened(tmp_path, "EUR") as ledger:
        post(ledger, entry(8))
    with pytest.raises(LedgerError, match=r"ledger\.db: its money is EUR, .* currency: USD; .* --storage\.path"):
        Ledger(tmp_path, "USD")
    with opened(tmp_path, "EUR") as ledger:
        assert ledger.state.totals[TOKENS] == 8


def test_one_folder_has_one_agent(tmp_path):
    with opened(tmp_path), pytest.raises(LedgerError, match=r"another agent is using this ledger; .* --storage\.path"):
        Ledger(tmp_path, "USD")
    with opened(tmp_path) as ledger:
        assert post(ledger, entry(1))


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_named_with_a_way_out(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=rf"{folder}: .*; check --storage\.path and its owner"):
        Ledger(tmp_path / folder, "USD")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named_with_a_way_out(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LedgerError, match=r"Permission denied; check --storage\.path and its owner"):
        Ledger(tmp_path, "USD")


def test_a_ledger_that_cannot_be_opened_is_not_set_aside(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(LedgerError, match=r"ledger\.db: cannot be used: .*; check --storage\.path"):
        Ledger(tmp_path, "USD")
    assert not set_aside(tmp_path)
    (tmp_path / "ledger.db").rmdir()
    with opened(tmp_path) as ledger:  # the folder was let go of
        assert post(ledger, entry(1))


def test_a_good_ledger_that_somebody_else_has_locked_is_not_set_aside(tmp_path, monkeypatch):
    with opened(tmp_path) as ledger:
        post(ledger, entry(8))
    connect = sqlite3.connect
    with contextlib.closing(connect(tmp_path / "ledger.db")) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("DELETE FROM hours")
        monkeypatch.setattr(sqlite3, "connect", lambda path, **rest: connect(path, **(rest | {"timeout": 0})))
        with pytest.raises(LedgerError, match="locked"):
            Ledger(tmp_path, "USD")
        other.rollback()
    with opened(tmp_path) as ledger:
        assert (ledger.state.totals[TOKENS], set_aside(tmp_path)) == (8, [])


# -- hours


def test_every_amount_is_in_the_row_of_its_workload_and_hour_without_its_engine(tmp_path):
    other = ("inferometer_tokens_total", ("w", "f", "m", "output"))
    with opened(tmp_path) as ledger:
        post(ledger, entry(1, NOON + 1), entry(2, NOON + HOUR - 0.001), entry(4, NOON + HOUR), entry(8, workload="v"))
        post(ledger, Entry("w", NOON + HOUR + 9, {other: 16.0, COST: 0.0, ("inferometer_resets_total", ("e",)): 1.0}))
        post(ledger, entry(32, NOON + 5))  # late, for an hour that is over
    tokens = (TOKENS[0], ("w", "m", "output"))
    assert hours(tmp_path) == [
        ("v", NOON, {tokens: 8, COST: 2}),
        ("w", NOON, {tokens: 35, COST: 8.75}),
        ("w", NOON + HOUR, {tokens: 20, COST: 1}),
    ]


def test_an_hour_that_was_begun_before_a_restart_is_continued(tmp_path):
    for until in (NOON + 10, NOON + 20, NOON + 30):
        with opened(tmp_path) as ledger:
            post(ledger, entry(4, until))
            post(ledger, entry(4, until + 1))
    ((_, hour, amounts),) = hours(tmp_path)
    assert (hour, amounts[COST]) == (NOON, 6)


def test_rows_are_kept_for_400_days(tmp_path):
    with opened(tmp_path) as ledger:
        for hour in (0, 1, 400 * 24, 400 * 24 + 1):
            post(ledger, entry(1, NOON + hour * HOUR))
        assert ledger.state.totals[TOKENS] == 4
    assert [(hour - NOON) // HOUR for _, hour, _ in hours(tmp_path)] == [1, 400 * 24, 400 * 24 + 1]


def test_a_clock_that_jumps_ahead_for_a_while_deletes_no_rows(tmp_path):
    with opened(tmp_path) as ledger:
        post(ledger, entry(1, NOON))
    with opened(tmp_path) as ledger:
        for until in (NOON + 10 * 365 * 24 * HOUR, NOON + HOUR, NOON + 2 * HOUR):
            post(ledger, entry(1, until))
    assert [(hour - NOON) // HOUR for _, hour, _ in hours(tmp_path)] == [0, 1, 2, 10 * 365 * 24]


def test_rows_can_be_read_while_the_agent_runs(tmp_path):
    folder = tmp_path / "with space?"
    with opened(folder) as ledger:
        post(ledger, entry(4))
        assert hours(folder)[0][2][COST] == 1


@pytest.mark.parametrize("content", [None, b"x" * 5000])
def test_rows_of_no_ledger_are_an_error_for_people(tmp_path, content):
    if content:
        (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db: cannot be read: .*; check --storage\.path"):
        hours(tmp_path)
