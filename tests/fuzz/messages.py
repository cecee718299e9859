"""Exports of spans out of decisions: mostly sound, here and there not."""

from __future__ import annotations

from inferometer import adapters
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

READER = adapters.SpanReader(adapters.builtin().values())
NAMES = (*sorted(READER.wanted), "service.name", "")
SPANS = ("llm_request", "", *sorted({name for a in adapters.builtin().values() if a.traces for name in a.traces.name}))
TEXTS = ("stop", '["stop"]', "length", "abort", "[" * 40, "[1e999]", "{}", "1e400", "nan", "12", "-1", "٣", "m")


def export(draw):
    """A message; its ids are of sixteen and eight bytes unless the draw says else."""
    message = ExportTraceServiceRequest()
    for _ in range(1 + draw.below(2)):
        resource = message.resource_spans.add()
        for _ in range(draw.below(3)):
            _value(draw, resource.resource.attributes.add())
        scope = resource.scope_spans.add()
        for _ in range(draw.below(4)):
            _span(draw, scope.spans.add())
    return message


def _span(draw, span):
    span.name = draw.choose(SPANS)
    odd = draw.byte()
    span.trace_id = draw.chunk(20) if odd & 1 else bytes([draw.byte()]) * 16
    span.span_id = draw.chunk(12) if odd & 2 else bytes([draw.byte()]) * 8
    began = int.from_bytes(draw.chunk(8), "big") if odd & 4 else 1_700_000_000_000_000_000 + draw.below(1000) * 10**6
    span.start_time_unix_nano = began
    span.end_time_unix_nano = min(began + draw.below(60_000) * 10**6, 2**64 - 1)
    if odd & 8:
        span.status.code = draw.below(3)
    for _ in range(draw.below(8)):
        _value(draw, span.attributes.add())


def _value(draw, attribute):
    attribute.key = draw.choose(NAMES) if draw.byte() & 7 else draw.text(8)
    kind = draw.below(8)
    if kind < 2:
        attribute.value.double_value = draw.number()
    elif kind < 4:
        attribute.value.int_value = draw.below(1000) if kind == 2 else -(2**63) + draw.below(3)
    elif kind == 4:
        attribute.value.string_value = draw.choose(TEXTS)
    elif kind == 5:
        attribute.value.string_value = draw.text(12)
    elif kind == 6:
        attribute.value.bool_value = bool(draw.byte() & 1)
    else:
        attribute.value.array_value.values.add().string_value = draw.choose(TEXTS)
