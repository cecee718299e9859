"""``python -m bench.gpu``: the report of one machine. Exit code 1 without a GPU, or where the agent is wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.gpu import calls, metering, workload
from bench.gpu.counter import Comparison, Watch
from bench.gpu.model import Model, Transformer, Waiting
from bench.gpu.nvml import Card, Library, NoGpuError
from bench.gpu.page import Page
from bench.gpu.workload import Phase

_IDLE_SECONDS = 10.0
_OLDEST_SECONDS = 3.0  # what the agent settled up to: two or three of its intervals on a machine that has time
_BETWEEN_SAMPLES_SECONDS = 0.004  # a counter that moves all the time moves on while we look away


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    options = _options(argv)
    try:
        card = Library().cards[options.gpu]
    except NoGpuError as error:
        _say(f"No NVIDIA GPU to test: {error}. Run this where nvidia-smi shows one.")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    _say(f"{card.name}, {card.uuid}, driver {card.library.text('nvmlSystemGetDriverVersion')}\n")
    answers = list(calls.every(card, options.calls))
    _say("\n".join(_signals(answers)))
    if answers[0].code:
        _say(f"This GPU has no energy counter (code {answers[0].code}): there is nothing to check joules against.")
        return 1
    idle = _idle(card, options.idle)
    _say(f"\nidle for {options.idle:g} s: {_compared(idle)}\n")
    phases = _work(card, options)
    report = {"gpu": card.name, "signals": answers, "idle": idle, "phases": phases}
    (options.out / "report.json").write_text(json.dumps(_plain(report), indent=1) + "\n", encoding="utf-8")
    wrong = [phase for phase in phases if not _agrees(phase, idle)]
    for phase in wrong:
        _say(f"WRONG: the agent's figures of {phase.shape.name}, batch {phase.shape.batch}")
    return 1 if wrong else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="which one")
    parser.add_argument("--out", type=Path, default=Path(".cache") / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}")
    parser.add_argument("--calls", type=int, default=200, help="of each NVML function")
    parser.add_argument("--idle", type=float, default=_IDLE_SECONDS, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=10.0, help="of work for each batch size")
    parser.add_argument("--batches", type=int, nargs="+", default=workload.BATCHES)
    parser.add_argument("--pretend", action="store_true", help="generate no tokens, only count: to try this script")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _signals(answers: Sequence[calls.Answer]) -> Iterator[str]:
    yield f"{'signal':<36} {'value':>20} {'p50, µs':>9} {'p99, µs':>9}"
    for answer in answers:
        value = f"refused, code {answer.code}" if answer.value is None else f"{answer.value:,.6g}"
        yield f"{answer.signal:<36} {value:>20} {answer.p50_microseconds:>9.1f} {answer.p99_microseconds:>9.1f}"


def _idle(card: Card, seconds: float) -> Comparison:
    with Watch(card) as watch:
        time.sleep(seconds)
    return watch.comparison()


def _compared(found: Comparison) -> str:
    watts = found.counter_joules / found.seconds
    tick = f"the counter moves every {1000 * found.tick_seconds:.0f} ms"
    return f"{watts:.1f} W by the counter, {found.ratio:.3f} of what power samples add up to; {tick}"


def _work(card: Card, options: argparse.Namespace) -> list[Phase]:
    model = _model(pretend=options.pretend)
    python = metering.interpreter()
    if not python:
        _say("The agent does not meter: no Python here has its packages (make .venv/.installed).")
    if model is None:
        return []
    found = []
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(Page())
        agent = stack.enter_context(metering.Agent(python, page.url, card.uuid, options.out)) if python else None
        if python:
            stack.enter_context(metering.recording(python, page.url, options.out / "recording"))
        _say(_HEAD)
        for shape in workload.SHAPES:
            if shape.batch not in options.batches:
                continue
            try:
                phase = workload.phase(model, shape, options.seconds, (card, page, agent))
            except RuntimeError as error:  # torch has a RuntimeError of its own for memory that is too small
                _say(f"{shape.name:<14} {shape.batch:>5}  not done: {str(error).splitlines()[0]}")
                continue
            found.append(phase)
            _say(_row(phase))
    return found


def _model(*, pretend: bool) -> Model | None:
    if pretend:
        return Waiting()
    make: Callable[[], Model] = Transformer
    try:
        return make()
    except ImportError as error:
        _say(f"No tokens are generated: {error}.")
        return None


_HEAD = f"{'work':<14} {'batch':>5} {'tokens/s':>10} {'W':>7} {'counter/power':>13} {'J/token':>9}   agent"


def _row(phase: Phase) -> str:
    work = phase.working
    agents = "-"
    if phase.agent is not None:
        joules, tokens, counted, age = phase.agent
        agents = (
            f"{joules:.3f} J, {joules - counted:+.3f}; {tokens:.0f} tokens, {tokens - phase.tokens:+.0f}; {age:.1f} s"
        )
    return (
        f"{phase.shape.name:<14} {phase.shape.batch:>5} {phase.tokens / work.seconds:>10,.0f} "
        f"{work.counter_joules / work.seconds:>7.1f} {work.ratio:>13.3f} {phase.joules_per_token:>9.4f}   {agents}"
    )


def _plain(value: Any) -> Any:
    """Named tuples with their names, which json would leave out."""
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _agrees(phase: Phase, idle: Comparison) -> bool:
    """Every token, and every joule that the counter rose by between two readings a moment before we asked."""
    if phase.agent is None:
        return True
    tolerance = 0.002 + _BETWEEN_SAMPLES_SECONDS * idle.counter_joules / idle.seconds
    is_right = abs(phase.agent.joules - phase.agent.counter_joules) <= tolerance
    return is_right and phase.agent.tokens == phase.tokens and phase.agent.age_seconds <= _OLDEST_SECONDS


if __name__ == "__main__":
    sys.exit(main())
