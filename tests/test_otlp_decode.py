"""Spans as they come over the wire: which are requests, and what cannot be."""

import contextlib
import json
import math
import random
import time

import pytest
from exports import VLLM, add_resource, add_span, export
from google.protobuf import json_format
from inferometer import adapters
from inferometer.adapters import SpanReader
from inferometer.errors import SourceError
from inferometer.sources.otlp.decode import decode, from_json, from_protobuf
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

NOW = 1_800_000_000.0
HOUR = 3600.0
READ = SpanReader([adapters.builtin()["vllm"]])


def decoded(message, now=NOW):
    return decode(message, lambda _: READ, now)


def outcome(**span):
    """What becomes of one span."""
    found = decoded(export(**({"ended": NOW} | span)))
    assert len(found.requests) + sum(found.outcomes.values()) == 1
    return "request" if found.requests else next(iter(found.outcomes))


def test_a_span_becomes_a_request_with_its_resource():
    message = export(ended=NOW, ids=(b"t" * 16, b"s" * 8))
    ((resource, request),) = decoded(from_protobuf(message.SerializeToString())).requests
    assert resource == {"service.name": "vllm"}
    assert (request.id, request.ended, request.outcome) == (b"t" * 16 + b"s" * 8, pytest.approx(NOW), "ok")
    assert (request.ttft, request.e2e, request.decode) == (0.5, 2.5, 1.9)
    assert (request.input_tokens, request.output_tokens) == (100, 21)
    assert request.tpot == pytest.approx((2.5 - 0.5) / 20)


def test_json_says_the_same_as_protobuf():
    message = export(3, ended=NOW)
    tree = json_format.MessageToDict(message)
    wire = [span for scope in message.resource_spans[0].scope_spans for span in scope.spans]
    for span, twin in zip(tree["resourceSpans"][0]["scopeSpans"][0]["spans"], wire, strict=True):
        span |= {"traceId": twin.trace_id.hex().upper(), "spanId": twin.span_id.hex(), "kind": 2, "fromTheFuture": [1]}
    assert decoded(from_json(json.dumps(tree).encode())) == decoded(message)


def test_a_json_id_that_is_no_hex_is_malformed():
    span = {"traceId": "!", "spanId": "zz", "name": "llm_request", "endTimeUnixNano": str(int(NOW * 1e9))}
    span["attributes"] = [{"key": "gen_ai.latency.e2e", "value": {"doubleValue": 1}}]
    spans = [span, span | {"traceId": "zz" * 16, "spanId": "zz" * 8}]
    tree = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    assert decoded(from_json(json.dumps(tree).encode())).outcomes == {"malformed": 2}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"resourceSpans": 3}', b"[" * 100_000, b'{"a":' * 5000]
)
def test_what_is_no_export_in_json_is_one_error(body):
    with pytest.raises(SourceError) as raised:
        from_json(body)
    assert raised.value.reason == "malformed"


def test_garbage_is_one_error_and_never_a_crash():
    rng = random.Random(3)
    whole = export(5, ended=NOW).SerializeToString()
    for _ in range(2000):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        with contextlib.suppress(SourceError):
            decoded(from_protobuf(bytes(body[: rng.randint(0, len(body))])))


BAD = {
    "no trace id": {"ids": (b"", b"s" * 8)},
    "zero trace id": {"ids": (bytes(16), b"s" * 8)},
    "zero span id": {"ids": (b"t" * 16, bytes(8))},
    "long span id": {"ids": (b"t" * 16, b"s" * 9)},
    "shifted ids": {"ids": (b"t" * 15, b"s" * 9)},
    "ends before it begins": {"seconds": -1.0},
    "negative TTFT": {"attributes": VLLM | {"gen_ai.latency.time_to_first_token": -0.1}},
    "NaN": {"attributes": VLLM | {"gen_ai.latency.e2e": math.nan}},
    "infinite": {"attributes": VLLM | {"gen_ai.latency.e2e": math.inf}},
    "nanoseconds for seconds": {"attributes": VLLM | {"gen_ai.latency.e2e": 2.5e9}},
    "a word": {"attributes": VLLM | {"gen_ai.latency.e2e": "long"}},
    "yes": {"attributes": VLLM | {"gen_ai.latency.e2e": True}},
    "a list": {"attributes": VLLM | {"gen_ai.latency.e2e": ["2.5"]}},
    "negative tokens": {"attributes": VLLM | {"gen_ai.usage.completion_tokens": -5}},
    "first token after the last": {"attributes": VLLM | {"gen_ai.latency.time_to_first_token": 3.0}},
}


@pytest.mark.parametrize("span", BAD.values(), ids=BAD)
def test_what_cannot_be_is_malformed(span):
    assert outcome(**span) == "malformed"


def test_a_clock_that_is_an_hour_off_is_taken_and_told():
    assert outcome(ended=NOW + HOUR) == outcome(ended=NOW - HOUR) == "request"
    for ended, skewed in ((NOW + HOUR, 3), (NOW - HOUR, 3), (NOW + 30, 0), (NOW - 599, 0)):
        found = decoded(export(3, ended=ended))
        assert (len(found.requests), found.rejected, found.skewed) == (3, 0, skewed)
        assert ("3 spans came before they ended or minutes after: check the clocks" in found.message) == bool(skewed)


def test_unknown_attributes_change_nothing():
    odd = {"": "", "x" * 1000: "y" * 10_000, "list": ["a", 1], "gen_ai.request.n": 2, "number": 1e300}
    ((_, plain),) = decoded(export(ended=NOW, ids=(b"t" * 16, b"s" * 8))).requests
    ((_, other),) = decoded(export(ended=NOW, ids=(b"t" * 16, b"s" * 8), attributes=VLLM | odd)).requests
    assert plain == other


def test_start_up_and_internal_spans_are_ignored():
    assert outcome(name="Load weights", attributes={"code.function": "load"}) == "ignored"
    assert outcome(name="llm_request", attributes={"gen_ai.request.id": "x"}) == "ignored"
    assert decoded(export(4, ended=NOW, name="POST /v1/completions", attributes={})).rejected == 0


def test_every_resource_is_read_by_its_own_reader():
    message = ExportTraceServiceRequest()
    for name in ("a", "b"):
        add_resource(message, service__name=name, shard=3, primary=True)
        add_span(message, ended=NOW)
    asked = []
    decode(message, lambda resource: asked.append(resource) or READ, NOW)
    assert asked == [{"service.name": name, "shard": "3", "primary": "true"} for name in ("a", "b")]


def test_an_empty_export_is_one():
    found = decoded(from_protobuf(b""))
    assert (found.requests, found.rejected, found.message) == ((), 0, "")


def test_times_of_today_are_exact_to_a_microsecond():
    now = time.time()
    ((_, request),) = decode(export(ended=now), lambda _: READ, now).requests
    assert request.ended == pytest.approx(now, abs=1e-6)
