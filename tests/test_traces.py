"""Each engine's spans as its adapter reads them: names old and new, units, outcomes."""

from pathlib import Path

import pytest
from inferometer import adapters
from inferometer.adapters import SpanReader, load
from inferometer.adapters.traces import NUMBERS, Attribute, Finish, Traces
from inferometer.errors import AdapterError
from inferometer.model import Request, Span

LATENCY = {"gen_ai.latency.time_to_first_token": 0.25, "gen_ai.latency.e2e": 1.25}
OLD = {"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 5}
NEW = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 5}
REASONS = "gen_ai.response.finish_reasons"
DYNAMO = {"model": "m", "ttft_ms": "250.0", "avg_itl_ms": "250", "input_tokens": "7", "output_tokens": 5}


def span(attributes, name="llm_request", *, failed=False):
    return Span(b"t" * 16 + b"s" * 8, name, 100.0, 101.25, failed, attributes)


def read(engine, attributes, name="llm_request", *, failed=False):
    return SpanReader([adapters.builtin()[engine]])(span(attributes, name, failed=failed))


REQUESTS = {
    "vllm": ("vllm", "llm_request", LATENCY | OLD),
    "vllm, new names": ("vllm", "llm_request", LATENCY | NEW),
    "sglang": ("sglang", "Req 1a2b3c4d", LATENCY | OLD | {"rid": "1a2b3c4d", REASONS: '["stop"]'}),
    "trtllm": ("trtllm", "llm_request", LATENCY | OLD | {REASONS: '["length"]'}),
    "trtllm, a list": ("trtllm", "llm_request", LATENCY | NEW | {REASONS: ("stop",)}),
    "dynamo": ("dynamo_frontend", "http-request", DYNAMO | {"request.outcome": "success"}),
}


@pytest.mark.parametrize(("engine", "name", "attributes"), REQUESTS.values(), ids=REQUESTS)
def test_every_engine_tells_the_same_of_the_same_request(engine, name, attributes):
    request = read(engine, attributes, name)
    assert isinstance(request, Request)
    assert (request.ttft, request.e2e, request.outcome) == (0.25, 1.25, "ok")
    assert (request.input_tokens, request.output_tokens, request.choices) == (7, 5, 1)
    assert request.tpot == 0.25


OUTCOMES = {
    "sglang aborts": ("sglang", LATENCY | {"rid": "x", REASONS: '["abort"]'}, False, "aborted"),
    "trtllm cancels": ("trtllm", LATENCY | {REASONS: ("cancelled",)}, False, "aborted"),
    "trtllm runs out of time": ("trtllm", LATENCY | {REASONS: ("timeout",)}, False, "error"),
    "dynamo's client leaves": ("dynamo_frontend", DYNAMO | {"request.outcome": "cancelled"}, False, "aborted"),
    "dynamo fails": ("dynamo_frontend", DYNAMO | {"request.outcome": "error"}, False, "error"),
    "vllm's status is an error": ("vllm", LATENCY, True, "error"),
    "vllm aborts with an error": ("vllm", LATENCY | {REASONS: "abort"}, True, "aborted"),
    "one of two choices fails": ("sglang", LATENCY | {"rid": "x", REASONS: ("stop", "abort")}, False, "aborted"),
    "a reason that is cut off": ("sglang", LATENCY | {"rid": "x", REASONS: '["sto'}, False, "error"),
    "no reason at all": ("sglang", LATENCY | {"rid": "x", REASONS: ""}, False, "ok"),
}


@pytest.mark.parametrize(("engine", "attributes", "failed", "outcome"), OUTCOMES.values(), ids=OUTCOMES)
def test_how_a_request_ended(engine, attributes, failed, outcome):
    name = "http-request" if engine == "dynamo_frontend" else "llm_request"
    assert read(engine, attributes, name, failed=failed).outcome == outcome


def test_cached_tokens_and_the_model_are_sglangs():
    request = read("sglang", LATENCY | {"rid": "x", "gen_ai.usage.cached_tokens": 4, "gen_ai.response.model": "m"})
    assert (request.cached_tokens, request.model) == (4, "m")


def test_one_span_of_several_choices():
    assert read("vllm", LATENCY | {"gen_ai.usage.num_sequences": 3}).choices == 3


def test_what_is_not_known_is_none_and_not_minus_one():
    request = read("trtllm", {"gen_ai.latency.time_to_first_token": -1, "gen_ai.latency.e2e": 1, REASONS: ("stop",)})
    assert (request.ttft, request.e2e, request.output_tokens, request.tpot) == (None, 1, None, None)


def test_other_spans_are_no_requests():
    assert read("sglang", {"module": "sglang::request"}, "prefill_forward") == "ignored"
    assert read("dynamo_frontend", {"uri": "/health"}, "http-request") == "ignored"
    assert read("vllm", LATENCY, "http-request") == "ignored"


def test_a_span_of_any_engine_is_read_by_the_adapter_that_knows_it():
    everybody = SpanReader(adapters.builtin().values())
    for _, name, attributes in REQUESTS.values():
        assert everybody(span(attributes, name)).e2e == 1.25, name


ADAPTER = """
engine: mine
versions: any
detect: {any: [mine_up]}
own: [mine_]
model: [model]
counters: {}
traces:
  needs: [first_ms]
  numbers:
    ttft: [{name: first_ms, plus: [queue_ms], scale: 0.001}]
"""


def test_a_queue_that_ttft_leaves_out_is_added(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(ADAPTER)
    reader = SpanReader([load(path)])
    assert reader(span({"first_ms": 200, "queue_ms": "50"})).ttft == pytest.approx(0.25)
    assert reader(span({"first_ms": 200})).ttft == pytest.approx(0.2)


def test_a_misspelt_number_is_a_fault(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(ADAPTER.replace("ttft:", "tfft:"))
    with pytest.raises(AdapterError, match=r"traces\.numbers\.tfft: no such number; known are ttft, e2e"):
        load(path)


def test_the_manuals_example_is_read(tmp_path):
    manual = (Path(__file__).parents[1] / "docs" / "adapters.md").read_text(encoding="utf-8")
    shown = manual.partition("## Traces")[2].partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "orca.yaml"
    path.write_text(ADAPTER.partition("traces:")[0] + shown)
    attributes = {"orca.request": "x", "orca.e2e_ms": 1000, "orca.first_token_ms": "200", "orca.queue_ms": 50}
    request = SpanReader([load(path)])(span(attributes | {REASONS: ("cancelled",)}, "generate"))
    assert (request.ttft, request.e2e, request.outcome) == (pytest.approx(0.25), 1.0, "aborted")
    words = [name for struct in (Traces, Attribute, Finish) for name in struct.__struct_fields__]
    assert [word for word in (*words, *NUMBERS) if f"`{word}`" not in manual] == []
