"""OTLP exports as engines make them, for tests of all that reads them."""

from __future__ import annotations

import http.client
import random
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

PROTOBUF, JSON = "application/x-protobuf", "application/json"
VLLM = {
    "gen_ai.latency.time_to_first_token": 0.5,
    "gen_ai.latency.e2e": 2.5,
    "gen_ai.latency.time_in_model_decode": 1.9,
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 21,
}


def some_id(rng=random):
    """A trace id and a span id."""
    return rng.randbytes(16), rng.randbytes(8)


def any_value(value):
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    return AnyValue(string_value=value)


def pairs(attributes):
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def add_span(message, attributes=VLLM, *, name="llm_request", ids=None, ended=None, seconds=2.5, **more):
    """Append a span to the message's newest resource; times are unix seconds."""
    trace_id, span_id = ids or some_id()
    ended = time.time() if ended is None else ended
    message.resource_spans[-1].scope_spans[0].spans.add(
        trace_id=trace_id,
        span_id=span_id,
        name=name,
        start_time_unix_nano=round((ended - seconds) * 1e9),
        end_time_unix_nano=round(ended * 1e9),
        attributes=pairs(attributes),
        **more,
    )


def add_resource(message, **attributes):
    """Begin another resource; ``__`` stands for a dot."""
    resource = message.resource_spans.add()
    resource.resource.attributes.extend(pairs({key.replace("__", "."): value for key, value in attributes.items()}))
    resource.scope_spans.add()


def export(count=1, **rest):
    """An export of so many spans of vLLM."""
    message = ExportTraceServiceRequest()
    add_resource(message, service__name="vllm")
    for _ in range(count):
        add_span(message, **rest)
    return message


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes


def post(url, body, kind=PROTOBUF, seconds=20.0, **headers):
    """One export over HTTP."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", parts.path, body, {"Content-Type": kind} | named)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()
