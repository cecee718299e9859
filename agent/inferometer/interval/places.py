"""Where the numbers of a shape go: looked at once for all engines of a kind, not at every page."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from inferometer.model import Edges, Shape, Sum, summed

SignalOfModel = tuple[str, str]
FAILED = ("finished_error", "finished_aborted")
MOVES = frozenset({"finished", "finished_ok", *FAILED, "prompt_tokens", "output_tokens", "rejected"})
FALLS_MEAN_RESTART = frozenset({"prompt_tokens", "output_tokens", "finished", "finished_ok", *FAILED})


class Places(Struct, frozen=True):
    """``counters`` by signal and model, ``tenants`` by signal and tenant; of each histogram where its counts are.

    ``falls``: counters that only a restart can lower. ``models``: those that count tokens or requests.
    ``reasoning``: reasoning tokens are among what is counted.
    """

    counters: list[tuple[SignalOfModel, Sum]]
    tenants: list[tuple[SignalOfModel, Sum]]
    histograms: list[tuple[SignalOfModel, Edges, slice]]
    falls: list[int]
    models: list[str]
    reasoning: bool


def places(shape: Shape) -> Places:
    """The places of a shape."""
    if shape.made is None:
        shape.made = _places(shape)
    made: Places = shape.made
    return made


def _places(shape: Shape) -> Places:
    keys = shape.counters
    return Places(
        _by(((key.signal, key.model), at) for at, key in enumerate(keys)),
        _by(((key.signal, key.tenant), at) for at, key in enumerate(keys) if key.tenant),
        [((key.signal, key.model), edges, of) for key, edges, of in shape.spans()],
        [at for at, key in enumerate(keys) if key.signal in FALLS_MEAN_RESTART],
        list(dict.fromkeys(key.model for key in keys if key.signal in MOVES)),
        any(key.signal == "reasoning_tokens" for key in keys),
    )


def _by(found: Iterable[tuple[SignalOfModel, int]]) -> list[tuple[SignalOfModel, Sum]]:
    at: dict[SignalOfModel, list[int]] = {}
    for where, place in found:
        at.setdefault(where, []).append(place)
    return [(where, summed(of)) for where, of in at.items()]
