"""Span: one trace span as it came, before anybody knows whether it is a request."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from inferometer.model.requests import Request

Value = str | bool | int | float | tuple[str, ...]
SPAN_MEMORY_SECONDS = 600.0
"""How long a span is remembered at least."""

SPAN_OUTCOMES = ("accepted", "skewed", "duplicate", "ignored", "unmatched", "malformed")
"""What becomes of a span.

``accepted``: a request, taken. ``skewed``: taken, but it came before it ended or minutes after. ``duplicate``: taken
before. ``ignored``: no request that ended, as of a start. ``unmatched``: a request of no configured engine.
``malformed``: its ids, times or numbers cannot be.
"""

_AHEAD_SECONDS = 60.0


def is_skewed(ended: float, now: float) -> bool:
    """Whether the sender's clock must be wrong, or the span is so late that it might be."""
    return not now - SPAN_MEMORY_SECONDS <= ended <= now + _AHEAD_SECONDS


class Span(Struct, frozen=True):
    """``id``: trace and span id, or empty. Times: unix seconds of the sender. ``failed``: its status is an error."""

    id: bytes
    name: str
    began: float
    ended: float
    failed: bool
    attributes: Mapping[str, Value]


Read = Request | str
"""A span that is a request, or the outcome of one that is none."""
