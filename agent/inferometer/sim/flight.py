"""One request on its way through an engine, and afterwards the truth about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inferometer.sim.traffic import Request


@dataclass(eq=False, slots=True)
class Flight:
    """A request in the engine; all times in seconds on the engine's clock.

    ``outcome`` is empty while it flies, then ok, error, rejected (queue limit), vanished (its client disconnected),
    lost (the process died) or refused (there was no process to ask).
    """

    request: Request
    process: int = 0
    listener: Callable[[Flight], None] | None = field(default=None, repr=False)
    scheduled: float | None = None
    first: float | None = None
    last: float = 0.0
    ended: float | None = None
    outcome: str = ""
    uncomputed: int = 0
    chunk: int = 0
    output_tokens: int = 0

    @property
    def ttft(self) -> float | None:
        """Arrival to first token, the queue included."""
        return None if self.first is None else self.first - self.request.at

    @property
    def e2e(self) -> float | None:
        """Arrival to last token, of requests that finished."""
        return self.last - self.request.at if self.outcome in ("ok", "error") else None

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first, of requests that finished; 0.0 where there was only one."""
        if self.first is None or self.outcome not in ("ok", "error"):
            return None
        return 0.0 if self.output_tokens == 1 else (self.last - self.first) / (self.output_tokens - 1)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the request holds in the KV cache."""
        return self.request.prompt_tokens - self.uncomputed + self.output_tokens

    def record(self) -> dict[str, Any]:
        """The truth about an ended request."""
        request = self.request
        return {
            "arrival": request.at,
            "prompt_tokens": request.prompt_tokens,
            "cached_tokens": request.cached_tokens,
            "output_tokens": self.output_tokens,
            "ttft": self.ttft,
            "tpot": self.tpot,
            "e2e": self.e2e,
            "outcome": self.outcome,
            "ended": self.ended,
            "process": self.process,
        }
