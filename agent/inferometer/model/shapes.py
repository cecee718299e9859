"""Shape: which series a signal has, in order. The numbers of a page come beside it, and only they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from inferometer.model.histograms import Histogram

Edges = tuple[float, ...]
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]
Sum = Callable[[Sequence[float]], float]


class Key(Struct, frozen=True, gc=False, array_like=True):
    """One series of one signal: what it means, for which model and tenant, and which raw label set it came from."""

    signal: str
    model: str
    series: str
    tenant: str = ""


_Kept = tuple[tuple[Key, ...], tuple[tuple[Key, Edges], ...]]


class Shape:
    """``counters``, then each of ``histograms`` with its edges. There is one object of the same series: see ``of``.

    Numbers of a shape are a tuple of ``width``: one of each counter, then of each histogram its counts and its sum.
    ``made``: what who reads them has made of the shape, once for all engines that have it.
    """

    __slots__ = ("__weakref__", "_encoded", "counters", "histograms", "made", "width")

    def __init__(self, counters: tuple[Key, ...], histograms: tuple[tuple[Key, Edges], ...]) -> None:
        self.counters, self.histograms = counters, histograms
        self.width = len(counters) + sum(len(edges) + 1 for _, edges in histograms)
        self._encoded = b""
        self.made: Any = None

    @staticmethod
    def of(counters: Iterable[Key], histograms: Iterable[tuple[Key, Edges]]) -> Shape:
        """The shape of these series; engines of one kind have one together."""
        kept = (tuple(counters), tuple(histograms))
        shape = _shapes.get(kept)
        if shape is None:
            shape = _shapes[kept] = Shape(*kept)
        return shape

    @staticmethod
    def decoded(blob: bytes) -> Shape:
        """What ``encoded`` gave; ValueError where it is something else."""
        return Shape.of(*msgspec.msgpack.decode(blob, type=_Kept))

    def encoded(self) -> bytes:
        """As the ledger keeps it."""
        if not self._encoded:
            self._encoded = msgspec.msgpack.encode((self.counters, self.histograms))
        return self._encoded

    def __len__(self) -> int:
        """How many series it has; a histogram is one."""
        return len(self.counters) + len(self.histograms)

    def numbers(self, counters: Mapping[Key, float], histograms: Mapping[Key, Histogram]) -> tuple[float, ...]:
        """The numbers of its series, which are among these; histograms have its edges."""
        counted = map(counters.__getitem__, self.counters)
        observed = (number for key, _ in self.histograms for number in (*histograms[key].counts, histograms[key].sum))
        return (*counted, *observed)

    def series(self, numbers: tuple[float, ...]) -> tuple[dict[Key, float], dict[Key, Histogram]]:
        """Its counters and histograms with these numbers; ValueError where these are too few or too many."""
        if len(numbers) != self.width:
            raise ValueError("a last reading has more or fewer numbers than series")
        counters = dict(zip(self.counters, numbers, strict=False))
        return counters, {key: Histogram(edges, numbers[of], numbers[of.stop]) for key, edges, of in self.spans()}

    def spans(self) -> Iterator[tuple[Key, Edges, slice]]:
        """Of every histogram where its counts are; its sum is behind them."""
        at = len(self.counters)
        for key, edges in self.histograms:
            yield key, edges, slice(at, at + len(edges))
            at += len(edges) + 1


_shapes: WeakValueDictionary[_Kept, Shape] = WeakValueDictionary()
NO_SERIES = Shape.of((), ())


def shaped(counters: Mapping[Key, float], histograms: Mapping[Key, Histogram]) -> tuple[Shape, tuple[float, ...]]:
    """The shape of these counters and histograms, and their numbers."""
    shape = Shape.of(counters, ((key, histogram.edges) for key, histogram in histograms.items()))
    return shape, shape.numbers(counters, histograms)


def picked(places: Sequence[int]) -> Pick:
    """What is at these places."""
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda _: ()
    (only,) = places
    return lambda items: (items[only],)


def summed(places: Sequence[int]) -> Sum:
    """The sum of the numbers at these places."""
    if len(places) == 1:
        return itemgetter(*places)
    pick = picked(places)
    return lambda numbers: sum(pick(numbers))
