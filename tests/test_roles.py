"""Roles: which page of a workload counts what, so that every token and request counts once; and the counters behind."""

from __future__ import annotations

import pytest
from inferometer import adapters, config
from inferometer.app.plan import plan
from inferometer.interval import Watch, Watched
from inferometer.interval.watch import Scope
from inferometer.sources.page import PageParser
from readings import Follower, page, scraped

T = 1000.0
OLD = {"start": 1.0}
ALL, NOTHING = Scope(), Scope(input=False, output=False, requests=False)
INPUT, OUTPUT = Scope(output=False, requests=False), Scope(input=False)


def roles(*names, gpus=1.0):
    """A workload with one engine of each of these roles, named by its role and place."""
    return Watch("w", tuple(Watched(f"{role}{place}", gpus, role=role) for place, role in enumerate(names)))


@pytest.mark.parametrize(
    ("names", "scopes"),
    [
        (("both", "both"), (ALL, ALL)),
        (("prefill", "decode"), (INPUT, OUTPUT)),
        (("prefill", "decode", "both"), (INPUT, OUTPUT, ALL)),
        (("frontend", "prefill", "decode"), (ALL, NOTHING, NOTHING)),
        (("both", "frontend", "both"), (NOTHING, ALL, NOTHING)),
        (("frontend", "frontend", "both"), (ALL, ALL, NOTHING)),
        (("frontend",), (ALL,)),
    ],
)
def test_what_each_page_counts(names, scopes):
    """Frontends count everything where there are any; else prefill pages input, decode pages the rest."""
    watch = roles(*names)
    assert watch.scopes() == scopes


PAST = {"prompt_tokens": 90, "cached_tokens": 30, "output_tokens": 9, "reasoning_tokens": 6, "finished_ok": 2,
        "finished_aborted": 1, "finished_output_tokens": 5}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        (("prefill",), {"input_uncached": 60, "input_cached": 30}),
        (("decode",), {"output": 9, "ok": 2, "aborted": 1, "wasted": 4, "reasoning": 6, "ttft": 3, "judged": 3}),
        (("both", "frontend"), {}),
        (
            ("frontend", "both"),
            {"input_uncached": 60, "input_cached": 30, "output": 9, "ok": 2, "aborted": 1, "wasted": 4,
             "reasoning": 6, "ttft": 3, "judged": 3},
        ),
    ],
)  # fmt: skip
def test_what_comes_of_one_page(names, counted):
    """Tokens, requests, latencies, waste and strata of the first engine's page, as far as it counts them."""
    follower = Follower(roles(*names))
    name = f"{names[0]}0"
    follower.at(T, page(T, dict.fromkeys(PAST, 0), engine=name, seen={"ttft": []}, **OLD))
    interval, *_ = follower.at(T + 5, page(T + 5, PAST, engine=name, seen={"ttft": [0.2] * 3}, **OLD))
    (change,) = interval.models.values()
    found = change.tokens | change.outcomes | {"wasted": change.wasted, "reasoning": change.reasoning}
    found |= {latency: histogram.total for latency, histogram in change.latencies.items()}
    found["judged"] = sum(stratum.judged for stratum in interval.strata)
    assert {name: amount for name, amount in found.items() if amount} == counted
    assert (change.seen or change.tokens) == {"input_uncached": 60, "input_cached": 30, "output": 9}
    assert interval.state == "busy"


def in_flight(at, name, finished=2):
    """A page with requests that have ended in a stratum that has not, since one more is under way."""
    counters = {"prompt_tokens": 5, "output_tokens": 5, "finished_ok": finished}
    return page(at, counters, engine=name, running=1, seen={"ttft": [0.2] * (finished + 1)}, **OLD)


def leave(follower):
    follower.meter.watch([Watch("w", (Watched("other", 1.0),))], 5.0)
    follower.at(T + 9)


def restart(follower):
    names = [view.engine for view in follower.meter.views()]
    follower.at(T + 9, *(page(T + 9, engine=name, start=T + 8) for name in names))


END = {
    "the recording ends": lambda follower: follower.finish(T + 9),
    "the engines are removed": leave,
    "the engines restart": restart,
}


@pytest.mark.parametrize("end", END)
@pytest.mark.parametrize(
    ("kinds", "judge"),
    [(("prefill", "decode"), 1), (("frontend", "both"), 0), (("frontend", "prefill", "decode"), 0)],
)
def test_a_request_is_judged_once_however_its_stratum_ends(kinds, judge, end):
    """Every page shows the same two requests; only one of them tells whether they were good."""
    follower = Follower(roles(*kinds))
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    follower.at(T, *(page(T, engine=name, seen={"ttft": []}, **OLD) for name in names))
    follower.at(T + 5, *(in_flight(T + 5, name) for name in names))
    assert follower.meter.pending() == {"w": 2}
    END[end](follower)
    judged = {i.engine: [stratum.judged for stratum in i.strata] for i in follower.given if i.strata}
    assert judged == {names[judge]: [2]}


def test_the_agents_next_life_knows_which_pages_count():
    """The roles come with the watch, the counters with the marks: nothing is counted twice after a gap."""
    follower = Follower(roles("frontend", "both"))
    for at in (T, T + 5):
        follower.at(at, *(page(at, {"output_tokens": at - T}, engine=name, **OLD) for name in ("frontend0", "both1")))
    later = follower.restarted(roles("frontend", "both"))
    at = T + 60
    later.at(at, *(page(at, {"output_tokens": 60}, engine=name, **OLD) for name in ("frontend0", "both1")))
    assert (follower.tokens("output"), later.tokens("output")) == (5, 55)
    assert [change.seen["output"] for change in later.changes() if change.seen] == [55]


# -- the counter of all that finished


def finished(*pages):
    """The follower of an engine whose page counts all ends together, and aborted ones beside."""
    follower = Follower()
    for at, (ended, aborted) in enumerate(pages):
        counters = {"prompt_tokens": at + 1, "finished": ended, "finished_aborted": aborted}
        follower.at(T + at, page(T + at, counters, running=1, **OLD))
    return follower


@pytest.mark.parametrize(
    ("pages", "ok", "aborted"),
    [
        pytest.param([(0, 0), (5, 2)], 3, 2, id="together"),
        pytest.param([(0, 0), (0, 2), (5, 2)], 3, 2, id="an abort shows before its end"),
        pytest.param([(0, 0), (5, 0), (5, 2), (9, 2)], 7, 2, id="an abort shows after its end"),
        pytest.param([(7, 3), (9, 4)], 1, 1, id="from a baseline on"),
        pytest.param([(0, 0), (0, 3), (1, 3), (2, 3), (4, 3)], 1, 3, id="it waits as long as it takes"),
    ],
)
def test_those_that_ended_well_are_the_others(pages, ok, aborted):
    """The part may be on the page before the whole, and no request is taken for two."""
    follower = finished(*pages)
    assert (follower.outcome("aborted"), follower.outcome("ok")) == (aborted, ok)
    assert all(n >= 0 for change in follower.changes() for n in change.outcomes.values())


def test_an_abort_still_waits_for_its_end_in_the_agents_next_life():
    follower = finished((0, 0), (0, 2))
    later = follower.restarted()
    later.at(T + 5, page(T + 5, {"prompt_tokens": 9, "finished": 5, "finished_aborted": 2}, running=1, **OLD))
    assert (follower.outcome("ok"), later.outcome("ok"), later.outcome("aborted")) == (0, 3, 0)


@pytest.mark.parametrize("aborted", [0, 4])
def test_nobody_vanished_of_those_that_ended(aborted):
    """First tokens without an end: the counter of all ends is not added to its own parts."""
    follower = Follower()
    follower.at(T, page(T, {"finished": 0, "finished_aborted": 0}, seen={"ttft": []}, **OLD))
    counters = {"finished": 6, "finished_aborted": aborted}
    follower.at(T + 5, page(T + 5, counters, seen={"ttft": [0.2] * 9}, **OLD))
    assert follower.outcome("vanished") == 3


def test_ends_alone_are_busy_time_and_their_fall_a_restart():
    """On a page without ages or prompts, `finished` says that something happened, and that the process is another."""
    follower = Follower()
    for at, ended in ((T, 5), (T + 5, 7), (T + 10, 1)):
        follower.at(at, page(at, {"finished": ended}))
    assert [(i.state, i.resets) for i in follower.given[-2:]] == [("busy", 0), ("busy", 1)]
    assert follower.outcome("ok") == 2 + 1


def test_cached_tokens_may_show_before_their_prompt():
    """What was in the cache is subtracted once the prompt shows, also in the agent's next life."""
    follower = Follower()
    follower.read(page(T, {"prompt_tokens": 0, "cached_tokens": 0}, **OLD))
    follower.read(page(T + 5, {"prompt_tokens": 0, "cached_tokens": 40}, **OLD))
    later = follower.restarted()
    later.read(page(T + 10, {"prompt_tokens": 100, "cached_tokens": 40}, **OLD))
    later.read(page(T + 15, {"prompt_tokens": 150, "cached_tokens": 60}, **OLD))
    assert (follower.tokens("input_uncached"), follower.tokens("input_cached")) == (0, 40)
    assert [c.tokens["input_uncached"] for c in later.changes()] == [60, 30]


# -- busy seconds by phase, from SGLang's own page


def sglang(*lines):
    """The signal of a page with these lines of SGLang."""
    known = (adapters.builtin()["sglang"],)
    text = "".join(f"sglang:{line}\n" for line in ('token_usage{tp_rank="0"} 0', *lines))
    series = PageParser(adapters.wanted(known)).parse(text.encode()).series
    return adapters.Translator("e", known)(scraped("e", T, series))


def seconds(category, value, **labels):
    labels = {"category": category, "model_name": "m", "tp_rank": "0", **labels}
    inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"forward_execution_seconds_total{{{inside}}} {value}"


@pytest.mark.parametrize(
    ("lines", "phases"),
    [
        ([], None),
        ([("extend", 2), ("decode", 3), ("idle", 9)], (2, 3)),
        ([("extend", 2, 0), ("extend", 2, 0, 1), ("decode", 3, 0), ("decode", 3, 0, 1)], (2, 3)),
        ([("extend", 2, 0), ("decode", 3, 0), ("extend", 4, 1), ("decode", 1, 1)], (3, 2)),
        ([("extend", 2), ("mixed", 1), ("decode", 3), ("target_verify", 5)], (3, 8)),
        ([("extend", 2, 0), ("decode", 3, 0), ("target_verify", 1, 0), ("extend", 4, 1)], (3, 2)),
        ([("extend", 2)], (2, 0)),
        ([("target_verify", 2)], (0, 2)),
    ],
    ids=["no timer", "one GPU", "tensor parallel", "data parallel", "drafting", "a rank that has not decoded yet",
         "a prefill server", "a decode server"],
)  # fmt: skip
def test_busy_seconds_of_a_phase_are_those_of_one_group_of_gpus(lines, phases):
    """Ranks of a group show the same time, kinds of steps follow each other, and groups work side by side."""
    written = [
        seconds(category, value, **dict(zip(("dp_rank", "tp_rank"), map(str, ranks), strict=False)))
        for category, value, *ranks in lines
    ]
    signal = sglang(*written)
    follower = Follower()
    fields = {name: getattr(signal, name) for name in signal.__struct_fields__}
    follower.at(T, type(signal)(**fields | {"numbers": (0.0,) * len(signal.numbers)}))
    (interval,) = follower.at(T + 5, type(signal)(**fields | {"at": T + 5}))
    assert interval.phases == phases


# -- who holds the GPUs


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        ("{url: 'recording:a', role: prefill}, {url: 'recording:b', role: decode}", (4, 4)),
        ("{url: 'recording:a', role: prefill, gpus: 6}, {url: 'recording:b', role: decode}", (6, 2)),
        ("{url: 'recording:a', role: frontend}, {url: 'recording:b', gpus: 2}, {url: 'recording:c'}", (0, 2, 6)),
        ("{url: 'recording:a', role: frontend}, {url: 'recording:b'}", (0, 8)),
        ("{url: 'recording:a', role: frontend}", (8,)),
        ("{url: 'recording:a', role: frontend}, {url: 'recording:b', role: frontend}", (4, 4)),
    ],
)
def test_a_frontend_holds_gpus_only_where_nobody_else_is_watched(tmp_path, engines, expected):
    """Eight GPUs are paid for, whoever of the deployment has a page."""
    file = tmp_path / "i.yaml"
    rates = "rates: {prefill: 20000, decode: 2500}"
    file.write_text(f"workloads: [{{name: w, gpus: 8, {rates}, engines: [{engines}]}}]\n", encoding="utf-8")
    layout = plan(config.load(str(file), {}, {}), (), {})
    (watch,) = layout.watches
    assert tuple(engine.gpus for engine in watch.engines) == expected
    assert layout.policies["w"].rates == (20_000, 2_500)
    assert not [hint for hint in layout.hints if "role" in hint]


HINTED = [
    ("gpus: 3, engines: [{url: 'http://a', gpus: 2}]", "its engines hold 2 GPUs, its key gpus says 3"),
    ("engines: [{url: 'http://a', role: decode}]", "decode pages count no input tokens"),
    ("engines: [{url: 'http://a', role: prefill}]", "prefill pages count no output and no requests"),
    (
        "slo: {ttft: 1s}, engines: [{url: 'http://a', role: decode}, {url: 'http://b', role: prefill}]",
        "may measure TTFT",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), HINTED)
def test_what_a_deployment_cannot_tell_is_said(tmp_path, text, sentence):
    file = tmp_path / "c.yaml"
    file.write_text(f"workloads: [{{name: w, {text}}}]\n")
    assert any(sentence in hint for hint in plan(config.load(str(file), {}, {}), (), {}).hints)


def test_a_whole_deployment_is_told_nothing(tmp_path):
    file = tmp_path / "c.yaml"
    roles = ("frontend", "prefill", "decode")
    engines = ", ".join(f"{{url: 'http://{role}', role: {role}}}" for role in roles)
    file.write_text(
        f"workloads: [{{name: w, gpus: 2, slo: {{ttft: 1s}}, engines: [{engines}]}}]\n"
        "prices: {default: {gpu_hour: 1}}\n"
    )
    assert plan(config.load(str(file), {}, {}), (), {}).hints == ()
