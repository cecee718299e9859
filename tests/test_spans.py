"""Whose spans are whose, and what becomes of each."""

import asyncio

import pytest
from inferometer import adapters, config
from inferometer.adapters import Models, SpanReader
from inferometer.app.plan import plan
from inferometer.app.replay import replay
from inferometer.app.spans import Spans
from inferometer.ledger.span_ids import SpanIds
from inferometer.model import Export, Request, Span, Traced
from test_recordings import RECORDINGS

ONE = "workloads: [{name: chat, engines: [{url: 'http://a:1/metrics'}]}]"
TWO = "workloads: [{name: chat, engines: [{url: 'http://a:1/metrics'}, {url: 'http://b:1/metrics'}]}]"
FRONTEND = """
workloads:
  - name: chat
    engines:
      - {url: 'http://p:1/metrics', role: prefill}
      - {url: 'http://d:1/metrics', role: decode}
      - {url: 'http://f:1/metrics', role: frontend, engine: dynamo_frontend}
"""
KEYED = """
workloads:
  - {name: x, engines: [{url: 'http://a:1/metrics', spans: {service.name: a}}]}
  - name: y
    engines:
      - {url: 'http://b:1/metrics', spans: {service.name: b}}
      - {url: 'http://c:1/metrics', spans: {service.name: b, shard: '2'}}
      - {url: 'http://d:1/metrics'}
"""
WALL = 1.8e9
LATENCY = {"gen_ai.latency.e2e": 1.0}


def planned(text, tmp_path):
    path = tmp_path / "inferometer.yaml"
    path.write_text("otlp: {}\n" + text)
    return plan(config.load(str(path), {}, {}), (), {})


def spans(text, tmp_path):
    one = Spans(SpanIds(lambda: WALL).take, lambda _: Models())
    one.follow(planned(text, tmp_path))
    return one


def request(number, ended=WALL):
    return Request(number.to_bytes(24, "big"), ended - 1.0, ended)


def export(*requests, **outcomes):
    """Requests as (number, attributes of its resource)."""
    return Export("otlp", 5.0, requests=tuple((resource, request(n)) for n, resource in requests), outcomes=outcomes)


def signals(one, sample):
    return one.signals(sample, WALL)


def counts(one):
    return {outcome: value for (_, (outcome,)), value in one.values().items() if value}


def engine_of(one, resource):
    found = signals(one, export((len(counts(one)) + sum(map(int, counts(one).values())) + 1, resource)))
    return found[0].engine if found else None


def test_all_spans_of_one_engine_are_its(tmp_path):
    one = spans(ONE, tmp_path)
    assert signals(one, export((1, {}), (2, {"service.name": "whatever"}), ignored=3)) == [
        Traced("a:1", 5.0, (request(1), request(2)))
    ]
    assert counts(one) == {"accepted": 2, "ignored": 3}


def test_a_request_counts_once_however_often_it_is_exported(tmp_path):
    one = spans(ONE, tmp_path)
    assert signals(one, export((1, {}), (1, {}))) == [Traced("a:1", 5.0, (request(1),))]
    assert signals(one, export((1, {}))) == []
    assert counts(one) == {"accepted": 1, "duplicate": 2}


def test_a_request_of_a_clock_that_is_an_hour_off_is_taken_and_counted_apart(tmp_path):
    one = spans(ONE, tmp_path)
    late, early = request(1, WALL - 3600), request(2, WALL + 3600)
    assert signals(one, Export("otlp", 5.0, requests=(({}, late), ({}, early)))) == [Traced("a:1", 5.0, (late, early))]
    assert counts(one) == {"skewed": 2}


def test_one_workload_without_keys_has_all_spans(tmp_path):
    assert engine_of(spans(TWO, tmp_path), {"service.name": "b"}) == "a:1"
    assert engine_of(spans(FRONTEND, tmp_path), {}) == "f:1"
    assert "otlp: the spans of several engines count as the first one's" in "".join(planned(TWO, tmp_path).hints)


def test_attributes_decide_and_the_most_particular_first(tmp_path):
    one = spans(KEYED, tmp_path)
    assert engine_of(one, {"service.name": "a", "more": "x"}) == "a:1"
    assert engine_of(one, {"service.name": "b"}) == "b:1"
    assert engine_of(one, {"service.name": "b", "shard": "2"}) == "c:1"
    assert engine_of(one, {"service.name": "d"}) is None


def test_nobodys_spans_are_counted_and_named_once(tmp_path, caplog):
    one = spans(KEYED, tmp_path)
    stranger = {"service.name": "other", "host.name": "h", "telemetry.sdk.name": "x"}
    assert signals(one, export((1, stranger), (2, stranger), (3, {}))) == []
    assert signals(one, export((1, stranger))) == []
    assert counts(one) == {"unmatched": 4}
    assert [record.resource for record in caplog.records] == ["service.name=other, host.name=h", "a nameless resource"]
    assert one.hints()[0].startswith("spans come from service.name=other, host.name=h, which no engine claims")


def test_strangers_without_end_do_not_fill_the_memory(tmp_path):
    one = spans(KEYED, tmp_path)
    signals(one, export(*((n, {"service.name": str(n)}) for n in range(1000))))
    assert counts(one) == {"unmatched": 1000}
    assert len(one.hints()) == 20


def test_two_workloads_without_keys_have_none(tmp_path):
    text = ONE.replace("]}]", "]}, {name: y, engines: [{url: 'http://b:1/metrics'}]}]")
    assert engine_of(spans(text, tmp_path), {"service.name": "a"}) is None
    assert "otlp: no engine says which spans are its own" in "".join(planned(text, tmp_path).hints)


def test_spans_are_read_by_the_engines_own_adapter(tmp_path):
    one = spans(FRONTEND, tmp_path)
    worker = Span(b"x" * 24, "llm_request", 1.0, 2.0, failed=False, attributes=LATENCY)
    assert one.reader_for({})(worker) == "ignored"  # the frontend counts the same request
    assert spans(ONE, tmp_path).reader_for({})(worker).e2e == 1.0


def test_a_server_around_an_engine_has_the_engines_spans(tmp_path):
    one = spans(ONE.replace("'}", "', engine: ray}"), tmp_path)
    assert one.reader_for({})(Span(b"x" * 24, "llm_request", 1.0, 2.0, failed=False, attributes=LATENCY)).e2e == 1.0


# -- the recording of a real engine

RECORDING = RECORDINGS / "vllm-0.32-poisson-otlp"
REPLAYED = "workloads: [{name: chat, engines: [{url: 'recording:vllm-b'}]}]"


@pytest.mark.parametrize(
    ("otlp", "accepted"), [("otlp: {}\n", 90), ("", None)], ids=["with the key", "without the key"]
)
def test_a_replay_takes_spans_where_the_configuration_says_so(tmp_path, otlp, accepted):
    path = tmp_path / "inferometer.yaml"
    path.write_text(otlp + REPLAYED)
    snapshot = asyncio.run(replay(RECORDING, config.load(str(path), {}, {}), {}))
    assert snapshot.values.get(("inferometer_spans_total", ("accepted",))) == accepted
    assert not any("span" in hint for hint in snapshot.hints)


def test_strata_wait_for_spans_where_they_are_routed(tmp_path):
    """The engines that claim some, else the one that counts the requests of the only workload."""

    def waiting(text):
        return [member.engine for watch in planned(text, tmp_path).watches for member in watch.members if member.traced]

    assert (waiting(ONE), waiting(TWO), waiting(FRONTEND)) == (["a:1"], ["a:1"], ["f:1"])


def test_a_reason_that_is_too_deep_to_parse_is_a_word():
    """It fails its own request, and no other of the batch."""
    deep = {"rid": "x", "gen_ai.response.finish_reasons": "[" * 5000}
    span = Span(bytes(24), "Req x", WALL - 1, WALL, failed=False, attributes=LATENCY | deep)
    read = SpanReader([adapters.builtin()["sglang"]])(span)
    assert isinstance(read, Request)
    assert read.outcome == "error"
