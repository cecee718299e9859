"""OTLP over HTTP: POST /v1/traces as protobuf or JSON, answered as the specification says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from inferometer.errors import SourceError
from inferometer.sources.inflate import inflate
from inferometer.sources.otlp.decode import from_json, from_protobuf
from inferometer.sources.otlp.intake import MAX_BODY_BYTES, RETRY_SECONDS, Intake

PATH = "/v1/traces"
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_PARSERS: Mapping[str, Callable[[bytes], ExportTraceServiceRequest]] = {_PROTOBUF: from_protobuf, _JSON: from_json}
_ENCODINGS = frozenset({"", "identity", "gzip"})
_BODY_SECONDS = 10.0
_MAX_BODIES_BYTES = 8 * MAX_BODY_BYTES  # of all that are being received

_ANSWERS: Mapping[str, tuple[int, Code.ValueType]] = {
    "malformed": (400, Code.INVALID_ARGUMENT),
    "truncated": (400, Code.INVALID_ARGUMENT),
    "content_type": (415, Code.INVALID_ARGUMENT),
    "encoding": (415, Code.INVALID_ARGUMENT),
    "too_large": (413, Code.INVALID_ARGUMENT),
    "slow_client": (408, Code.DEADLINE_EXCEEDED),
    "rate": (429, Code.RESOURCE_EXHAUSTED),
    "busy": (503, Code.UNAVAILABLE),
    "not_committed": (503, Code.UNAVAILABLE),
    "stopping": (503, Code.UNAVAILABLE),
}


def make_app(intake: Intake) -> web.Application:
    """The one route. The server must leave bodies compressed (``auto_decompress=False``): the limits are ours."""
    app = web.Application()
    app.router.add_post(PATH, _Traces(intake).post)
    return app


class _Traces:
    """Exports that come by HTTP."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._receiving = 0

    async def post(self, request: web.Request) -> web.Response:
        kind = request.content_type
        try:
            encoding = _encoding(request)
            self._intake.check_room()
            body = await self._body(request)
            # A compressed body may be a thousand times as large: it is not unpacked on the event loop.
            size = MAX_BODY_BYTES if encoding == "gzip" and len(body) > 1 << 12 else len(body)
            decoded = await self._intake.take(partial(_parse, body, encoding, kind), size)
        except SourceError as error:
            self._intake.refused(error.reason)
            return _refusal(error, kind)
        response = ExportTraceServiceResponse()
        if decoded.message:  # without rejected spans it is a warning
            response.partial_success.rejected_spans = decoded.rejected
            response.partial_success.error_message = decoded.message
        return _message(response, kind)

    async def _body(self, request: web.Request) -> bytes:
        """The body as it was sent, within its limits of size and time."""
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        received = 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                chunks = []
                async for chunk in request.content.iter_any():
                    received += len(chunk)
                    self._receiving += len(chunk)
                    if received > MAX_BODY_BYTES:
                        raise _too_large()
                    if self._receiving > _MAX_BODIES_BYTES:
                        raise SourceError("busy", "too many bodies are being received; send again later")
                    chunks.append(chunk)
                return b"".join(chunks)
        except TimeoutError as error:
            raise SourceError("slow_client", f"no whole body within {_BODY_SECONDS:g} s") from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise SourceError("truncated", "the body ends before its announced end") from error
        finally:
            self._receiving -= received


def _encoding(request: web.Request) -> str:
    if request.content_type not in _PARSERS:
        raise SourceError("content_type", f"the content type must be {_PROTOBUF} or {_JSON}")
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise SourceError("encoding", "the content encoding must be gzip or none")
    return encoding


def _parse(body: bytes, encoding: str, kind: str) -> ExportTraceServiceRequest:
    try:
        return _PARSERS[kind](inflate(body, encoding, MAX_BODY_BYTES))
    except SourceError as error:
        if error.reason == "protocol":
            raise SourceError("malformed", str(error)) from error
        raise


def _too_large() -> SourceError:
    return SourceError("too_large", f"the body is larger than {MAX_BODY_BYTES} bytes; export smaller batches")


def _refusal(error: SourceError, kind: str) -> web.Response:
    status, code = _ANSWERS[error.reason]
    response = _message(Status(code=code, message=str(error)), kind if kind in _PARSERS else _JSON, status)
    if status in {429, 503}:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    if status in {408, 413}:
        response.force_close()
    return response


def _message(message: Message, kind: str, status: int = 200) -> web.Response:
    return web.Response(body=_body(message, kind), status=status, content_type=kind)


def _body(message: Message, kind: str) -> bytes:
    if kind == _PROTOBUF:
        return message.SerializeToString()
    from google.protobuf import json_format  # noqa: PLC0415 - costs memory, and collectors send protobuf

    return json_format.MessageToJson(message, indent=None).encode()
