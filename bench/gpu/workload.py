"""Phases of the workload: a batch size each, metered by the agent and by the counter itself at the same time."""

from __future__ import annotations

import time
from typing import NamedTuple

from bench.gpu.counter import Comparison, Watch
from bench.gpu.metering import Agent
from bench.gpu.model import Model, Shape
from bench.gpu.nvml import Card
from bench.gpu.page import Page

BATCHES = (1, 4, 16, 64, 256)
SHAPES = tuple(
    Shape(name, batch, prompt, output)
    for name, prompt, output in (("decode-heavy", 32, 128), ("prefill-heavy", 1024, 8))
    for batch in BATCHES
)


class Phase(NamedTuple):
    """One shape for some seconds. ``tokens`` and joules ``while working``; then both meters over the rests as well."""

    shape: Shape
    tokens: int
    working: Comparison
    counter_joules: float
    agent_joules: float | None = None
    agent_tokens: float | None = None

    @property
    def joules_per_token(self) -> float:
        """By the counter, while it worked."""
        return self.working.counter_joules / self.tokens

    @property
    def difference_joules(self) -> float:
        """Agent less counter, over the same stretch."""
        return 0.0 if self.agent_joules is None else self.agent_joules - self.counter_joules


def phase(model: Model, shape: Shape, seconds: float, meters: tuple[Card, Page, Agent | None]) -> Phase:
    """Batches one after the other for so long, between two rests in which the agent settles."""
    card, page, agent = meters
    before = agent.totals() if agent else None
    joules, tokens = card.joules(), page.prompt_tokens + page.output_tokens
    with Watch(card) as watch:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _batch(model, shape, page)
    after = agent.totals() if agent else None
    return Phase(
        shape,
        page.prompt_tokens + page.output_tokens - tokens,
        watch.comparison(),
        card.joules() - joules,
        after.joules - before.joules if after and before else None,
        after.tokens - before.tokens if after and before else None,
    )


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
    model.generate(shape, stepped)
    page.end(shape.batch, shape.output, first, time.monotonic() - began)
