"""The receivers on real sockets: what they take, what they refuse and in which words, and when they answer."""

import asyncio
import contextlib
import gzip
import json
import socket
import subprocess
import sys
import time
from functools import partial

import grpc as grpc_library
import pytest
from exports import JSON, PROTOBUF, export, post
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from inferometer import adapters
from inferometer.adapters import SpanReader
from inferometer.app import receivers as wiring
from inferometer.errors import InferometerError
from inferometer.exposition.listen import listen
from inferometer.sources.otlp import grpc, http, intake
from inferometer.sources.otlp.http import make_app
from inferometer.sources.otlp.intake import MAX_BODY_BYTES, Clocks, Intake, Limits
from inferometer.sources.otlp.rate import Rate
from live import environment
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
READ = SpanReader([adapters.builtin()["vllm"]])


class Receivers:
    """Both receivers over one intake; ``answer`` says what becomes of an export, None leaves it waiting."""

    def __init__(self, *, answer=True, limits=Limits()):  # noqa: B008
        self.samples, self.refused, self.answer = [], [], answer
        self.arrived = asyncio.Event()
        clocks = Clocks(time.monotonic, time.time)
        self.intake = Intake(lambda _: READ, self._emit, self.refused.append, clocks, limits)
        self.url = self.grpc = ""

    def _emit(self, sample):
        self.samples.append(sample)
        self.arrived.set()
        if self.answer is not None:
            sample.answer(accepted=self.answer)

    @contextlib.asynccontextmanager
    async def listening(self):
        listener = await listen(make_app(self.intake), "127.0.0.1:0", "otlp.http", auto_decompress=False)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.grpc = f"127.0.0.1:{free.getsockname()[1]}"
        stop = await grpc.serve(self.intake, self.grpc)
        self.url = f"http://127.0.0.1:{listener.port}/v1/traces"
        try:
            yield
        finally:
            await stop()
            await listener.close()


def during(receivers, client):
    """Run a client in a thread of its own while the receivers listen."""

    async def both():
        async with receivers.listening():
            return await asyncio.to_thread(client)

    return asyncio.run(both())


def posted(body, kind=PROTOBUF, receivers=None, **headers):
    receivers = receivers or Receivers()
    return during(receivers, lambda: post(receivers.url, body, kind, **headers))


def called(receivers, body, **options):
    """One call over gRPC."""

    def call():
        with grpc_library.insecure_channel(
            receivers.grpc, options=[("grpc.max_send_message_length", -1)], **options
        ) as channel:
            return channel.unary_unary(EXPORT)(body, timeout=20)

    return during(receivers, call)


# -- what is taken


def test_protobuf_is_answered_in_protobuf():
    receivers = Receivers()
    answer = posted(export(3).SerializeToString(), receivers=receivers)
    assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer.body) == ExportTraceServiceResponse()
    (sample,) = receivers.samples
    assert (sample.source, len(sample.requests), receivers.refused) == ("otlp", 3, [])


def test_json_is_answered_in_json():
    tree = json_format.MessageToDict(export())
    tree["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= {"traceId": "ab" * 16, "spanId": "cd" * 8}
    receivers = Receivers()
    answer = posted(json.dumps(tree).encode(), "application/json; charset=utf-8", receivers)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(JSON)
    assert json.loads(answer.body) == {}
    assert receivers.samples[0].requests[0][1].id == b"\xab" * 16 + b"\xcd" * 8


def test_gzip_is_unpacked():
    receivers = Receivers()
    body = gzip.compress(export(200).SerializeToString())
    assert posted(body, receivers=receivers, Content_Encoding="gzip").status == 200
    assert len(receivers.samples[0].requests) == 200


def test_an_export_as_large_as_the_limit_is_taken():
    count = 3000
    receivers = Receivers()
    assert posted(export(count).SerializeToString(), receivers=receivers).status == 200
    assert len(receivers.samples[0].requests) == count


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_spans_that_cannot_be_are_a_partial_success(kind):
    message = export(2, seconds=-1.0)
    body = message.SerializeToString() if kind == PROTOBUF else json_format.MessageToJson(message).encode()
    answer = posted(body, kind)
    assert answer.status == 200
    if kind == PROTOBUF:
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 2
        assert partial.error_message.startswith("2 spans have ids, times or numbers that cannot be")
    else:
        assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "2"


def test_a_clock_that_is_wrong_is_a_warning():
    """As the specification has it: a message, and nothing rejected."""
    answer = posted(export(2, ended=time.time() + 3600).SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_spans) == (200, 0)
    assert partial.error_message == "2 spans came before they ended or minutes after: check the clocks"


def test_grpc_takes_and_answers_the_same():
    receivers = Receivers()
    body = export(3).SerializeToString()
    assert called(receivers, body) == b""
    assert called(receivers, body, compression=grpc_library.Compression.Gzip) == b""
    assert [len(sample.requests) for sample in receivers.samples] == [3, 3]
    partial = ExportTraceServiceResponse.FromString(called(receivers, export(2, seconds=-1.0).SerializeToString()))
    assert partial.partial_success.rejected_spans == 2


# -- what is refused

GOOD = export().SerializeToString()
BOMB = gzip.compress(bytes(200 << 20), 9)
REFUSALS = {
    "garbage": ((b"\xff" * 100, PROTOBUF), {}, 400, "malformed"),
    "cut off": ((GOOD[:-3], PROTOBUF), {}, 400, "malformed"),
    "JSON that is none": ((b"{", JSON), {}, 400, "malformed"),
    "no gzip": ((GOOD, PROTOBUF), {"Content_Encoding": "gzip"}, 400, "malformed"),
    "half a gzip": ((gzip.compress(GOOD)[:-9], PROTOBUF), {"Content_Encoding": "gzip"}, 400, "truncated"),
    "brotli": ((GOOD, PROTOBUF), {"Content_Encoding": "br"}, 415, "encoding"),
    "text": ((GOOD, "text/plain"), {}, 415, "content_type"),
    "a form": ((GOOD, "multipart/form-data; boundary=x"), {}, 415, "content_type"),
    "100 MB": ((bytes(100 << 20), PROTOBUF), {}, 413, "too_large"),
    "gzip bomb": ((BOMB, PROTOBUF), {"Content_Encoding": "gzip"}, 413, "too_large"),
    "gzip bomb of JSON": ((BOMB, JSON), {"Content_Encoding": "gzip"}, 413, "too_large"),
}


@pytest.mark.parametrize(("call", "headers", "status", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_bad_export_gets_a_clear_answer(call, headers, status, reason):
    """The specification's: a google.rpc.Status in the content type of the request, and no retry."""
    receivers = Receivers()
    answer = posted(*call, receivers=receivers, **headers)
    assert (answer.status, receivers.refused, receivers.samples) == (status, [reason], [])
    assert "Retry-After" not in answer.headers
    if call[1] == PROTOBUF:
        assert answer.headers["Content-Type"] == PROTOBUF
        said = Status.FromString(answer.body)
    else:
        assert answer.headers["Content-Type"].startswith(JSON)
        said = json_format.Parse(answer.body, Status())
    assert (said.code, bool(said.message)) == (3, True)


def test_a_chunked_body_without_end_is_cut_at_the_limit():
    receivers = Receivers()
    chunks = (bytes(1 << 20) for _ in range(100))
    with contextlib.suppress(ConnectionError):  # the server need not read on
        assert posted(chunks, receivers=receivers).status == 413
    assert receivers.refused == ["too_large"]


def test_a_client_that_dawdles_is_let_go(monkeypatch):
    monkeypatch.setattr(http, "_BODY_SECONDS", 0.3)
    receivers = Receivers()

    def client():
        with socket.create_connection(("127.0.0.1", int(receivers.url.split(":")[2].partition("/")[0]))) as one:
            head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\n"
            one.sendall(head.encode() + GOOD[:50])
            one.settimeout(10)
            return one.recv(10_000), post(receivers.url, GOOD).status

    slow, other = during(receivers, client)
    assert slow.startswith(b"HTTP/1.1 408")
    assert (other, receivers.refused) == (200, ["slow_client"])


def test_a_client_that_leaves_is_no_crash():
    receivers = Receivers()

    def client():
        with socket.create_connection(("127.0.0.1", int(receivers.url.split(":")[2].partition("/")[0]))) as one:
            one.sendall(
                f"POST /v1/traces HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\nx".encode()
            )
        return post(receivers.url, GOOD).status

    assert during(receivers, client) == 200


def test_other_paths_and_methods_are_not_there():
    receivers = Receivers()
    assert during(receivers, lambda: post(receivers.url.replace("traces", "logs"), GOOD)).status == 404


@pytest.mark.parametrize("body", [b"\xff" * 100, GOOD[:-3]])
def test_grpc_refuses_garbage(body):
    receivers = Receivers()
    with pytest.raises(grpc_library.RpcError) as raised:
        called(receivers, body)
    assert raised.value.code() is grpc_library.StatusCode.INVALID_ARGUMENT
    assert receivers.refused == ["malformed"]


@pytest.mark.parametrize("compression", list(grpc_library.Compression))
def test_grpc_refuses_what_is_too_large_packed_or_not(compression):
    receivers = Receivers()
    with pytest.raises(grpc_library.RpcError) as raised:
        called(receivers, bytes(100 << 20), compression=compression)
    assert raised.value.code() is grpc_library.StatusCode.RESOURCE_EXHAUSTED
    assert receivers.samples == []


# -- when it is answered


def test_an_export_is_answered_only_once_it_is_committed():
    receivers = Receivers(answer=None)

    async def both():
        async with receivers.listening():
            asking = asyncio.create_task(asyncio.to_thread(post, receivers.url, GOOD))
            await receivers.arrived.wait()
            await asyncio.sleep(0.2)
            assert not asking.done()
            receivers.samples[0].answer(accepted=True)
            return await asking

    assert asyncio.run(both()).status == 200


def _says_try_again(answer, reason, receivers):
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert Status.FromString(answer.body).code == 14  # UNAVAILABLE
    assert receivers.refused == [reason]


def test_what_the_disk_refuses_is_to_be_sent_again():
    receivers = Receivers(answer=False)
    _says_try_again(posted(GOOD, receivers=receivers), "not_committed", receivers)


def test_a_commit_that_takes_too_long_is_to_be_sent_again(monkeypatch):
    monkeypatch.setattr(intake, "_ANSWER_SECONDS", 0.2)
    receivers = Receivers(answer=None)
    _says_try_again(posted(GOOD, receivers=receivers), "busy", receivers)
    receivers.samples[0].answer(accepted=True)  # late: nobody listens any more, and nothing breaks


@pytest.mark.parametrize("limits", [Limits(exports=1), Limits(requests=5)])
def test_a_full_queue_is_to_be_sent_again_and_has_room_later(limits):
    receivers = Receivers(answer=None, limits=limits)
    body = export(7).SerializeToString()

    def client(first):
        refused = post(receivers.url, body)
        with grpc_library.insecure_channel(receivers.grpc) as channel, pytest.raises(grpc_library.RpcError) as raised:
            channel.unary_unary(EXPORT)(body, timeout=10)
        first.get_loop().call_soon_threadsafe(partial(receivers.samples[0].answer, accepted=True))
        receivers.answer = True
        time.sleep(0.1)
        return refused, raised.value, post(receivers.url, body)

    async def both():
        async with receivers.listening():
            waiting = asyncio.create_task(asyncio.to_thread(post, receivers.url, body))
            await receivers.arrived.wait()
            answers = await asyncio.to_thread(client, waiting)
            return answers, await waiting

    (refused, error, later), first = asyncio.run(both())
    assert (first.status, later.status) == (200, 200)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert error.code() is grpc_library.StatusCode.UNAVAILABLE
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1
    assert receivers.refused == ["busy", "busy"]


def test_more_spans_a_second_than_the_limit_are_to_be_sent_again_and_have_room_later():
    """The batch that overdraws is taken; what follows waits, is told so, and a higher limit helps at once."""
    receivers = Receivers(limits=Limits(spans_per_second=10.0))
    body = export(25).SerializeToString()

    def client():
        answers = [post(receivers.url, body) for _ in range(2)]
        with grpc_library.insecure_channel(receivers.grpc) as channel, pytest.raises(grpc_library.RpcError) as raised:
            channel.unary_unary(EXPORT)(body, timeout=10)
        receivers.intake.rate.per_second = 1e6
        return *answers, raised.value, post(receivers.url, body)

    first, refused, error, later = during(receivers, client)
    assert (first.status, later.status) == (200, 200)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert error.code() is grpc_library.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[0].Unpack(RetryInfo())
    assert receivers.refused == ["rate", "rate"]


def test_the_rate_is_kept_in_the_long_run_and_one_batch_keeps_others_out_for_ten_seconds_at_most():
    rate, taken = Rate(100.0), 0
    for at in range(1000):
        while rate.has_room(at / 10):
            rate.spend(70)
            taken += 70
    assert abs(taken - 100 * 100) < 400
    rate.spend(1e9)
    assert not rate.has_room(109.0)
    assert rate.has_room(110.5)


def test_an_agent_that_stops_takes_no_more():
    receivers = Receivers()
    receivers.intake.close()
    _says_try_again(posted(GOOD, receivers=receivers), "stopping", receivers)


def test_the_limit_leaves_room_for_what_exporters_send():
    """512 spans a batch is their default; the collector sends 8192."""
    assert len(export(512).SerializeToString()) * 16 < 2 * MAX_BODY_BYTES


def test_grpc_without_its_extra_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "inferometer.sources.otlp.grpc")
    monkeypatch.delattr("inferometer.sources.otlp.grpc")
    with pytest.raises(InferometerError, match=r"pip install 'inferometer\[grpc\]'"):
        asyncio.run(wiring._grpc("127.0.0.1:0", Receivers().intake, contextlib.AsyncExitStack()))


def test_nothing_of_otlp_is_loaded_where_it_is_off():
    """Its libraries cost memory that an agent without traces can do without."""
    code = "import sys, inferometer.cli, inferometer.app.agent, inferometer.app.replay; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    ).stdout.split()
    assert not [name for name in loaded if name.startswith(("grpc", "google", "opentelemetry"))]
