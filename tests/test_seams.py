"""Where parts meet: a name that changes under load, an account that opens late, a page that is doubtful by turns."""

from inferometer import adapters, economics
from inferometer.app.publisher import Publisher
from inferometer.economics.policy import Policy, Slo
from inferometer.interval import Meter
from inferometer.interval.engine import EngineState
from inferometer.ledger import Ledger
from inferometer.model import Batch, Histogram, Key, Page, Series
from readings import INF, page, signal_of, watch

NAN = float("nan")


def of_models(at, rows, names):
    """A page with first tokens, finished, running, output and finished output by model; ``names``: what they go by."""
    counters, histograms, gauges = {}, {}, {}
    for raw, (first, finished, running, output, done) in rows.items():
        name = names.get(raw, raw)
        values = {"output_tokens": output, "finished_ok": finished, "finished_output_tokens": done}
        counters |= {Key(signal, name, f"{signal}[{raw}]"): float(value) for signal, value in values.items()}
        histograms[Key("ttft", name, f"ttft[{raw}]")] = Histogram((1.0, INF), (float(first), float(first)))
        gauges["running", name] = gauges.get(("running", name), 0.0) + running
    return signal_of(
        "e", at, kind="x", process_start=1000.0, counters=counters, histograms=histograms, gauges=gauges, vital=(at,)
    )


def test_a_model_that_gets_its_own_name_amid_requests_leaves_none_of_them_behind():
    """Ten of a's requests run while a limit is raised: they end under its name, and nothing vanished or was wasted."""
    state, told = EngineState(settled_at=0.0), {}

    def read(at, rows, names):
        for model, change in state.read(of_models(at, rows, names), 0.0).models.items():
            for outcome, count in {**change.outcomes, "wasted": change.wasted}.items():
                told[model, outcome] = told.get((model, outcome), 0.0) + count

    both, alone = {"a": "other", "b": "other"}, {"b": "other"}
    read(1, {"a": (0, 0, 0, 0, 0), "b": (0, 0, 0, 0, 0)}, both)
    read(2, {"a": (20, 10, 10, 1500, 1000), "b": (5, 5, 0, 500, 500)}, both)
    read(3, {"a": (20, 20, 0, 2000, 2000), "b": (6, 5, 1, 550, 500)}, alone)
    for at in range(4, 60):
        read(at, {"a": (20, 20, 0, 2000, 2000), "b": (6, 6, 0, 600, 600)}, alone)
    assert {what: count for what, count in told.items() if count} == {("other", "ok"): 16, ("a", "ok"): 10}


def test_a_model_that_was_away_when_an_objective_came_opens_its_accounts_when_it_is_back():
    """Else the first increase of its counters would be lost to every reader."""
    meter, opened = Meter([watch("e")], 5.0), []

    def step(at, models, policy):
        counters = {(signal, model): 0 for model in models for signal in ("prompt_tokens", "finished_ok")}
        meter.add(Batch(at, at), [page(at, counters, start=-100.0, seen={("e2e", model): [] for model in models})])
        for interval in meter.due(at):
            amounts = economics.settle(interval, policy).amounts
            opened.append({labels[1] for name, labels in amounts if name == "inferometer_slo_requests_total"})

    with_objective = Policy("w", slo=Slo({"e2e": 0.5}))
    step(5.0, "ab", Policy("w"))
    meter.watch([watch("e")], 5.0)
    for at, models in ((10.0, "a"), (15.0, "ab"), (20.0, "ab")):
        step(at, models, with_objective)
    assert opened == [set(), {"a"}, {"a", "b"}, set()]


def test_a_newest_name_that_is_no_number_by_turns_is_not_given_up():
    """Its signal is not known on those pages; an older name of it never counts beside it."""
    names = ("generation_tokens_total", "prompt_tokens_total", "prompt_tokens_cached_total", "prefix_cache_hits_total")
    layout = tuple(Series(f"vllm:{name}", (("model_name", "m"),)) for name in names)
    translate = adapters.Translator("e", [adapters.builtin()["vllm"]])
    for number in range(60):
        values = (10.0 + number, 10.0 + number, NAN if number % 2 else 100.0 + number, 5000.0 + number)
        counters = translate(Page("e", float(number), layout=layout, values=values)).counters
        cached = [value for key, value in counters.items() if key.signal == "cached_tokens"]
        assert cached == ([] if number % 2 else [100.0 + number])


def test_a_workload_that_is_renamed_while_the_ledger_is_written_is_published():
    """Its time of accounting is not known before its first batch, which is no reason to end."""
    meter = Meter([watch("e")], 5.0)
    meter.add(Batch(5.0, 5.0), [page(5.0)])
    meter.due(5.0)
    meter.watch([watch("e", workload="renamed")], 5.0)
    publisher = Publisher(meter, Ledger(None, "USD"))
    publisher(Batch(5.0, 5.0), [])
    assert ("inferometer_settled_until_timestamp_seconds", ("renamed",)) in publisher.snapshot.values
