"""Who asks for what, and when: a Poisson process with a daily rhythm, a pure function of seed and time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

BLOCK_TOKENS = 16
_CELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a client at ``at`` (seconds).

    ``output_tokens`` come out if nobody interferes; ``finish`` is the reason then: stop, length or error.
    A client with a ``patience_seconds`` disconnects that long after it asked, unless it was answered.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    max_tokens: int = 0
    finish: str = "length"
    patience_seconds: float | None = None
    handler: str = "/v1/chat/completions"

    def __post_init__(self) -> None:
        """Refuse what no engine can serve: nothing to compute, or nothing to say."""
        if not 0 <= self.cached_tokens < self.prompt_tokens or self.output_tokens < 1:
            raise ValueError(f"a request needs cached < prompt tokens and at least one output token: {self!r}")


@dataclass(frozen=True)
class Lengths:
    """A lognormal distribution of token counts: its median, the sigma of its logarithm, and a cap."""

    median: float
    sigma: float
    cap: int

    def draw(self, rng: random.Random) -> int:
        """A length in 1..cap."""
        return max(1, min(self.cap, round(rng.lognormvariate(math.log(self.median), self.sigma))))


@dataclass(frozen=True)
class Burst:
    """Once in every ``every_seconds``, for ``seconds``, arrivals come ``factor`` (>= 1) times as fast."""

    every_seconds: float
    seconds: float
    factor: float


@dataclass(frozen=True)
class Shape:
    """What the traffic is like. ``requests_per_second`` is the mean over a day of ``day_seconds``.

    The rate swings by ``swing`` (0..1) of the mean around it, rising at time 0. ``cached_ratio`` is the mean share
    of a prompt that the engine still has in its prefix cache.
    """

    requests_per_second: float = 2.0
    day_seconds: float = 86_400.0
    swing: float = 0.8
    prompt: Lengths = Lengths(median=400.0, sigma=0.8, cap=4096)
    output: Lengths = Lengths(median=120.0, sigma=0.7, cap=1024)
    cached_ratio: float = 0.3
    disconnect_ratio: float = 0.02
    patience_seconds: float = 2.0
    error_ratio: float = 0.0
    burst: Burst | None = None


class Traffic:
    """The requests of one engine's clients; time counts from ``origin`` on the caller's clock."""

    def __init__(self, seed: int, shape: Shape | None = None, origin: float = 0.0) -> None:
        self.seed = seed
        self.shape = shape or Shape()
        self.origin = origin
        self._cells: dict[int, list[Request]] = {}

    def rate(self, at: float) -> float:
        """Expected requests per second at ``at``."""
        shape, t = self.shape, at - self.origin
        daily = 1.0 + shape.swing * math.sin(2.0 * math.pi * t / shape.day_seconds)
        return shape.requests_per_second * daily * self._burst_factor(t)

    def between(self, start: float, end: float) -> list[Request]:
        """The requests with start <= at < end, in order; the same however the time is cut."""
        if end <= start:
            return []
        # One cell early: the sum of a cell's begin and an offset may round up to the next cell's begin.
        first = max(0, math.floor((start - self.origin) / _CELL_SECONDS) - 1)
        last = math.floor((end - self.origin) / _CELL_SECONDS)
        # A reader walks forward in small steps and asks for the same cell many times.
        drawn = self._cells
        self._cells = {n: drawn[n] if n in drawn else self._draw_cell(n) for n in range(first, last + 1)}
        return [r for cell in self._cells.values() for r in cell if start <= r.at < end]

    def _burst_factor(self, t: float) -> float:
        burst = self.shape.burst
        if burst is None:
            return 1.0
        number = math.floor(t / burst.every_seconds)
        free = burst.every_seconds - burst.seconds
        begins = number * burst.every_seconds + random.Random(f"{self.seed}/burst/{number}").uniform(0.0, free)
        return burst.factor if begins <= t < begins + burst.seconds else 1.0

    def _draw_cell(self, number: int) -> list[Request]:
        """Arrivals of one cell by thinning: drawn at the highest rate, kept in proportion to the rate then."""
        rng = random.Random(f"{self.seed}/{number}")
        burst = self.shape.burst.factor if self.shape.burst else 1.0
        peak = self.shape.requests_per_second * (1.0 + self.shape.swing) * burst
        begin = self.origin + number * _CELL_SECONDS
        drawn: list[Request] = []
        offset = rng.expovariate(peak) if peak > 0 else math.inf
        while offset < _CELL_SECONDS:
            if rng.random() * peak < self.rate(begin + offset):
                drawn.append(self._draw(rng, begin + offset))
            offset += rng.expovariate(peak)
        return drawn

    def _draw(self, rng: random.Random, at: float) -> Request:
        shape = self.shape
        prompt, output = shape.prompt.draw(rng), shape.output.draw(rng)
        finish = "error" if rng.random() < shape.error_ratio else rng.choice(("stop", "length"))
        impatient = rng.random() < shape.disconnect_ratio
        return Request(
            at=at,
            prompt_tokens=prompt,
            output_tokens=output,
            cached_tokens=_cached(rng, prompt, shape.cached_ratio),
            max_tokens=output if finish == "length" else 2 * output,
            finish=finish,
            patience_seconds=rng.expovariate(1.0 / shape.patience_seconds) if impatient else None,
        )


def _cached(rng: random.Random, prompt: int, ratio: float) -> int:
    """Whole blocks of the prompt, never all of it: the last token is always computed."""
    if ratio <= 0.0:
        return 0
    share = rng.betavariate(4.0 * ratio, 4.0 * (1.0 - ratio)) if ratio < 1.0 else 1.0
    return int(min(share * prompt, prompt - 1)) // BLOCK_TOKENS * BLOCK_TOKENS
