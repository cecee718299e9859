"""Trace exports as JSON, which OTLP writes differently from protobuf."""

from __future__ import annotations

from types import SimpleNamespace

from fuzz.draw import Draw
from fuzz.messages import NAMES, READER, SPANS, export
from fuzz.targets.otlp_protobuf import sound
from google.protobuf import json_format
from inferometer.errors import SourceError
from inferometer.sources.otlp.decode import decode, from_json

DICTIONARY = (
    *tuple(name.encode() for name in (*NAMES, *SPANS)),
    b'{"resourceSpans":[', b'{"scopeSpans":[', b'{"spans":[', b'"traceId":"', b'"spanId":"', b'"startTimeUnixNano":"', b'"attributes":[',
    b'{"key":"', b'"value":{"doubleValue":', b'"intValue":"', b'"stringValue":"', b'"arrayValue":{"values":[', b'"NaN"', b"1e999", b"null",
    b"\\ud800", b"[[[[[[[[", b"{{{{", b'"status":{"code":2}', b"]}", b"}]",
)  # fmt: skip


def seeds():
    """As exporters write it."""
    text = json_format.MessageToJson(export(Draw(bytes(range(255)))), indent=None)
    yield bytes([0]) + text.encode()
    yield (
        bytes([0]) + b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c"}]}]}]}'
    )
    yield bytes([1]) + bytes(range(200))


def check(data):
    """What is taken has sound times and numbers."""
    draw = Draw(data)
    body = json_format.MessageToJson(export(draw), indent=None).encode() if draw.byte() & 1 else draw.rest()
    try:
        decoded = decode(from_json(body), lambda _: READER, 1.7e9)
    except SourceError as error:
        if error.reason != "malformed":
            raise
        return
    sound(SimpleNamespace(requests=decoded.requests))
