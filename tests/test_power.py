"""Power loss: whatever an unsynced disk forgets, what was exposed is in the ledger, and the ledger is whole.

`make kills` opens 1,000 images; INFEROMETER_IMAGES and INFEROMETER_IMAGES_SEED choose otherwise.
"""

import asyncio
import collections
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakedisk import FakeDisk, build
from inferometer.ledger import Ledger, hours, journal
from lines import Lines
from live import Agent, Clients, Engines, environment, eventually
from power import SYNC_FOLDER, Disk, records

IMAGES = int(os.environ.get("INFEROMETER_IMAGES", "48"))
SEED = int(os.environ.get("INFEROMETER_IMAGES_SEED", "1"))
NOON = 500_000 * 3600
COUNTED = ("inferometer_tokens_total", "inferometer_requests_total", "inferometer_cost_total")
TOKENS = ("inferometer_tokens_total", ("w", "e", "m", "output"))

WRITER = """
import asyncio, random, sys, time
from pathlib import Path
from inferometer.ledger import Ledger, journal
from inferometer.model import Entry

NOON, folder, posts, seed = 500_000 * 3600, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
journal._MOST_ROWS = rng.choice((5, journal._MOST_ROWS))

async def main():
    ledger = Ledger(folder, "USD", lambda: NOON)
    n = int(ledger.state.marks.get("e", b"0"))
    print("had", n, time.monotonic(), flush=True)
    for _ in range(posts):
        n += 1
        assert ledger.spans.take(b"%024d" % n)
        amounts = {("inferometer_tokens_total", ("w", "e", "m", "output")): 1.0}
        amounts |= {("a_total", ("w", str(k))): 1.0 for k in range(rng.randint(1, 40))}
        marks = {"e": str(n).encode(), "large": rng.randbytes(rng.choice((10, 5_000, 40_000)))}
        assert await ledger.post([Entry("w", NOON, amounts)], marks)
        print("exposed", n, time.monotonic(), flush=True)
    if len(sys.argv) == 5:
        ledger.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("disk"))


def written(disk, folder, lives):
    """Let several processes write one after the other; when each number was exposed (monotonic)."""
    exposed = []
    for number, (posts, *more) in enumerate(lives):
        command = [sys.executable, "-c", WRITER, str(folder), str(posts), str(SEED + number), *more]
        done = subprocess.run(command, env=environment(**disk.environ), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = [line.split() for line in done.stdout.splitlines()]
        exposed += [(float(at), int(n)) for word, n, at in said if word == "exposed"]
    return exposed


def images(disk, count, rng, to, *, first=0, most=None):
    """So many cuts amid the ``most`` records after the ``first``: which, until when nothing else was done.

    The image is in ``to``.
    """
    done = records(disk.log)
    last = len(done) if most is None else min(len(done), first + most)
    model, cuts = Disk(disk.root), collections.Counter(rng.randrange(first, last) for _ in range(count))
    for number, record in enumerate(done):
        model.do(record)
        until = done[number + 1].at if number + 1 < len(done) else float("inf")
        for _ in range(cuts[number]):
            shutil.rmtree(to, ignore_errors=True)
            to.mkdir()
            model.image(rng, to)
            yield number, until


def judge(folder, least):
    """An image's ledger has all that was exposed: totals, marks, hours and span ids of one moment; returns which."""
    ledger = Ledger(folder, "USD", lambda: NOON)
    try:
        aside = sorted(path.name for path in folder.glob("*set-aside*"))
        n = int(ledger.state.marks.get("e", b"0"))
        assert (n >= least, aside) == (True, []), f"{n} is left of {least}"
        assert ledger.state.totals.get(TOKENS, 0.0) == n
        assert not any(ledger.spans.take(b"%024d" % k) for k in range(1, n + 1)), "a span would count again"
        found = dict(hours(folder)[0][2]) if n else {}
        assert found.get((TOKENS[0], ("w", "m", "output")), 0.0) == n
        assert asyncio.run(ledger.post([], {"e": b"%d" % n})), "it can be gone on with"
    finally:
        ledger.close()
    return n


def test_a_power_cut_takes_nothing_that_was_exposed(tmp_path, library):
    """New folder, kills, clean ends, folds of the journal and checkpoints of the log among what is cut short."""
    disk = FakeDisk(library, tmp_path / "root", tmp_path / "log")
    disk.root.mkdir()
    folder = disk.root / "deep" / "ledger"
    exposed = written(disk, folder, [(40,), (40, "close"), (1,), (80,), (40, "close")])
    assert exposed[-1][1] == 201
    rng, left = random.Random(SEED), collections.Counter()
    for _, until in images(disk, IMAGES, rng, tmp_path / "image"):
        least = max((n for at, n in exposed if at < until), default=0)
        left[judge(tmp_path / "image/deep/ledger", least) - least] += 1
    assert set(left) <= {0, 1}, "never more than the one commit that nobody had heard of"


def test_a_new_ledger_is_in_folders_that_are_on_the_disk(tmp_path, library):
    disk = FakeDisk(library, tmp_path / "root", tmp_path / "log")
    disk.root.mkdir()
    written(disk, disk.root / "deep" / "ledger", [(1,)])
    synced = {Path(record.first.decode()) for record in records(disk.log) if record.op == SYNC_FOLDER}
    assert synced >= {disk.root, disk.root / "deep", disk.root / "deep" / "ledger"}


def test_a_power_cut_while_a_ledger_is_set_aside(tmp_path, library):
    """Neither ledger has a part of the other; what the new one exposed is there, and so is the old one."""
    disk = FakeDisk(library, tmp_path / "root", tmp_path / "log")
    folder = disk.root / "ledger"
    folder.mkdir(parents=True)
    written(disk, folder, [(40,)])
    newer = f"import sqlite3; sqlite3.connect({str(folder / 'ledger.db')!r}).execute('PRAGMA user_version = 99')"
    subprocess.run([sys.executable, "-c", newer], env=environment(**disk.environ), check=True)
    first = len(records(disk.log))
    exposed = written(disk, folder, [(20,)])
    rng, done = random.Random(SEED), records(disk.log)
    for number, until in images(disk, IMAGES // 4, rng, tmp_path / "image", first=first, most=60):
        image = tmp_path / "image/ledger"
        least = max((n for at, n in exposed if at < until), default=0)
        ledger = Ledger(image, "USD", lambda: NOON)
        n = int(ledger.state.marks.get("e", b"0"))
        ledger.close()
        assert (n >= least, ledger.state.totals.get(TOKENS, 0.0)) == (True, n), f"cut after {number} of {len(done)}"
        kept = [_tokens(path) for path in image.glob("ledger.set-aside-*.db")]
        assert (n <= 20, max(kept)) == (True, 40.0), "the old one is there, whole"


def lives(disk, clients, arguments):
    """Two lives of an agent under load, each killed; what was exposed of tokens, money and requests, and when."""
    seen = []
    for _ in range(2):
        where = ("--storage.path", disk.root / "new/ledger")
        with Agent(disk.root.parent / "agent.log", *arguments, *where, **disk.environ) as agent:
            agent.until(lambda page: page.sum(TOKENS[0]) is not None)
            if not seen:
                clients.start()
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                text = agent.get("/metrics")[1]
                seen.append((time.monotonic(), Lines(text)))
                time.sleep(0.05)
            agent.kill()
    return seen


def test_an_agent_goes_on_after_a_power_cut(tmp_path, library):
    """What the disk forgot was exposed to nobody, and comes back from the engine's counters."""
    disk = FakeDisk(library, tmp_path / "root", tmp_path / "log")
    disk.root.mkdir()
    with Engines(tmp_path / "engines.log") as engines:
        run = ("--engine.url", engines.urls[0], "--interval", "250ms", "--gpus", "1", "--price.gpu-hour", "3600")
        with Clients(engines.urls[0], count=3, seed=SEED) as clients:
            seen = lives(disk, clients, run)
        eventually(lambda: engines.truth(0)["in_flight"]["requests"] == 0, "the engine at rest")
        truth = engines.truth(0)["totals"]
        done = truth["prompt_tokens"] + truth["output_tokens"]
        first = next(n for n, record in enumerate(records(disk.log)) if record.at > seen[0][0])
        rng = random.Random(SEED)
        for number, until in images(disk, max(1, IMAGES // 50), rng, tmp_path / "image", first=first):
            exposed = {}
            for at, page in seen:
                if at < until:
                    exposed |= {name: page.sum(name) or 0.0 for name in COUNTED}
            folder = tmp_path / "image/new/ledger"
            with Agent(tmp_path / f"after-{number}.log", *run, "--storage.path", folder) as agent:
                page = agent.page() or agent.until(lambda _: True)
                assert all((page.sum(name) or 0.0) >= value for name, value in exposed.items())
                page = agent.until(lambda page: page.sum(TOKENS[0]) == done, "every token")
                assert page.sum("inferometer_requests_total", outcome="ok") == truth["requests"]["ok"]
                assert page.sum("inferometer_ledgers_set_aside") == 0


def _tokens(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return journal.load(database)[0].totals.get(TOKENS, 0.0)
