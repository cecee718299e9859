"""The language of an adapter's ``traces``: which spans are a request that ended, and what their attributes mean."""

from __future__ import annotations

from msgspec import Struct

NUMBERS = (
    "ttft",
    "e2e",
    "decode",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "choices",
)


class Attribute(Struct, frozen=True, forbid_unknown_fields=True):
    """A number on a span, or digits in a string.

    ``plus``: attributes to add, such as the queue where an engine's TTFT begins behind it. ``scale`` turns the span's
    unit into seconds or tokens.
    """

    name: str
    plus: tuple[str, ...] = ()
    scale: float = 1.0


class Finish(Struct, frozen=True, forbid_unknown_fields=True):
    """How a request ended: the attributes that may say so, and their values; a value that nobody knows is an error.

    ``ok``, ``aborted``: reasons; a request without any reason is ok unless its span's status is an error.
    """

    attributes: tuple[str, ...]
    ok: tuple[str, ...]
    aborted: tuple[str, ...] = ()


class Traces(Struct, frozen=True, forbid_unknown_fields=True):
    """Spans of this ``name`` (any, if empty) that have all attributes of ``needs`` are requests; all others are not.

    ``numbers``: by what they mean, alternatives, today's name first; the first that the span has is read.
    ``unset``: what the engine writes where it does not know. ``span_is_e2e``: the span lasts as long as the request,
    where no attribute tells. ``enabled_by``: how the engine is made to export them.
    """

    needs: tuple[str, ...]
    numbers: dict[str, tuple[Attribute, ...]]
    name: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    finish: Finish | None = None
    unset: float | None = None
    span_is_e2e: bool = False
    enabled_by: str = ""

    @property
    def wanted(self) -> frozenset[str]:
        """Every attribute that is read; a span's others need not be kept."""
        names = {*self.needs, *self.model, *(self.finish.attributes if self.finish is not None else ())}
        for attribute in (one for alternatives in self.numbers.values() for one in alternatives):
            names |= {attribute.name, *attribute.plus}
        return frozenset(names)
