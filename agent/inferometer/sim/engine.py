"""A queueing model of an LLM server with continuous batching: the pure part, which knows no clock but its own."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

from inferometer.sim.flight import Flight
from inferometer.sim.sheet import Gauges, Sheet
from inferometer.sim.traffic import Request
from inferometer.sim.truth import Process, Truth

_NEVER = float("inf")
_IDLE_CPU, _BUSY_CPU = 0.03, 0.9  # CPU seconds per second


@dataclass(frozen=True)
class Machine:
    """How fast a server is and how much fits.

    A step takes ``step_seconds`` + ``sequence_seconds`` for every decoding request + ``kv_token_seconds`` for every
    token in the KV cache + the step's prompt tokens at ``prefill_tokens_per_second``.
    ``max_num_queued`` waiting requests are the most before new ones are rejected; None: no limit.
    """

    model: str = "small"
    prefill_tokens_per_second: float = 20_000.0
    step_seconds: float = 0.010
    sequence_seconds: float = 0.0003
    kv_token_seconds: float = 5e-8
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_num_queued: int | None = None
    max_model_len: int = 8192
    kv_cache_tokens: int = 262_144


class Engine:
    """One server. Nothing happens by itself: ``advance`` lets time pass. ``start`` is unix time in seconds."""

    def __init__(self, machine: Machine | None = None, start: float = 0.0) -> None:
        self.machine = machine or Machine()
        self.now = start
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._truth = Truth()
        self._stalled_until = start
        self._boot(start)

    def _boot(self, start: float) -> None:
        self.started = start
        self._truth.processes.append(Process(start))
        self.sheet = Sheet(self.machine.model, self.machine.max_model_len, start)
        self._pending: list[Flight] = []  # connections that the stalled server has not yet taken up
        self._waiting: deque[Flight] = deque()
        self._running: list[Flight] = []
        self._step_begin, self._step_end = start, _NEVER
        self._reserved = 0
        self._busy_seconds = 0.0

    # -- what happens to it ------------------------------------------------------------------------

    def submit(self, request: Request, listener: Callable[[Flight], None] | None = None) -> Flight:
        """A request that arrives at ``request.at``, not in the past; ``listener`` hears of every token and the end."""
        if request.at < self.now:
            raise ValueError(f"a request of {request.at} came after {self.now} was simulated")
        flight = Flight(request, listener=listener)
        self._at(request.at, lambda: self._arrive(flight))
        if request.patience_seconds is not None:
            self._at(request.at + request.patience_seconds, lambda: self.leave(flight))
        return flight

    def submit_all(self, requests: Iterable[Request]) -> None:
        """Many requests."""
        for request in requests:
            self.submit(request)

    def leave(self, flight: Flight) -> None:
        """The client of ``flight`` disconnects now; no word of it after it ended."""
        if not flight.outcome:
            self._drop(flight)
            self._end(flight, "vanished")
            self.sheet.answered(flight, self.now)

    def stall(self, seconds: float) -> None:
        """No progress for so long: connections pile up, the page stands still, running = 0 if it was idle before."""
        until = max(self._stalled_until, self.now + seconds)
        self._step_end += until - max(self._stalled_until, self.now)
        self._stalled_until = until
        self._at(until, self._wake)

    def restart(self, down_seconds: float = 0.0) -> None:
        """The process dies with all it was doing; the next one starts at zero after ``down_seconds``."""
        for flight in self.in_flight:
            self._end(flight, "lost")
        self._truth.processes[-1].end = self.now
        self._stalled_until = self.now
        self._boot(self.now + down_seconds)

    def advance(self, to: float) -> None:
        """Let time pass until ``to``."""
        while True:
            event = self._events[0][0] if self._events else _NEVER
            at = min(event, self._step_end)
            if at > to:
                break
            self.now = max(self.now, at)
            if self._step_end <= event:
                self._finish_step()
            else:
                heapq.heappop(self._events)[2]()
            if self._step_end == _NEVER and self.now >= self._stalled_until:
                self._begin_step()
        self.now = max(self.now, to)

    # -- what can be seen --------------------------------------------------------------------------

    @property
    def in_flight(self) -> list[Flight]:
        """Requests that arrived and have not ended."""
        return [*self._running, *self._waiting, *self._pending]

    @property
    def stalled(self) -> bool:
        """Whether it makes no progress just now."""
        return self.now < self._stalled_until

    @property
    def load(self) -> float:
        """How hard its GPUs work, 0..1: half for any work at all, the rest by the size of the batch."""
        if not self._running or self.stalled:
            return 0.0
        return 0.5 + 0.5 * min(1.0, len(self._running) / self.machine.max_num_seqs)

    def render(self) -> bytes:
        """The metrics page now."""
        busy = self._busy_seconds
        cpu = round(_IDLE_CPU * max(0.0, self.now - self.started) + _BUSY_CPU * busy, 2)
        connections = len(self._running) + len(self._waiting) + len(self._pending)
        used = min(1.0, self._kv_tokens() / self.machine.kv_cache_tokens)
        return self.sheet.render(Gauges(len(self._running), len(self._waiting), used, connections, cpu))

    def truth(self) -> dict[str, Any]:
        """What really happened: totals since the first start, per process, and each ended request."""
        return self._truth.report(self.in_flight)

    # -- how it works ------------------------------------------------------------------------------

    def _at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), action))

    def _arrive(self, flight: Flight) -> None:
        flight.process = len(self._truth.processes) - 1
        if flight.outcome:
            return
        if self.now < self.started:
            self._end(flight, "refused")
        elif self.stalled:
            self._pending.append(flight)
        else:
            self._enqueue(flight)

    def _wake(self) -> None:
        if not self.stalled:
            pending, self._pending = self._pending, []
            for flight in pending:
                self._enqueue(flight)

    def _enqueue(self, flight: Flight) -> None:
        limit = self.machine.max_num_queued
        if limit is not None and len(self._waiting) >= limit:
            self._end(flight, "rejected")
            self.sheet.rejected()
            self.sheet.answered(flight, self.now)
        else:
            self._waiting.append(flight)

    def _admit(self) -> None:
        machine = self.machine
        while self._waiting and len(self._running) < machine.max_num_seqs:
            flight = self._waiting[0]
            if self._running and self._reserved + _kv_need(flight) > machine.kv_cache_tokens:
                return
            self._waiting.popleft()
            flight.scheduled = self.now
            flight.uncomputed = flight.request.prompt_tokens - flight.request.cached_tokens
            self._reserved += _kv_need(flight)
            self._running.append(flight)
            self.sheet.scheduled(flight)

    def _begin_step(self) -> None:
        """One token for each request that decodes, and as much of the prompts as the token budget still takes."""
        self._admit()
        if not self._running:
            return
        machine = self.machine
        decoding = sum(1 for flight in self._running if not flight.uncomputed)
        budget = max(1, machine.max_num_batched_tokens - decoding)
        left = budget
        for flight in self._running:
            flight.chunk = min(flight.uncomputed, left)
            left -= flight.chunk
        seconds = machine.step_seconds + machine.sequence_seconds * decoding
        seconds += machine.kv_token_seconds * self._kv_tokens()
        seconds += (budget - left) / machine.prefill_tokens_per_second
        self._step_begin, self._step_end = self.now, self.now + seconds
        self._busy_seconds += seconds

    def _finish_step(self) -> None:
        self._step_end = _NEVER
        computed = generated = 0
        for flight in tuple(self._running):
            if flight.uncomputed:
                flight.uncomputed -= flight.chunk
                if flight.uncomputed:
                    continue
                computed += flight.request.prompt_tokens - flight.request.cached_tokens
            self._token(flight)
            generated += 1
        if generated:
            self.sheet.stepped(computed, generated)

    def _token(self, flight: Flight) -> None:
        previous, flight.last = flight.last, self.now
        flight.output_tokens += 1
        if flight.first is None:
            flight.first = self.now
            self.sheet.first_token(flight)
        else:
            self.sheet.next_token(self.now - previous)
        if flight.output_tokens >= flight.request.output_tokens:
            self._drop(flight)
            self._end(flight, "error" if flight.request.finish == "error" else "ok")
            self.sheet.finished(flight)
            self.sheet.answered(flight, self.now)
        elif flight.listener:
            flight.listener(flight)

    def _drop(self, flight: Flight) -> None:
        for queue in (self._running, self._waiting, self._pending):
            if flight in queue:
                queue.remove(flight)
        if flight.scheduled is not None:
            self._reserved -= _kv_need(flight)

    def _end(self, flight: Flight, outcome: str) -> None:
        flight.outcome, flight.ended = outcome, self.now
        self._truth.add(flight)
        if flight.listener:
            flight.listener(flight)

    def _kv_tokens(self) -> int:
        return sum(flight.kv_tokens for flight in self._running)


def _kv_need(flight: Flight) -> int:
    """KV tokens that a request may come to hold: reserved at admission, so that nothing is ever preempted."""
    return flight.request.prompt_tokens + flight.request.output_tokens
