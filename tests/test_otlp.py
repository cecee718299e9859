"""A running agent and the exporters that engines use: every span counts once, whoever dies and whenever."""

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from functools import partial
from hashlib import blake2b
from http.client import HTTPException

import grpc
import pytest
from exports import VLLM, add_span, export, post, some_id
from inferometer import config
from inferometer.app import agent as app
from live import Agent, eventually, free_port, inferometer_says
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import SpanKind

CONFIG = """
interval: 500ms
otlp: {{http: "127.0.0.1:{http}", grpc: "127.0.0.1:{grpc}"}}
storage: {{path: {folder}/ledger}}
workloads:
  - name: chat
    engines: [{{url: "http://127.0.0.1:9/metrics", engine: vllm, spans: {{service.name: vllm-a}}}}]
"""


class Traced:
    """An agent that receives spans; each ``running()`` is another life over the same ledger."""

    def __init__(self, folder):
        self.folder, self.lives = folder, 0
        self.http, self.grpc = free_port(), free_port()
        self.url, self.endpoint = f"http://127.0.0.1:{self.http}/v1/traces", f"http://127.0.0.1:{self.grpc}"
        self.config = folder / "inferometer.yaml"
        self.config.write_text(CONFIG.format(http=self.http, grpc=self.grpc, folder=folder))

    @contextlib.contextmanager
    def running(self):
        self.lives += 1
        with Agent(self.folder / f"log-{self.lives}", "--config.file", self.config) as agent:
            agent.waits_for("OTLP over gRPC is received")
            yield agent

    def committed(self):
        """The digests in the ledger, one for each time that a span was taken."""
        with contextlib.closing(sqlite3.connect(self.folder / "ledger" / "ledger.db")) as database:
            chunks = b"".join(ids for (ids,) in database.execute("SELECT ids FROM spans"))
        return [chunks[at : at + 8] for at in range(0, len(chunks), 8)]


def digest(span):
    return blake2b(span, digest_size=8).digest()


def counts(agent):
    page = agent.page()
    return {row.labels["outcome"]: row.value for row in page.rows("inferometer_spans_total") if row.value}


EXPORTERS = {
    "http": lambda traced: HttpExporter(endpoint=traced.url),
    "http, gzip": lambda traced: HttpExporter(endpoint=traced.url, compression=Compression.Gzip),
    "grpc": lambda traced: GrpcExporter(endpoint=traced.endpoint, insecure=True),
    "grpc, gzip": lambda traced: GrpcExporter(
        endpoint=traced.endpoint, insecure=True, compression=grpc.Compression.Gzip
    ),
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    return Traced(tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="module")
def agent(traced):
    with traced.running() as agent:
        yield agent.ready()


def provider(exporter, service="vllm-a", batched=True):  # noqa: FBT002
    made = TracerProvider(resource=Resource({"service.name": service}))
    made.add_span_processor(BatchSpanProcessor(exporter) if batched else SimpleSpanProcessor(exporter))
    return made


def finish(tracer, name="llm_request", **attributes):
    now = time.time_ns()
    span = tracer.start_span(name, start_time=now - 2_500_000_000, kind=SpanKind.SERVER, attributes=VLLM | attributes)
    span.end(now)


@pytest.mark.parametrize("make", EXPORTERS.values(), ids=EXPORTERS)
def test_the_exporters_of_the_sdk_are_heard(traced, agent, make):
    before = counts(agent).get("accepted", 0)
    source = provider(make(traced))
    tracer = source.get_tracer("vllm.llm_engine")
    for _ in range(700):  # more than a batch
        finish(tracer)
    tracer.start_span("Load weights").end()
    assert source.force_flush()
    agent.until(lambda page: page.sum("inferometer_spans_total", outcome="accepted") == before + 700)
    source.shutdown()


def test_the_source_is_up_and_all_outcomes_are_there(agent):
    page = agent.until(lambda page: page.sum("inferometer_source_up", source="otlp") == 1)
    outcomes = {row.labels["outcome"] for row in page.rows("inferometer_spans_total")}
    assert outcomes == {"accepted", "skewed", "duplicate", "ignored", "unmatched", "malformed"}


def test_an_export_that_comes_again_counts_once(traced, agent):
    before = counts(agent)
    body = export(50)
    body.resource_spans[0].resource.attributes[0].value.string_value = "vllm-a"
    for _ in range(3):
        assert post(traced.url, body.SerializeToString()).status == 200
    channel = grpc.insecure_channel(traced.endpoint.removeprefix("http://"))
    with channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        assert call(body.SerializeToString(), timeout=10) == b""
    eventually(lambda: counts(agent).get("duplicate", 0) >= 150)
    after = counts(agent)
    assert after["accepted"] - before.get("accepted", 0) == 50
    assert after["duplicate"] == 150


def test_strangers_are_counted_and_named(traced, agent):
    source = provider(HttpExporter(endpoint=traced.url), "somebody else", batched=False)
    finish(source.get_tracer("x"))
    source.shutdown()
    agent.until(lambda page: page.sum("inferometer_spans_total", outcome="unmatched") == 1)
    assert 'resource="service.name=somebody else"' in agent.log
    assert "spans come from service.name=somebody else" in agent.get("/api/v1/snapshot?metrics=false")[1]


def test_a_bad_export_is_counted_and_does_not_make_the_source_look_down(traced, agent):
    assert post(traced.url, b"\xff" * 10).status == 400
    page = agent.until(lambda page: page.sum("inferometer_source_errors_total", source="otlp", reason="malformed"))
    assert page.sum("inferometer_source_up", source="otlp") == 1


def test_a_port_that_is_taken_is_one_clear_error(tmp_path, traced, agent):
    for key, port in (("http", traced.http), ("grpc", traced.grpc)):
        ports = {"http": free_port(), "grpc": free_port()} | {key: port}
        path = tmp_path / f"{key}.yaml"
        path.write_text(CONFIG.format(folder=tmp_path, **ports))
        code, _, said = inferometer_says("run", "--config.file", path, "--web.listen-address", "127.0.0.1:0")
        assert code == 2
        assert f"inferometer: cannot listen on '127.0.0.1:{port}' (otlp.{key}): Address already in use" in said
        assert "Traceback" not in said
    assert agent.process.poll() is None


# -- a receiver that dies


class Load(threading.Thread):
    """Sends batches one after the other, each until it is acknowledged; sends some again although they are."""

    def __init__(self, traced, seed):
        super().__init__()
        self.acknowledged, self.sent = set(), set()
        self.over = threading.Event()
        self._traced, self._rng = traced, random.Random(seed)

    def run(self):
        while not self.over.is_set():
            ids = [some_id(self._rng) for _ in range(self._rng.randint(1, 60))]
            body = export(0)
            body.resource_spans[0].resource.attributes[0].value.string_value = "vllm-a"
            for one in ids:
                add_span(body, ids=one)
            self._send(body.SerializeToString())
            if self._rng.random() < 0.2:
                self._send(body.SerializeToString())
            self.acknowledged |= {digest(b"".join(one)) for one in ids}

    def _send(self, body):
        while True:
            with contextlib.suppress(OSError, HTTPException):
                if post(self._traced.url, body, seconds=5).status == 200:
                    return
            time.sleep(0.02)


def test_a_receiver_killed_under_load_loses_nothing_acknowledged_and_doubles_nothing(tmp_path):
    traced = Traced(tmp_path)
    loads = [Load(traced, seed) for seed in range(3)]
    rng = random.Random(7)
    with traced.running():
        for load in loads:
            load.start()
        time.sleep(1)
    for _ in range(6):
        with traced.running():
            time.sleep(rng.uniform(0.05, 0.8))
            known = set().union(*(load.acknowledged for load in loads))
        assert known <= set(traced.committed())  # read after the kill
    with traced.running() as agent:
        for load in loads:
            load.over.set()
        for load in loads:
            load.join()
        assert agent.stop() == 0
    committed = traced.committed()
    assert len(committed) == len(set(committed)), "a span was taken twice"
    assert set(committed) == set().union(*(load.acknowledged for load in loads))
    assert len(committed) > 500


def test_what_a_disk_refuses_is_not_acknowledged_and_counts_once_in_the_end(tmp_path):
    settings = Traced(tmp_path)
    url = settings.url

    async def scenario():
        load = partial(config.load, str(settings.config), {"web.listen-address": "127.0.0.1:0"}, {})
        agent, stop = app.Agent(load, {}), asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        body = export(5)
        body.resource_spans[0].resource.attributes[0].value.string_value = "vllm-a"
        await asyncio.to_thread(eventually, lambda: agent.ready()[0])
        agent._ledger._database.execute("PRAGMA query_only = ON")
        refused = [await asyncio.to_thread(post, url, body.SerializeToString()) for _ in range(2)]
        agent._ledger._database.execute("PRAGMA query_only = OFF")
        taken = await asyncio.to_thread(post, url, body.SerializeToString())
        stop.set()
        await running
        return [answer.status for answer in (*refused, taken)], agent._spans.values()

    answers, counted = asyncio.run(scenario())
    assert answers == [503, 503, 200]
    assert counted["inferometer_spans_total", ("accepted",)] == 5
    assert len(settings.committed()) == 5


def test_an_agent_that_stops_answers_what_it_has_and_takes_no_more(tmp_path):
    traced = Traced(tmp_path)
    load = Load(traced, 1)
    with traced.running() as agent:
        load.start()
        eventually(lambda: len(load.acknowledged) > 200)
        assert agent.stop() == 0
        known = set(load.acknowledged)
        assert "Traceback" not in agent.log
    assert known <= set(traced.committed())
    with traced.running():
        load.over.set()
        load.join()
    assert set(traced.committed()) == load.acknowledged


def test_an_exporter_of_the_sdk_survives_a_receiver_that_is_away(tmp_path):
    traced = Traced(tmp_path)
    source = provider(GrpcExporter(endpoint=traced.endpoint, insecure=True, timeout=60))
    tracer = source.get_tracer("x")
    for _ in range(100):
        finish(tracer)
    flushing = threading.Thread(target=source.force_flush)
    flushing.start()
    time.sleep(0.5)
    with traced.running() as agent:
        flushing.join()
        agent.until(lambda page: page.sum("inferometer_spans_total", outcome="accepted") == 100)
    source.shutdown()
