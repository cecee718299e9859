"""Phases of the workload: a batch size each, metered by the agent and by the counter itself at the same time."""

from __future__ import annotations

import time
from typing import NamedTuple

from bench.gpu.counter import Comparison, Watch
from bench.gpu.metering import Agent, Totals
from bench.gpu.model import Model, Shape
from bench.gpu.nvml import Card
from bench.gpu.page import Page

BATCHES = (1, 4, 16, 64, 256)
SHAPES = tuple(
    Shape(name, batch, prompt, output)
    for name, prompt, output in (("decode-heavy", 32, 128), ("prefill-heavy", 1024, 8))
    for batch in BATCHES
)


class Metered(NamedTuple):
    """The agent's part of a phase, rests included: what it settled, and how far the counter rose meanwhile.

    ``counter_joules``: between the values closest to those that the agent settled up to, which are so many seconds old.
    """

    joules: float
    tokens: float
    counter_joules: float
    age_seconds: float


class Phase(NamedTuple):
    """One shape for some seconds: the tokens that were made, the counter while they were, and what the agent says."""

    shape: Shape
    tokens: int
    working: Comparison
    agent: Metered | None

    @property
    def joules_per_token(self) -> float:
        """By the counter, while it worked."""
        return self.working.counter_joules / self.tokens


def phase(model: Model, shape: Shape, seconds: float, meters: tuple[Card, Page, Agent | None]) -> Phase:
    """Batches one after the other for so long, between two rests in which the agent settles."""
    card, page, agent = meters
    with Watch(card) as watch:
        before = agent.totals() if agent else None
        tokens, began = page.prompt_tokens + page.output_tokens, time.monotonic()
        while time.monotonic() < began + seconds:
            _batch(model, shape, page)
        ended = time.monotonic()
        after = agent.totals() if agent else None
    metered = _metered(watch, before, after) if before and after else None
    made = page.prompt_tokens + page.output_tokens - tokens
    return Phase(shape, made, watch.comparison(began, ended), metered)


def _metered(watch: Watch, before: Totals, after: Totals) -> Metered:
    (began, low), (ended, high) = (watch.nearest(totals.counter, totals.at) for totals in (before, after))
    age = max(before.at - began, after.at - ended)
    return Metered(after.joules - before.joules, after.tokens - before.tokens, high - low, age)


def _batch(model: Model, shape: Shape, page: Page) -> None:
    began = time.monotonic()
    first = 0.0

    def stepped(number: int) -> None:
        nonlocal first
        if number:
            page.decoded(shape.batch)
        else:
            first = time.monotonic() - began
            page.prefilled(shape.batch, shape.prompt, first)

    page.begin(shape.batch)
    try:
        model.generate(shape, stepped)
    except Exception:
        page.begin(0)  # memory was too small for them
        raise
    page.end(shape.batch, shape.output, first, time.monotonic() - began)
