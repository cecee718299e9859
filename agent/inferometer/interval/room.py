"""How many series are followed, and which are left out of a page that has more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from inferometer.interval.marks import Marks
from inferometer.model import EngineSignal, Key, shaped

_ACCOUNTED = frozenset(
    {
        "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "finished_output_tokens",
        "finished", "finished_ok", "finished_error", "finished_aborted", "rejected",
    }
)  # fmt: skip


class Room(Struct, frozen=True):
    """Series of one engine, and of all engines together. A counter is one, a histogram is one."""

    series: int = 5_000
    all_series: int = 200_000


def within(signal: EngineSignal, marks: Marks, most: int) -> tuple[EngineSignal, int]:
    """The signal without the series for which there is no room, and how many these are.

    A series that is followed stays, so that none is left out and comes back as if it had been reset. Of new ones,
    tokens and requests go first: small families whole, then those that are too large one label set after the other,
    so that what is divided by one another is of the same label sets. Costs nothing while there is room for all.
    """
    if marks.size + len(signal.shape) <= most:
        return signal, 0
    counters, histograms = signal.shape.series(signal.numbers)
    followed = {(key.signal, key.series) for key in marks.followed()}
    new = [k for k in (*counters, *histograms) if (k.signal, k.series) not in followed]
    left_out = set(new) - _chosen(new, most - marks.size, set(histograms))
    if not left_out:
        return signal, 0
    shape, numbers = shaped(
        {key: value for key, value in counters.items() if key not in left_out},
        {key: value for key, value in histograms.items() if key not in left_out},
    )
    return replace(signal, shape=shape, numbers=numbers), len(left_out)


def _chosen(new: list[Key], room: int, histograms: set[Key]) -> set[Key]:
    accounted = [key for key in new if key.signal in _ACCOUNTED and key not in histograms]
    rest = [key for key in new if key.signal not in _ACCOUNTED and key not in histograms]
    chosen: set[Key] = set()
    for keys in (accounted, rest, [key for key in new if key in histograms]):
        chosen |= _first(keys, room - len(chosen))
    return chosen


def _first(keys: list[Key], room: int) -> set[Key]:
    """As many as fit: families within their fair share of the room, then label sets of the others."""
    if len(keys) <= room:
        return set(keys)
    sizes = Counter(key.signal for key in keys)
    fair = max(0, room) // max(1, len(sizes))
    chosen = {key for key in keys if sizes[key.signal] <= fair}
    for group in _by_labels(key for key in keys if sizes[key.signal] > fair):
        if len(chosen) + len(group) <= room:
            chosen |= set(group)
    return chosen


def _by_labels(keys: Iterable[Key]) -> list[list[Key]]:
    """Series of the same label set together, in page order."""
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(key.series.partition("[")[2], []).append(key)
    return list(groups.values())
