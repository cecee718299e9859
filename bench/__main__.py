"""``python -m bench``: ratios first, then what they are made of. Needs Linux, and a machine that does nothing else."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import cards, machine, subjects, trial
from bench.pages import Pages
from bench.subjects import AGENT, LOOP, PROMETHEUS
from bench.trial import Sidecar, Start, Trial

_CACHE = Path(__file__).parents[1] / ".cache"  # on a disk, where temporary folders may be in memory
_FEWEST_RUNS = 3

Trials = Mapping[str, Sequence[Trial]]
Sidecars = Mapping[str, Sequence[Sidecar]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all trials and print the tables."""
    options = _options(argv)
    print_line = _printer()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended too
    print_line(f"{machine.described()}\n{_conditions(options)}\n")
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_CACHE) as folder:
        trials, starts = _measured(options, Path(folder))
        beside = _beside_an_engine(options, Path(folder))
    print_line("\n".join([*_ratios(trials), "", *_amounts(trials), "", *_starts(starts), "", *_sidecars(beside)]))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=_FEWEST_RUNS, help="interleaved runs of each subject")
    parser.add_argument("--engines", type=int, default=50, help="pages read per second (at most 254)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run after its warm-up")
    parser.add_argument("--recording", type=Path, help="serve the pages of this recording in turn")
    options = parser.parse_args(argv)
    if options.runs < _FEWEST_RUNS or not 0 < options.engines < 255:
        parser.error(f"want at least {_FEWEST_RUNS} runs and 1 to 254 engines")
    return options


def _printer() -> Callable[[str], None]:
    def print_line(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    return print_line


def _conditions(options: argparse.Namespace) -> str:
    size, lines, changed = Pages(options.recording).size()
    return (
        f"{options.engines} engines, a page a second each: {size / 1000:.0f} kB, {lines} lines, {changed} of them "
        f"changing; medians of {options.runs} interleaved runs of {options.seconds:g} s, and their range"
    )


def _measured(options: argparse.Namespace, folder: Path) -> tuple[Trials, list[Start]]:
    trials: dict[str, list[Trial]] = {name: [] for name in subjects.installed()}
    starts: list[Start] = []
    with trial.engines(options.engines, folder, options.recording) as urls:
        for run in range(options.runs):
            for name, command in subjects.installed().items():
                trials[name].append(trial.read_all(command, urls, folder / f"{run}-{name}", options.seconds))
            starts.append(trial.start(urls[:1], folder / f"{run}-start"))
    return trials, starts


def _beside_an_engine(options: argparse.Namespace, folder: Path) -> Sidecars:
    """One engine at 1 s, with and without GPUs to read, in turn."""
    driver = cards.driver(folder)
    kinds = {"no GPU": {}, **({f"{cards.CARDS} GPUs": driver} if driver else {})}
    found: dict[str, list[Sidecar]] = {name: [] for name in kinds}
    with trial.engines(1, folder, options.recording) as urls:
        for run in range(options.runs):
            for name, environ in kinds.items():
                found[name].append(trial.sidecar(urls[0], folder / f"{run}-{name}", options.seconds, environ))
    return found


def _ratios(trials: Trials) -> Iterator[str]:
    """The agent's CPU per page over each other's, run by run."""
    names = {LOOP: "a plain loop of aiohttp and prometheus_client's parser"}
    if PROMETHEUS in trials:
        names[PROMETHEUS] = f"Prometheus {subjects.prometheus_version()}"
    yield "CPU per page, the agent's over that of"
    for other in list(trials)[1:]:
        pairs = zip(trials[AGENT], trials[other], strict=True)
        ratios = [ours.cpu_seconds_per_page / theirs.cpu_seconds_per_page for ours, theirs in pairs]
        yield f"  {names[other]:<58} {_median(ratios, '{:.2f}')}"


def _amounts(trials: Trials) -> Iterator[str]:
    yield f"{'':<18} {'CPU per page, ms':<20} {'pages/s':<20} resident memory, MB"
    for name, runs in trials.items():
        cpu = _median([run.cpu_seconds_per_page * 1e3 for run in runs], "{:.2f}")
        pace = _median([run.pages_per_second for run in runs], "{:.1f}")
        memory = _median([run.resident_bytes / 1e6 for run in runs], "{:.0f}")
        yield f"{name:<18} {cpu:<20} {pace:<20} {memory}"


def _starts(starts: Sequence[Start]) -> Iterator[str]:
    yield "the agent with one engine"
    yield f"  exec to first complete /metrics, s  {_median([start.seconds for start in starts], '{:.2f}')}"
    yield f"  resident memory, MB                 {_median([start.resident_bytes / 1e6 for start in starts], '{:.0f}')}"


def _sidecars(sidecars: Sidecars) -> Iterator[str]:
    yield f"{'one engine at 1 s':<18} {'of a core, %':<20} resident memory, MB"
    for name, runs in sidecars.items():
        share = _median([run.core_ratio * 100 for run in runs], "{:.2f}")
        yield f"{name:<18} {share:<20} {_median([run.resident_bytes / 1e6 for run in runs], '{:.0f}')}"
    yield "  the GPUs' driver is the tests' own, which answers at once: a real one's time comes on top (make test-gpu)"


def _median(values: Sequence[float], form: str) -> str:
    middle, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} – {most})"


if __name__ == "__main__":
    sys.exit(main())
