"""Limits of what comes in: what is over them is left out whole, is counted, and never makes a counter jump."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferometer import adapters, config
from inferometer.adapters import Models, Tenants, Translator
from inferometer.adapters.models import cut
from inferometer.app.discovery import Discovery
from inferometer.app.fleet import Fleet
from inferometer.app.names import Names
from inferometer.app.plan import plan
from inferometer.app.spans import Spans
from inferometer.config import Config, Engine, Workload
from inferometer.config.schema import Kubernetes
from inferometer.economics import Policy, settle
from inferometer.interval import Room
from inferometer.ledger import Ledger
from inferometer.model import Export, Gpu, GpuReading, Page, Pods, Request, ServingPod, by_workload
from inferometer.sources.page import PageParser
from readings import Follower, page, scraped, watch

VLLM = adapters.builtin()["vllm"]
T = 1000.0
TOKENS = "inferometer_tokens_total"


def by_user(users, value, extra=()):
    """Tokens of so many users, one label set each, beside what every engine has."""
    counters = {("finished_ok", "m", "finished_ok[]"): value}
    for user in range(users):
        counters["prompt_tokens", "m", f"prompt[{user}]"] = value
    for user in range(users):
        counters["output_tokens", "m", f"output[{user}]"] = value
    return counters | dict(extra)


def limited(series, all_series=10**6, *engines):
    follower = Follower(watch(*(engines or ("e",))))
    follower.meter.watch([watch(*(engines or ("e",)))], 5.0, room=Room(series, all_series))
    return follower


def test_what_is_over_the_limit_is_left_out_by_whole_label_sets():
    """Numerator and denominator lose the same users; the small family stays whole; every reading is counted."""
    follower = limited(21)
    follower.read(page(T, by_user(100, 0), start=1), page(T + 5, by_user(100, 7), start=1))
    assert follower.tokens("input_uncached") == follower.tokens("output") == 10 * 7
    assert follower.outcome("ok") == 7
    assert follower.meter.capacity.dropped == {"series": 2 * 180, "all_series": 0}


def test_histograms_and_other_counters_go_before_tokens():
    follower = limited(3)
    seen = {("ttft", "m", f"ttft[{n}]"): [0.1] for n in range(5)}
    counters = {"prompt_tokens": 5, "output_tokens": 5, "finished_ok": 5, "http_ended": 9}
    follower.read(page(T, start=1), page(T + 5, counters, seen=seen, start=1))
    assert (follower.tokens(), follower.outcome("ok"), follower.observations("ttft")) == (10, 5, 0)
    assert follower.meter.capacity.dropped["series"] == 6


def test_a_series_that_is_followed_stays_and_a_dropped_one_never_looks_like_a_reset():
    """A storm of new labels before the known ones on the page takes nothing from them, and brings nothing."""
    follower = limited(5)
    known = {"prompt_tokens": 10, "output_tokens": 20}
    storm = {("prompt_tokens", "m", f"storm[{n}]"): 1e6 for n in range(50)}
    first = {key: value for key, value in storm.items() if "[3" not in key[2]}
    follower.read(
        page(T, known, start=1),
        page(T + 5, first | {n: v + 1 for n, v in known.items()}, start=1),
        page(T + 10, storm | {n: v + 2 for n, v in known.items()}, start=1),
        page(T + 15, {n: v + 3 for n, v in known.items()}, start=1),
    )
    assert follower.tokens() == 6 + 3 * 1e6
    assert follower.total("resets") == 0


def test_the_same_series_are_left_out_after_the_agent_starts_again():
    follower = limited(21)
    follower.read(page(T, by_user(100, 0), start=1), page(T + 5, by_user(100, 7), start=1))
    again = follower.restarted(watch("e"))
    again.meter.watch([watch("e")], 5.0, room=Room(21))
    again.read(page(T + 10, dict(reversed(by_user(100, 9).items())), start=1))
    assert again.tokens() == 2 * 10 * (9 - 7)


@pytest.mark.parametrize(("start", "counted"), [(1, 2 * 90 * 2), (T + 1, 2 * 90 * 9)], ids=["older", "younger"])
def test_a_higher_limit_counts_what_was_left_out_only_where_it_is_provably_ours(start, counted):
    """Of a process older than our watch what was left out may be anybody's: it goes on from where it is."""
    follower = limited(21)
    follower.at(T)
    follower.read(page(T + 5, by_user(100, 7), start=start))
    before = follower.tokens()
    follower.meter.watch([watch("e")], 5.0, room=Room(1000))
    follower.read(page(T + 10, by_user(100, 7), start=start), page(T + 15, by_user(100, 9), start=start))
    assert follower.tokens() - before - 2 * 10 * 2 == counted


def test_a_new_process_has_all_the_room():
    follower = limited(21)
    follower.read(page(T, by_user(10, 5), start=1), page(T + 5, by_user(20, 5), start=5))
    follower.read(page(T + 10, {("prompt_tokens", "m", "new[x]"): 3}, start=9))
    assert follower.meter._engines["e"].state.marks.size == 1
    assert follower.meter.capacity.held == 1


def test_the_room_of_all_engines_together():
    """Who comes first is served first; one that leaves makes room."""
    names = ("a", "b", "c")
    follower = limited(1000, 10, *names)
    for at in (T, T + 5):
        follower.at(at, *(page(at, by_user(3, at), engine=name, start=1) for name in names))
    assert follower.meter.capacity.held == 10
    assert follower.meter.capacity.dropped == {"series": 0, "all_series": 2 * (4 + 7)}
    follower.meter.watch([watch("b", "c")], 5.0, room=Room(1000, 10))
    assert follower.meter.capacity.held == 3
    follower.at(T + 10, *(page(T + 10, by_user(3, T), engine=name, start=1) for name in ("b", "c")))
    assert follower.meter.capacity.held == 10
    assert all(engine.state.marks.size <= 7 for engine in follower.meter._engines.values())


def test_a_page_within_the_limit_is_not_looked_at_twice(monkeypatch):
    """The limit is one comparison per page."""
    monkeypatch.setattr("inferometer.interval.room._chosen", lambda *_: pytest.fail("looked at every series"))
    follower = Follower()
    follower.read(page(T, by_user(100, 0), start=1), page(T + 5, by_user(100, 7), start=1))
    assert follower.tokens() == 2 * 100 * 7


# -- models


def vllm(*counts):
    """A page of vLLM: prompt tokens by model."""
    lines = [f'vllm:prompt_tokens_total{{engine="0",model_name="{model}"}} {count}' for model, count in counts]
    lines += [f'vllm:generation_tokens_total{{engine="0",model_name="{model}"}} {count}' for model, count in counts]
    return "\n".join(["process_start_time_seconds 1", *lines, ""])


class Life:
    """One life of the agent, from page to ledger; ``folder`` outlives it."""

    def __init__(self, folder: Path, limit: int = 3, tenants: int = 0) -> None:
        self.ledger = Ledger(folder, "USD")
        tenant = f", tenant: {{label: model_name, limit: {tenants}}}" if tenants else ""
        engine = f"{{url: 'http://e:1', name: e{tenant}}}"
        text = f"limits: {{models: {limit}}}\nworkloads: [{{name: w, engines: [{engine}]}}]\n"
        (folder / "c.yaml").write_text(text)
        self.layout = plan(config.load(str(folder / "c.yaml"), {}, {}), (), {})
        self.names = Names(self.ledger.state.totals)
        self.names.follow(self.layout)
        self.follower = Follower(watch("e"))
        self.follower.meter.restore(self.ledger.state.marks, 0.0)
        self.translate = Translator("e", [VLLM], self.layout.tenants.get("e"), self.names.models("e"))
        self.at = T

    def read(self, *counts) -> None:
        self.at += 5
        parsed = PageParser(None).parse(vllm(*counts).encode())
        intervals = self.follower.at(
            self.at, self.translate(Page("e", self.at, layout=parsed.layout, values=parsed.values))
        )
        entries = [settle(interval, Policy("w")) for interval in intervals]
        asyncio.run(self.ledger.post(entries, self.follower.committed))

    def tokens(self, at: int = 2, name: str = TOKENS) -> dict[str, float]:
        """Tokens by the label at this place."""
        sums: dict[str, float] = {}
        for (metric, labels), value in self.ledger.state.totals.items():
            if metric == name and value:
                sums[labels[at]] = sums.get(labels[at], 0.0) + value
        return sums

    def end(self) -> None:
        self.ledger.close()


def test_later_models_are_counted_together_and_none_moves_when_the_agent_starts_again(tmp_path):
    """Whatever the order of the page in the next life, sums are right and no counter goes back."""
    models, life = "abcdefgh", Life(tmp_path)
    life.read(*((m, 0) for m in models))
    life.read(*((m, 10) for m in models))
    before = life.tokens()
    assert before == {"a": 20, "b": 20, "c": 20, "other": 100}
    life.end()
    life = Life(tmp_path)
    life.read(*((m, 11) for m in reversed(models)))
    assert life.tokens() == {"a": 22, "b": 22, "c": 22, "other": 110}
    assert life.names.hints() == (
        'w: it has more than 3 models; the later ones are counted as model "other": raise limits.models if they matter',
    )
    life.end()


@pytest.mark.parametrize("limit", [1, 8], ids=["lower", "higher"])
def test_another_limit_of_models_counts_nothing_twice(tmp_path, limit):
    """With a higher limit the others get their names from now on; with a lower one nobody loses its own."""
    models, life = "abcdefgh", Life(tmp_path)
    life.read(*((m, 0) for m in models))
    life.read(*((m, 10) for m in models))
    life.end()
    life = Life(tmp_path, limit)
    life.read(*((m, 11) for m in models))
    rest = {"other": 110} if limit == 1 else {"other": 100, **dict.fromkeys("defgh", 2)}
    assert life.tokens() == {"a": 22, "b": 22, "c": 22, **rest}
    life.end()


def test_tenants_keep_their_names_when_the_agent_starts_again(tmp_path):
    life = Life(tmp_path, limit=100, tenants=2)
    counts = [*"abcd"]
    life.read(*((m, 0) for m in counts))
    life.read(*((m, 10) for m in counts))
    life.end()
    life = Life(tmp_path, limit=100, tenants=2)
    life.read(*((m, 11) for m in reversed(counts)))
    assert life.tokens(1, "inferometer_tenant_tokens_total") == {"a": 22, "b": 22, "other": 44}
    assert sum(life.tokens().values()) == 88
    life.end()


def test_models_with_limits_of_their_own_have_their_name():
    """What the owner wrote down is not crowded out."""
    models = Models(2, always=("mine",))
    assert [models.of(name) for name in ("a", "b", "mine", "c", "", "a")] == ["a", "other", "mine", "other", "", "a"]


def test_spans_are_counted_under_the_same_names():
    models = Models(1, known=("a",))
    spans = Spans(lambda _: True, lambda _: models)
    settings = Config(workloads=(Workload("w", (Engine("http://e:1", "e"),)),))
    spans.follow(plan(settings, (), {}))
    requests = tuple(({}, Request(bytes([n]), 1.0, 2.0, model=name)) for n, name in enumerate(("a", "b", "")))
    (traced,) = spans.signals(Export("otlp", 5.0, requests=requests), 2.0)
    assert [request.model for request in traced.requests] == ["a", "other", ""]


# -- values of labels


@given(st.text(max_size=400))
def test_values_are_cut_at_whole_characters(text):
    short = cut(text)
    assert len(short.encode("utf-8", "replace")) <= 256
    if len(text.encode("utf-8", "replace")) <= 256:
        assert short.encode("utf-8", "replace") == text.encode("utf-8", "replace")
    else:
        assert text.startswith(short)
        assert len(short.encode()) > 252


def test_models_that_are_equal_after_the_cut_are_added_up(tmp_path):
    """One series on /metrics, with the sum of both."""
    long, life = "é" * 300, Life(tmp_path)
    life.read((long + "1", 0), (long + "2", 0))
    life.read((long + "1", 3), (long + "2", 4))
    assert life.tokens() == {"é" * 128: 14}
    life.end()


def test_long_label_sets_do_not_fill_the_ledger():
    """A label that nobody needs may be a novel; it is kept as a digest, and two of them stay two."""
    lines = ["process_start_time_seconds 1"]
    for name in ("prompt_tokens_total", "generation_tokens_total"):
        lines += [f'vllm:{name}{{model_name="m",novel="{"x" * 50_000}{n}"}} 5' for n in (1, 2)]
    text = "\n".join([*lines, ""])
    signal = Translator("e", [VLLM])(scraped("e", T, PageParser(None).parse(text.encode()).series))
    assert sum(signal.counters.values()) == 20
    assert len(signal.counters) == 4
    assert max(len(key.series) for key in signal.counters) < 100


def test_tenants_are_cut_too():
    assert Tenants("team").of({"team": "x" * 1000}) == "x" * 256


# -- what is found


def test_gpus_over_the_limit_are_left_out_and_counted():
    fleet = Fleet(["dcgm"], limit=2)
    gpus = tuple(Gpu(f"GPU-{n}", n) for n in range(5))
    assert fleet.see(GpuReading("dcgm", T, gpus=gpus))
    assert not fleet.see(GpuReading("dcgm", T + 1, gpus=tuple(reversed(gpus))))
    assert [gpu.uuid for gpu in fleet.gpus(T + 1)] == ["GPU-0", "GPU-1"]
    assert fleet.dropped == 6


def test_pods_over_the_limit_are_left_out_and_counted():
    discovery = Discovery(limit=2)
    pods = [ServingPod("ns", f"p{n}", f"u{n}", "ns/w", f"http://10.0.0.{n}:8000/metrics") for n in range(5)]
    discovery.see(Pods("k", T, pods=tuple(pods)))
    discovery.see(Pods("k", T + 1, pods=tuple(reversed(pods))))
    joined = discovery.joined(Config(kubernetes=Kubernetes()))
    assert [engine.name for workload in joined.workloads for engine in workload.engines] == ["ns/p0", "ns/p1"]
    assert discovery.dropped == 6


def test_the_accounts_that_names_are_learnt_from_have_their_model_where_it_is_looked_for():
    assert by_workload((TOKENS, ("w", "e", "m", "output"))) == (TOKENS, ("w", "m", "output"))
    names = Names([(TOKENS, ("w", "e", "m", "output")), ("inferometer_slo_requests_total", ("w", "s", "trace"))])
    assert names._known == {"w": {"m", "s"}}
