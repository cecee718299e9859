"""What really happened in an engine, kept apart from the counters on its page."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from inferometer.sim.flight import Flight

KEPT_REQUESTS = 20_000


@dataclass
class Totals:
    """Sums over requests. Prompt tokens count from the first token on, output tokens as they come.

    Output = finished (ok or error) + wasted (vanished or lost) + in flight.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    finished_output_tokens: int = 0
    wasted_output_tokens: int = 0
    first_tokens: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def add(self, flight: Flight) -> None:
        """Count one request as it stands."""
        if flight.first is not None:
            self.first_tokens += 1
            self.prompt_tokens += flight.request.prompt_tokens
            self.cached_tokens += flight.request.cached_tokens
        self.output_tokens += flight.output_tokens
        if flight.outcome in ("ok", "error"):
            self.finished_output_tokens += flight.output_tokens
        elif flight.outcome:
            self.wasted_output_tokens += flight.output_tokens
        self.requests[flight.outcome or "in_flight"] += 1

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.finished_output_tokens + other.finished_output_tokens,
            self.wasted_output_tokens + other.wasted_output_tokens,
            self.first_tokens + other.first_tokens,
            self.requests + other.requests,
        )


@dataclass
class Process:
    """One life of the engine process, from ``start`` to ``end`` (None: it lives)."""

    start: float
    end: float | None = None
    totals: Totals = field(default_factory=Totals)


@dataclass
class Truth:
    """All lives of an engine, and its ended requests (the newest 20,000)."""

    processes: list[Process] = field(default_factory=list)
    ended: deque[Flight] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))

    def add(self, flight: Flight) -> None:
        """An ended request, counted in the process that served it."""
        self.processes[flight.process].totals.add(flight)
        self.ended.append(flight)

    def report(self, in_flight: Iterable[Flight]) -> dict[str, Any]:
        """Everything as plain JSON; what is in flight counts in the newest process."""
        flying = Totals()
        for flight in in_flight:
            flying.add(flight)
        sums = [process.totals for process in self.processes]
        sums[-1] = sums[-1].plus(flying)
        whole = Totals()
        for totals in sums:
            whole = whole.plus(totals)
        return {
            "totals": _plain(whole),
            "processes": [
                {"start": p.start, "end": p.end, "totals": _plain(totals)}
                for p, totals in zip(self.processes, sums, strict=True)
            ],
            "in_flight": {"requests": flying.requests.total(), "output_tokens": flying.output_tokens},
            "requests": [flight.record() for flight in self.ended],
        }


def _plain(totals: Totals) -> dict[str, Any]:
    return {**vars(totals), "requests": dict(totals.requests)}
