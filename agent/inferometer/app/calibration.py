"""What a calibration is asked for and what it found, in figures, in sentences and as lines of the configuration."""

from __future__ import annotations

import math
from datetime import date

from msgspec import Struct

from inferometer.sources import public_url

_FORCED = "Other traffic was let pass (--force): the figures contain it.\n"


class Trial(Struct, frozen=True):
    """What to calibrate: ``url`` is the server or its page; ``seconds`` about how long. ``force``: traffic or not."""

    url: str
    api: str = ""
    model: str = ""
    bearer_token_file: str = ""
    concurrency: int = 16
    seconds: float = 40.0
    force: bool = False


class Phase(Struct, frozen=True):
    """What the page counted between two instants of rest. ``wall``: from the first call to the last answer.

    ``held``: the seconds of all calls together, by the calls that were allowed at a time. It is ``wall`` while that
    many are in flight, and leaves out the end, when fewer are.
    """

    workers: int
    requests: int
    prompt_tokens: float
    output_tokens: float
    wall: float
    held: float


class Calibration(Struct, frozen=True):
    """Both phases; rates in tokens per second."""

    trial: Trial
    engine: str
    model: str
    prefill: Phase
    decode: Phase

    @property
    def prefill_rate(self) -> float:
        """Uncached prompt tokens per second of nothing but prompts."""
        return self.prefill.prompt_tokens / self.prefill.wall

    @property
    def prompt_seconds(self) -> float:
        """What the prompts of the decode phase took, at the measured rate."""
        return self.decode.prompt_tokens / self.prefill_rate

    @property
    def decode_rate(self) -> float:
        """Output tokens per second at the working batch size."""
        return self.decode.output_tokens / (self.decode.held - self.prompt_seconds)

    def text(self, today: date) -> str:
        """Figures for people, and the lines of the configuration."""
        one, two, url = self.prefill, self.decode, public_url(self.trial.url)
        prefill, decode = _figure(self.prefill_rate), _figure(self.decode_rate)
        server = f"{self.engine}, model {self._printable_model}"
        found = (
            f"{url}: {server}\n\n"
            f"prefill  {prefill} tokens/s: {one.prompt_tokens:.0f} uncached prompt tokens in {one.wall:.1f} s; "
            f"{one.requests} prompts of {one.prompt_tokens / one.requests:.0f}, {one.workers} at a time, "
            "one output token each\n"
            f"decode   {decode} tokens/s: {two.output_tokens:.0f} output tokens in {two.held:.1f} s, "
            f"{self.prompt_seconds:.2f} s of it for prompts; {two.requests} answers of "
            f"{two.output_tokens / two.requests:.0f}, {two.workers} at a time\n"
            f"an output token takes as long as {self.prefill_rate / self.decode_rate:.1f} prompt tokens\n"
        )
        lines = (
            f"workloads:\n  - name: default\n    rates: {{prefill: {prefill}, decode: {decode}}}"
            f"  # measured {today} on {url}, {server}, concurrency {two.workers}"
        )
        return f"{found}{_FORCED if self.trial.force else ''}\n{lines}"

    @property
    def _printable_model(self) -> str:
        return "".join(letter for letter in self.model if letter.isprintable()) or "not named"


def _figure(rate: float) -> str:
    """Three digits that mean something."""
    digits = 2 - math.floor(math.log10(rate))
    return f"{round(rate, digits):.{max(0, digits)}f}"
