"""A long life: engines, models, pods, GPUs, spans and configurations come and go, and nothing adds up."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from chaos.soak import Soak, growth

CYCLES = int(os.environ.get("INFEROMETER_SOAK", "400"))
SEED = int(os.environ.get("INFEROMETER_SEED", "1"))
IS_LONG = CYCLES >= 10_000
CYCLE_SECONDS = 360 if IS_LONG else 3600  # 100,000 cycles of six minutes are 416 days: more than the ledger keeps
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def quiet():
    """Sources that go down and up are not for the output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_nothing_adds_up(tmp_path):
    """What is kept after the first days is as much as what is kept in the end; all counters go on."""
    csv = ROOT / ".cache" / "soak.csv" if IS_LONG else tmp_path / "soak.csv"
    soak = Soak(SEED, tmp_path, every=max(10, CYCLES // 100), seconds=CYCLE_SECONDS, csv=csv)
    asyncio.run(soak.run(CYCLES))
    assert not soak.laws.broken, soak.laws.broken
    settled = soak.samples[len(soak.samples) // 3 :]
    early, late = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    for name, slack in (("objects", 1.1), ("marks", 1.5), ("series", 1.3)):
        most = max(getattr(one, name) for one in early)
        assert max(getattr(one, name) for one in late) <= slack * most, (name, soak.samples)
    assert max(one.descriptors for one in late) <= max(one.descriptors for one in early), soak.samples
    assert max(one.tasks for one in settled) < 20
    if CYCLES >= 100_000:  # before, hours that the ledger keeps for 400 days still come without others going
        assert growth(settled, "rss_bytes") < 50_000, "bytes in 1,000 cycles"
    if IS_LONG:
        assert max(one.hour_rows for one in settled) <= 401 * 24 * 7  # workloads
