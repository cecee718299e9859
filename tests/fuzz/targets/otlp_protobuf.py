"""Trace exports as protobuf, as HTTP and gRPC hand them in: taken and answered, or refused as malformed."""

from __future__ import annotations

import asyncio
import math
from functools import partial

from fuzz.draw import Draw
from fuzz.messages import NAMES, READER, SPANS, export
from inferometer.errors import SourceError
from inferometer.model import Request
from inferometer.sources.otlp.decode import from_protobuf
from inferometer.sources.otlp.intake import REASONS, Clocks, Intake

DICTIONARY = (*tuple(name.encode() for name in (*NAMES, *SPANS)), b"\n", b"\x12", b"z\x00", b"\xff" * 9 + b"\x01")
_taken = []


def _answer(export):
    _taken.append(export)
    export.answer(True)  # noqa: FBT003 - a reply takes one word


_intake = Intake(lambda _: READER, _answer, lambda _: None, Clocks(lambda: 5.0, lambda: 1.7e9))


def seeds():
    """A built export, and one as it is on the wire."""
    yield bytes([1]) + bytes(range(200))
    yield bytes([0]) + export(Draw(bytes(range(255)))).SerializeToString()


def check(data):
    """What is taken has sound times and numbers."""
    draw = Draw(data)
    body = export(draw).SerializeToString() if draw.byte() & 1 else draw.rest()
    taking = _intake.take(partial(from_protobuf, body), len(body))
    try:
        _run(taking)
    except SourceError as error:
        if error.reason not in REASONS:
            raise
        return
    sound(_taken.pop())


def sound(taken):
    """The promises that hold of every request that was taken."""
    for _, request in taken.requests:
        if not isinstance(request, Request) or len(request.id) != 24 or not 0 < request.began <= request.ended:
            raise AssertionError(request)
        numbers = (request.ttft, request.e2e, request.decode, request.input_tokens, request.output_tokens)
        if any(number is not None and not 0 <= number < math.inf for number in numbers) or request.choices < 1:
            raise AssertionError(request)


def _run(coroutine, loop=asyncio.new_event_loop()):  # noqa: B008 - one for all executions
    return loop.run_until_complete(coroutine)
