"""Every kind of damage to a ledger's files: it is trusted as a whole or set aside, and always gone on with."""

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest
from inferometer.ledger import Ledger, journal
from inferometer.model import Entry

LONG = "INFEROMETER_LONG" in os.environ
CASES = 125 if LONG else 8
NOON = 500_000 * 3600
TOKENS = ("inferometer_tokens_total", ("w", "e", "m", "output"))
LAST = 40


def posted(ledger, first, last):
    rng = random.Random(first)
    for n in range(first, last + 1):
        amounts = {TOKENS: 1.0} | {("a_total", (str(k),)): 1.0 for k in range(30)}
        marks = {"e": b"%d" % n, "large": rng.randbytes(9_000)}
        assert asyncio.run(ledger.post([Entry("w", NOON, amounts)], marks))


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory):
    """By the file that is to be damaged: one as a clean end leaves it, and one with a part in its write-ahead log.

    In both a part is in the tables and a part in the journal.
    """
    folder = tmp_path_factory.mktemp("whole")
    ledger = Ledger(folder / "a", "USD", lambda: NOON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_MOST_ROWS", LAST // 4)
        posted(ledger, 1, LAST // 2)
        ledger._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        posted(ledger, LAST // 2 + 1, LAST)
    killed = Path(shutil.copytree(folder / "a", folder / "b", ignore=shutil.ignore_patterns("lock")))
    ledger.close()
    assert (killed / "ledger.db-wal").stat().st_size > 20_000
    return {"ledger.db": folder / "a", "ledger.db-wal": killed}


def flip(path, rng):
    """One bit; as often in the first hundred bytes as anywhere else."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(100 if rng.random() < 0.5 else len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path, rng):
    """At the edge of a page, beside it, or anywhere."""
    size = path.stat().st_size
    at = rng.choice((0, rng.randrange(100), rng.randrange(size) // 4096 * 4096, rng.randrange(size)))
    os.truncate(path, at)


def zero(path, rng):
    """A sector."""
    at = rng.randrange(path.stat().st_size) // 512 * 512
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(512))


def swap(path, rng):
    """Two sectors."""
    data = bytearray(path.read_bytes())
    one, other = (rng.randrange(len(data) // 4096) * 4096 for _ in range(2))
    data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal"])
@pytest.mark.parametrize("damage", [flip, cut, zero, swap])
def test_a_damaged_ledger_is_whole_or_set_aside(tmp_path, ledgers, damage, name):
    """Never an older state than was exposed, and nothing of what was there is deleted.

    SQLite's pages have no checksums: a bit within a number may change that number and be seen by nobody.
    """
    rng = random.Random(f"{damage.__name__} {name}")
    aside = 0
    for number in range(CASES):
        folder = Path(shutil.copytree(ledgers[name], tmp_path / str(number)))
        damage(folder / name, rng)
        before = folder.joinpath("ledger.db").stat().st_size
        ledger = Ledger(folder, "USD", lambda: NOON)
        try:
            if ledger.kept_aside:
                aside += 1
                assert (ledger.state.totals, ledger.state.marks, ledger.state.generation) == ({}, {}, 0)
                (kept,) = folder.glob("ledger.set-aside-*.db")
                assert kept.stat().st_size >= before
            else:
                assert ledger.state.generation >= LAST
            had = ledger.state.totals.get(TOKENS, 0.0)
            posted(ledger, 50, 51)
            assert ledger.state.totals[TOKENS] == had + 2
        finally:
            ledger.close()
        shutil.rmtree(folder)
    assert aside > 0
