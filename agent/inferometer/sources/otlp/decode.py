"""OTLP trace exports, as protobuf or as JSON, to the requests that their spans are."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from inferometer.errors import SourceError
from inferometer.model import Read, Request, Span, Value, is_skewed


class ReadSpan(Protocol):
    """Says what a span is; ``wanted``: the attributes that it looks at."""

    @property
    def wanted(self) -> Container[str]:
        """Names of attributes."""

    def __call__(self, span: Span) -> Read:
        """The request, or the outcome of a span that is none."""


ReaderFor = Callable[[Mapping[str, str]], ReadSpan]
"""How to read the spans of a resource, by its attributes."""

_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_NO_TRACE, _NO_SPAN = bytes(_TRACE_ID_BYTES), bytes(_SPAN_ID_BYTES)
_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})
_FAILED = Status.STATUS_CODE_ERROR


class Decoded(Struct, frozen=True):
    """What an export holds: requests with their resource's attributes, and all other spans by outcome.

    ``skewed``: how many of the requests have a clock that must be wrong.
    """

    requests: tuple[tuple[Mapping[str, str], Request], ...]
    outcomes: Mapping[str, int]
    skewed: int = 0

    @property
    def rejected(self) -> int:
        """Spans that the sender should not send again, for they will never be taken."""
        return self.outcomes.get("malformed", 0)

    @property
    def message(self) -> str:
        """What is wrong with the export, for the sender's log; empty when nothing is."""
        said = []
        if self.rejected:
            said.append(f"{self.rejected} spans have ids, times or numbers that cannot be")
        if self.skewed:
            said.append(f"{self.skewed} spans came before they ended or minutes after: check the clocks")
        return "; ".join(said)


def from_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """SourceError (``malformed``) where the body is no such message."""
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise SourceError("malformed", "the body is no ExportTraceServiceRequest in protobuf") from error


def from_json(body: bytes) -> ExportTraceServiceRequest:
    """The same from JSON, in which OTLP writes ids in hex where protobuf's own JSON has base64."""
    from google.protobuf import json_format  # noqa: PLC0415 - costs memory, and collectors send protobuf

    message = ExportTraceServiceRequest()
    if not body.lstrip().startswith(b"{"):  # the parser takes an empty list for an empty message
        raise SourceError("malformed", "the body is no JSON object")
    try:
        json_format.Parse(body, message, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise SourceError("malformed", "the body is no ExportTraceServiceRequest in JSON") from error
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.trace_id, span.span_id = _from_hex(span.trace_id), _from_hex(span.span_id)
    return message


def decode(message: ExportTraceServiceRequest, reader_for: ReaderFor, now: float) -> Decoded:
    """Read every span; ``now`` is unix time. Raises nothing: a span that cannot be read is counted as malformed."""
    requests: list[tuple[Mapping[str, str], Request]] = []
    outcomes: Counter[str] = Counter()
    for resource_spans in message.resource_spans:
        resource = _texts(resource_spans.resource.attributes)
        read = reader_for(resource)
        for scope in resource_spans.scope_spans:
            for found in _read_all(scope.spans, read):
                if isinstance(found, Request):
                    requests.append((resource, found))
                else:
                    outcomes[found] += 1
    skewed = sum(is_skewed(request.ended, now) for _, request in requests)
    return Decoded(tuple(requests), dict(outcomes), skewed)


def _read_all(spans: Iterable[WireSpan], read: ReadSpan) -> Iterator[Read]:
    """A request without an id, or with times that cannot be, is none."""
    for wire in spans:
        found = read(_span(wire, read.wanted))
        sound = isinstance(found, str) or (found.id and 0 < found.began <= found.ended)
        yield found if sound else "malformed"


def _span(wire: WireSpan, wanted: Container[str]) -> Span:
    return Span(
        id=_id(wire.trace_id, wire.span_id),
        name=wire.name,
        began=wire.start_time_unix_nano * 1e-9,
        ended=wire.end_time_unix_nano * 1e-9,
        failed=wire.status.code == _FAILED,
        attributes={key: _value(attribute.value) for attribute in wire.attributes if (key := attribute.key) in wanted},
    )


def _id(trace: bytes, span: bytes) -> bytes:
    """Both together; empty where one is none."""
    whole = len(trace) == _TRACE_ID_BYTES and len(span) == _SPAN_ID_BYTES
    return trace + span if whole and trace != _NO_TRACE and span != _NO_SPAN else b""


def _value(value: AnyValue) -> Value:
    """Numbers, texts and lists of texts; of anything else nothing is asked."""
    kind = value.WhichOneof("value")
    if kind in _SCALARS:
        scalar: Value = getattr(value, kind)
        return scalar
    if kind == "array_value":
        return tuple(item.string_value for item in value.array_value.values)
    return ""


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """A resource's attributes as a configuration writes them."""
    found = ((attribute.key, _value(attribute.value)) for attribute in attributes)
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in found
        if not isinstance(value, tuple)
    }


def _from_hex(decoded: bytes) -> bytes:
    """The id that was hex and has been read as base64; empty where it was not hex."""
    try:
        return binascii.unhexlify(base64.b64encode(decoded))
    except binascii.Error:
        return b""
