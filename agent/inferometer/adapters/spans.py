"""One engine's spans as requests, as its adapter says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from inferometer.adapters.language import Adapter
from inferometer.adapters.traces import Finish, Traces
from inferometer.model import Read, Request, Span, Value

_LONGEST_SECONDS = 7 * 86400.0
_MOST_TOKENS = 1e9
_NO_NUMBERS = (bool, tuple)
_SECONDS = frozenset({"ttft", "e2e", "decode"})
_CLOCK_SECONDS = 0.001  # TTFT and E2E may be read off two clocks
_ERROR, _ABORTED, _OK = "error", "aborted", "ok"


class SpanReader:
    """Reads spans of an engine. ``adapters``: the candidates; those that know a span's name are asked first.

    ``wanted``: the attributes that it looks at.
    """

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        known = [adapter.traces for adapter in adapters if adapter.traces is not None]
        self._traces = sorted(known, key=lambda traces: not traces.name)
        self.wanted = frozenset().union(*(traces.wanted for traces in known))

    def __call__(self, span: Span) -> Read:
        """The request, or ``ignored`` where the span is none that ended, or ``malformed`` where it cannot be."""
        for traces in self._traces:
            if (not traces.name or span.name in traces.name) and span.attributes.keys() >= set(traces.needs):
                try:
                    return _request(traces, span)
                except ValueError:
                    return "malformed"
        return "ignored"


def _request(traces: Traces, span: Span) -> Request:
    """ValueError where a number is none, or two contradict one another."""
    attributes = span.attributes
    found = {meaning: _first(traces, meaning, attributes) for meaning in traces.numbers}
    e2e, ttft = found.get("e2e"), found.get("ttft")
    if e2e is None and traces.span_is_e2e:
        e2e = span.ended - span.began
    if ttft is not None and e2e is not None and ttft > e2e + _CLOCK_SECONDS:
        raise ValueError("the first token came after the last")
    return Request(
        id=span.id,
        began=span.began,
        ended=span.ended,
        model=next((text for name in traces.model if isinstance(text := attributes.get(name), str) and text), ""),
        outcome=_outcome(traces.finish, span),
        ttft=ttft,
        e2e=e2e,
        decode=found.get("decode"),
        input_tokens=found.get("input_tokens"),
        cached_tokens=found.get("cached_tokens"),
        output_tokens=found.get("output_tokens"),
        reasoning_tokens=found.get("reasoning_tokens"),
        choices=max(1, int(found.get("choices") or 1)),
    )


def _first(traces: Traces, meaning: str, attributes: Mapping[str, Value]) -> float | None:
    """The first alternative that the span has."""
    most = _LONGEST_SECONDS if meaning in _SECONDS else _MOST_TOKENS
    for attribute in traces.numbers[meaning]:
        value = attributes.get(attribute.name)
        if value is None:
            continue
        number = _number(value)
        if number == traces.unset:
            continue
        for name in attribute.plus:
            number += _number(attributes.get(name, 0.0))
        number *= attribute.scale
        if not 0 <= number <= most:  # NaN neither
            raise ValueError(f"{attribute.name} is {number}")
        return number
    return None


def _number(value: Value) -> float:
    if isinstance(value, _NO_NUMBERS):
        raise ValueError("no number")  # noqa: TRY004  a wrong type on a span is a wrong value
    return float(value)


def _outcome(finish: Finish | None, span: Span) -> str:
    reasons = _reasons(finish, span.attributes) if finish is not None else ()
    if finish is not None and any(reason in finish.aborted for reason in reasons):
        return _ABORTED
    if span.failed:
        return _ERROR
    return _OK if finish is None or all(reason in finish.ok for reason in reasons) else _ERROR


def _reasons(finish: Finish, attributes: Mapping[str, Value]) -> tuple[str, ...]:
    """A list, a list as JSON or a word, whichever the engine writes."""
    value = next((attributes[name] for name in finish.attributes if name in attributes), ())
    if isinstance(value, tuple):
        return value
    text = str(value)
    if not text.startswith("["):
        return (text,) if text else ()
    try:
        return tuple(map(str, json.loads(text)))
    except (ValueError, RecursionError):
        return (text,)
