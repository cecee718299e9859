"""What traces tell: one finished request as its engine's span shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct


class Request(Struct, frozen=True):
    """One request that ended. Times are unix seconds by the engine's clock, latencies are seconds.

    ``id``: trace id and span id. ``ttft``: from arrival, queue included. ``e2e``: the whole request. ``decode``: first
    to last token, where the span has it. ``outcome``: ok, error or aborted. None is what the span does not tell.
    """

    id: bytes
    began: float
    ended: float
    model: str = ""
    outcome: str = "ok"
    ttft: float | None = None
    e2e: float | None = None
    decode: float | None = None
    input_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    choices: int = 1

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; 0 for one token, None where the span does not tell.

        (E2E - TTFT) / (n - 1); decode / (n - 1) only where E2E is missing.
        """
        tokens = self.output_tokens
        if tokens is None:
            return None
        if tokens <= 1:
            return 0.0
        if self.e2e is not None and self.ttft is not None:
            return (self.e2e - self.ttft) / (tokens - 1)
        return self.decode / (tokens - 1) if self.decode is not None else None


def _unheard(accepted: bool) -> None:  # noqa: FBT001  a reply takes one word
    """Nobody waits for the answer, as in a replay."""


class Export(Struct, frozen=True):
    """One OTLP export: its requests by the attributes of the resource that sent them.

    ``answer``: called once, with whether the requests are committed; the exporter tries again where they are not.
    ``outcomes``: spans by what became of them so far (ignored, malformed, …).
    """

    source: str
    at: float
    error: str = ""
    requests: tuple[tuple[Mapping[str, str], Request], ...] = ()
    outcomes: Mapping[str, int] = {}
    seconds: float = 0.0
    detail: str = ""
    answer: Callable[[bool], None] = _unheard


class Traced(Struct, frozen=True):
    """The requests of one engine that an export brought."""

    engine: str
    at: float
    requests: tuple[Request, ...]
