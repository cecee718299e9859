"""Faults between the agent and all that it reads: counts stay exact, the agent stays up, nobody else notices."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from chaos.trial import Trial

FAULTS = int(os.environ.get("INFEROMETER_CHAOS", "200"))
SEED = int(os.environ.get("INFEROMETER_SEED", "1"))
_PER_TRIAL = 1000


@pytest.fixture(autouse=True)
def quiet():
    """Thousands of sources go down and up: that is not for the output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kills", [False, True], ids=["one agent", "an agent that is killed now and then"])
def test_after_any_faults_every_count_is_the_truth(tmp_path, kills):
    """At a scripted time: each page, answer and meter is wrong every other time; then tokens, money, joules add up."""
    faults = FAULTS // 2
    for number in range(0, faults, _PER_TRIAL):
        seed = SEED + number + kills
        folder = tmp_path / str(number)
        folder.mkdir()
        trial = Trial(seed, folder, kills=kills)
        asyncio.run(trial.run(min(_PER_TRIAL, faults - number)))
        assert not trial.broken, f"seed {seed}: " + "\n".join(trial.broken)
        assert trial.world.faults.total() >= min(_PER_TRIAL, faults - number)
