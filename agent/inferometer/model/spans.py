"""Span: one trace span as it came, before anybody knows whether it is a request."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from inferometer.model.requests import Request

Value = str | bool | int | float | tuple[str, ...]
SPAN_MEMORY_SECONDS = 600.0
"""How long a span is remembered at least: one that ended earlier may have been counted already."""

SPAN_OUTCOMES = ("accepted", "duplicate", "ignored", "unmatched", "malformed", "late", "skewed")
"""What becomes of a span.

``accepted``: a request, counted. ``duplicate``: counted already. ``ignored``: no request that ended, as of a start.
``unmatched``: a request of no configured engine. ``malformed``: its ids, times or numbers cannot be. ``late``: it ended
longer ago than spans are remembered, so that nobody knows whether it was counted. ``skewed``: it ends in the future.
"""


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
