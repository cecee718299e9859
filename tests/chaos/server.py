"""A simulated engine in a scripted time, and what its good pages have shown of the truth."""

from __future__ import annotations

import random
from typing import Any

from inferometer.sim.engine import Engine
from inferometer.sim.traffic import Shape, Traffic
from inferometer.sim.truth import Totals

Counts = dict[str, float]
_COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens")


class Server:
    """One engine under load from ``start`` on. ``lost``: at most so much no good page has shown before it was gone."""

    def __init__(self, seed: int, start: float, requests_per_second: float = 2.0) -> None:
        self.engine = Engine(start=start)
        self.rng = random.Random(seed)
        self.lost: Counts = dict.fromkeys((*_COUNTED, "ok", "error"), 0.0)
        self._traffic = Traffic(seed, Shape(requests_per_second, error_ratio=0.05, disconnect_ratio=0.05), start)
        self._shown = self.truth()
        self._asked_until = float("inf")

    def page(self, now: float) -> bytes:
        """Its page at this time."""
        until = min(now, self._asked_until)
        self.engine.submit_all(self._traffic.between(self.engine.now, until))
        self.engine.advance(now)
        return self.engine.render()

    def rest(self, now: float) -> None:
        """Nobody asks any more."""
        self._asked_until = now

    def shown(self) -> None:
        """The page of this moment was read, whole and well."""
        self._shown = self.truth()

    def gone(self) -> None:
        """What happened since the last good page will be on none."""
        now = self.truth()
        for name in self.lost:
            self.lost[name] += now[name] - self._shown[name]
        self._shown = now

    def restart(self) -> None:
        """The process dies, and another one takes its place a moment later."""
        self.gone()
        self.engine.restart(0.25)

    def truth(self) -> Counts:
        """What really happened so far."""
        whole = Totals()
        for process in self.engine._truth.processes:
            whole = whole.plus(process.totals)
        for flight in self.engine.in_flight:
            whole.add(flight)
        counts = {name: float(getattr(whole, name)) for name in _COUNTED}
        return counts | {outcome: float(whole.requests[outcome]) for outcome in ("ok", "error")}

    def requests(self) -> list[dict[str, Any]]:
        """Every request that ended."""
        found: list[dict[str, Any]] = self.engine.truth()["requests"]
        return found
