"""OTLP over gRPC, the default of most exporters. Only file that imports grpc, which is an extra."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from inferometer.errors import SourceError
from inferometer.sources.otlp.decode import from_protobuf
from inferometer.sources.otlp.intake import MAX_BODY_BYTES, RETRY_SECONDS, Intake

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_GRACE_SECONDS = 0.5
_MOST_CALLS = 512  # more than wait for the disk; further ones are RESOURCE_EXHAUSTED
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.so_reuseport", 0),  # a second agent on the same port is an error, not a lottery
)
_CODES: Mapping[str, grpc.StatusCode] = {
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "rate": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "busy": grpc.StatusCode.UNAVAILABLE,
    "not_committed": grpc.StatusCode.UNAVAILABLE,
    "stopping": grpc.StatusCode.UNAVAILABLE,
}


async def serve(intake: Intake, address: str) -> Callable[[], Awaitable[None]]:
    """Listen on ``address`` (HOST:PORT) and return what ends it. OSError where the address cannot be bound."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(partial(_export, intake))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": export}),))
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address} (otlp.grpc)") from error
    await server.start()
    return partial(server.stop, _GRACE_SECONDS)


async def _export(intake: Intake, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    try:
        decoded = await intake.take(partial(from_protobuf, body), len(body))
    except SourceError as error:
        intake.refused(error.reason)
        await _abort(context, error)
        raise AssertionError("unreachable: abort raises") from error
    response = ExportTraceServiceResponse()
    if decoded.message:  # without rejected spans it is a warning
        response.partial_success.rejected_spans = decoded.rejected
        response.partial_success.error_message = decoded.message
    return response.SerializeToString()


async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], error: SourceError) -> None:
    """End the call. RetryInfo tells the exporter to send again; without it, not to."""
    code = _CODES[error.reason]
    status = Status(code=code.value[0], message=str(error))
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}:
        status.details.add().Pack(_retry_info())
    await context.abort(code, str(error), (("grpc-status-details-bin", status.SerializeToString()),))


def _retry_info() -> Message:
    from google.protobuf.duration_pb2 import Duration  # noqa: PLC0415 - costs memory, and few are ever refused
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415

    info: Message = RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))
    return info
