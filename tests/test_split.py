"""Who pays: the money of one interval over token types by the most trusted rule (formulas §5), through settle."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferometer.economics import Policy, settle
from inferometer.economics.prices import Rented, Step
from inferometer.economics.split import split
from inferometer.exposition import catalog
from inferometer.model import STATES, TOKEN_TYPES, Entry, Interval, ModelChange

HOUR = 3600.0
FOUR_AN_HOUR = Rented((Step(0, 4.0),))
MILLION = 1e6
G6_RATES = (20_000.0, 2_500.0)
MIXED = {"input_uncached": 6 * MILLION, "input_cached": 4 * MILLION, "output": 2 * MILLION}
INPUT, CACHED, OUTPUT = ({kind: MIXED[kind]} for kind in TOKEN_TYPES)
BY_WEIGHTS = {"input_uncached": 24 / 14.4, "input_cached": 1.6 / 14.4, "output": 32 / 14.4}
NO_WEIGHTS = dict.fromkeys(TOKEN_TYPES, 0.0)


def about(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def interval(tokens: dict[str, float], **rest: object) -> Interval:
    """A busy hour of one GPU in which model m had these tokens."""
    given = {"state": "busy", "models": {"m": ModelChange(tokens)} if tokens else {}} | rest
    return Interval(workload="w", engine="e", until=1.8e9, seconds=HOUR, gpus=1.0, **given)


def settled(hour: Interval, **policy: object) -> Entry:
    """Its entry, in which all that every interval owes to promise 1 holds."""
    entry = settle(hour, Policy("w", FOUR_AN_HOUR, **policy))
    assert math.fsum(posted(entry, "token_cost").values()) == about(4.0)
    assert math.fsum(posted(entry, "cost").values()) == about(4.0)
    assert math.fsum(posted(entry, "gpu_seconds").values()) == about(HOUR)
    assert {catalog.fault(account) for account in entry.amounts} == {""}
    return entry


def posted(entry: Entry, name: str) -> dict[tuple[str, ...], float]:
    """A counter's accounts that are not zero, without the workload."""
    return {
        labels[1:]: value
        for (metric, labels), value in entry.amounts.items()
        if metric == f"inferometer_{name}_total" and value
    }


def shares(hour: Interval, **policy: object) -> dict[tuple[str, str], object]:
    """Money by token type and method."""
    paid = posted(settled(hour, **policy), "token_cost")
    return {(kind, method): about(money) for (_, kind, method), money in paid.items()}


def test_by_gpu_time() -> None:
    """G6b: 310 s of prefill and 790 s of decode in an hour at 4.00; the rest is idle in time, cost and token cost."""
    entry = settled(interval(INPUT | OUTPUT, phases=(310.0, 790.0)))
    assert posted(entry, "token_cost") == {
        ("m", "input_uncached", "gpu_time"): about(4 * 310 / 3600),
        ("m", "output", "gpu_time"): about(4 * 790 / 3600),
        ("", "idle", "none"): about(4 * 2500 / 3600),
    }
    assert posted(entry, "cost") == {("gpu", "busy"): about(4 * 1100 / 3600), ("gpu", "idle"): about(4 * 2500 / 3600)}
    assert posted(entry, "gpu_seconds") == {("e", "busy"): about(1100.0), ("e", "idle"): about(2500.0)}


def test_by_calibrated_rates() -> None:
    """G6: 300 s against 800 s, whatever the weights say; cached tokens took no time."""
    assert shares(interval(MIXED), rates=G6_RATES) == {
        ("input_uncached", "calibrated"): about(4 * 300 / 1100),
        ("output", "calibrated"): about(4 * 800 / 1100),
    }


def test_by_weights() -> None:
    """G5: by tokens × weight, with no more than a price."""
    assert shares(interval(MIXED)) == {(kind, "weights"): about(money) for kind, money in BY_WEIGHTS.items()}


@pytest.mark.parametrize(("role", "kinds"), [("prefill", ("input_uncached", "input_cached")), ("decode", ("output",))])
def test_by_pool(role: str, kinds: tuple[str, ...]) -> None:
    """A pool's GPUs are charged to what the pool is for, although its page shows the other tokens too."""
    parts = {kind: BY_WEIGHTS[kind] for kind in kinds}
    whole = sum(parts.values())
    expected = {(kind, "pool"): about(4 * part / whole) for kind, part in parts.items()}
    assert shares(interval(MIXED, role=role)) == expected


@pytest.mark.parametrize(
    ("role", "phases", "rates", "method"),
    [
        ("prefill", (10.0, 5.0), G6_RATES, "pool"),
        ("decode", (0.0, 5.0), G6_RATES, "pool"),
        ("both", (10.0, 5.0), G6_RATES, "gpu_time"),
        ("frontend", (10.0, 5.0), None, "gpu_time"),
        ("both", None, G6_RATES, "calibrated"),
        ("both", None, None, "weights"),
        ("frontend", None, None, "weights"),
    ],
)
def test_the_most_trusted_rule_that_can_be_had(
    role: str, phases: tuple[float, float] | None, rates: tuple[float, float] | None, method: str
) -> None:
    """Pool before GPU time before rates before weights; all assigned money of an interval by one of them."""
    paid = shares(interval(MIXED, role=role, phases=phases), rates=rates)
    assert {how for _, how in paid} - {"none"} == {method}


@pytest.mark.parametrize(
    ("tokens", "rates", "method"),
    [(OUTPUT, None, "weights"), (INPUT, None, "weights"), (OUTPUT, G6_RATES, "calibrated")],
)
def test_seconds_of_a_phase_without_its_tokens_are_no_split(
    tokens: dict[str, float], rates: tuple[float, float] | None, method: str
) -> None:
    """Prefill seconds with no input to pay for them: the next rule splits the busy money, the idle share stays."""
    ((kind, _),) = tokens.items()
    paid = shares(interval(tokens, phases=(900.0, 900.0)), rates=rates)
    assert paid == {(kind, method): about(2.0), ("idle", "none"): about(2.0)}


@pytest.mark.parametrize(("phases", "kind"), [((600.0, 0.0), "input_uncached"), ((0.0, 600.0), "output")])
def test_one_phase_alone_pays_for_its_tokens_alone(phases: tuple[float, float], kind: str) -> None:
    """Tokens of the phase that took no GPU time cost nothing."""
    paid = shares(interval(INPUT | OUTPUT, phases=phases))
    assert paid == {(kind, "gpu_time"): about(4 / 6), ("idle", "none"): about(4 * 5 / 6)}


def test_a_phase_is_shared_by_its_own_types() -> None:
    """Uncached and cached input share the prefill seconds by weight; 3 M + 0.1 × 10 M here."""
    tokens = {"input_uncached": 3 * MILLION, "input_cached": 10 * MILLION, "output": 1.0}
    assert shares(interval(tokens, phases=(HOUR / 2, HOUR / 2))) == {
        ("input_uncached", "gpu_time"): about(2 * 3 / 4),
        ("input_cached", "gpu_time"): about(2 * 1 / 4),
        ("output", "gpu_time"): about(2.0),
    }


def test_models_of_one_engine_share_its_phases() -> None:
    """Each model pays by its tokens of the phase."""
    models = {"m": ModelChange({"output": 30.0}), "n": ModelChange({"output": 10.0, "input_uncached": 5.0})}
    entry = settled(interval({}, models=models, phases=(HOUR / 4, 3 * HOUR / 4)))
    assert posted(entry, "token_cost") == {
        ("m", "output", "gpu_time"): about(3 * 3 / 4),
        ("n", "output", "gpu_time"): about(3 * 1 / 4),
        ("n", "input_uncached", "gpu_time"): about(1.0),
    }


@pytest.mark.parametrize(
    ("hour", "kind"),
    [
        (interval(OUTPUT, role="decode"), "output"),
        (interval(CACHED, role="prefill"), "input_cached"),
        (interval(OUTPUT, phases=(0.0, HOUR)), "output"),
    ],
)
def test_weights_of_zero_do_not_take_a_phases_money_away(hour: Interval, kind: str) -> None:
    """Weights share money within a phase; that the phase pays for its tokens is measured."""
    assert {k for k, _ in shares(hour, weights=NO_WEIGHTS)} == {kind}


@pytest.mark.parametrize(
    "hour",
    [
        interval(OUTPUT, role="prefill"),
        interval(INPUT, role="decode"),
        interval({}, role="decode"),
        interval({}, phases=(0.0, HOUR)),
    ],
)
def test_busy_money_without_a_token_to_pay_for_is_unassigned(hour: Interval) -> None:
    """A pool's money never goes to the other pool's tokens."""
    assert shares(hour) == {("unassigned", "none"): about(4.0)}


@pytest.mark.parametrize(("state", "kind"), [("idle", "idle"), ("stalled", "unassigned"), ("unknown", "unassigned")])
def test_busy_seconds_refine_busy_time_only(state: str, kind: str) -> None:
    """What is idle, stalled or unknown stays so, with or without busy seconds on the page after it."""
    entry = settled(interval({}, state=state, phases=(60.0, 60.0)))
    assert posted(entry, "token_cost") == {("", kind, "none"): about(4.0)}
    assert posted(entry, "gpu_seconds") == {("e", state): HOUR}


def test_tokens_after_a_gap_are_split_by_the_seconds_of_the_gap() -> None:
    """An unknown stretch is no idle time, and its seconds still tell prefill from decode."""
    paid = shares(interval(INPUT | OUTPUT, state="unknown", phases=(100.0, 300.0)))
    assert paid == {("input_uncached", "gpu_time"): about(1.0), ("output", "gpu_time"): about(3.0)}


def test_more_busy_seconds_than_time_are_all_of_it() -> None:
    """Clocks of a GPU and of an agent differ: idle time is never negative."""
    entry = settled(interval(INPUT | OUTPUT, phases=(HOUR, 3 * HOUR)))
    assert posted(entry, "gpu_seconds") == {("e", "busy"): HOUR}
    assert posted(entry, "token_cost")["m", "output", "gpu_time"] == about(3.0)


def test_busy_without_a_busy_second_is_idle() -> None:
    """A request was there and no step ended: the engine itself says that no GPU worked."""
    assert shares(interval(INPUT, phases=(0.0, 0.0))) == {("idle", "none"): about(4.0)}


def test_a_pool_with_busy_seconds_has_idle_time() -> None:
    """The pool decides who pays, the seconds decide for how much."""
    assert shares(interval(OUTPUT, role="decode", phases=(0.0, HOUR / 4))) == {
        ("output", "pool"): about(1.0),
        ("idle", "none"): about(3.0),
    }


def test_tokens_that_another_page_counts_carry_the_money_here() -> None:
    """A worker behind a frontend: its page counts no token, and its GPUs are paid for by those that it shows."""
    entry = settled(interval({}, models={"m": ModelChange({}, seen=MIXED)}))
    assert not posted(entry, "tokens")
    assert posted(entry, "token_cost") == {("m", k, "weights"): about(money) for k, money in BY_WEIGHTS.items()}


AMOUNT = st.one_of(st.just(0.0), st.floats(1e-3, 1e9))
TOKENS = st.fixed_dictionaries({}, optional=dict.fromkeys(TOKEN_TYPES, AMOUNT))
CHANGE = st.builds(ModelChange, TOKENS, seen=st.one_of(st.none(), TOKENS))
SECONDS = st.one_of(st.just(0.0), st.floats(1e-6, 2 * HOUR))
INTERVAL = st.builds(
    Interval, st.just("w"), st.just("e"), st.just(1.8e9), st.sampled_from((0.0, 1.0, HOUR)), st.just(1.0),
    st.sampled_from(STATES), role=st.sampled_from(("both", "prefill", "decode", "frontend")),
    phases=st.one_of(st.none(), st.tuples(SECONDS, SECONDS)),
    models=st.dictionaries(st.sampled_from("mn"), CHANGE),
)  # fmt: skip
POLICY = st.builds(
    Policy, st.just("w"), st.just(FOUR_AN_HOUR),
    rates=st.one_of(st.none(), st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))),
    weights=st.fixed_dictionaries(dict.fromkeys(TOKEN_TYPES, st.one_of(st.just(0.0), st.floats(1e-6, 100)))),
)  # fmt: skip


@given(INTERVAL, POLICY, st.one_of(st.just(0.0), st.floats(1e-9, 1e6)))
def test_the_parts_are_the_whole(hour: Interval, policy: Policy, money: float) -> None:
    """Σ token_cost = Σ cost, in state idle as in all; no part is negative; tokens and unassigned never share a rest."""
    parts = split(hour, policy, money)
    assert math.fsum(parts.values()) == about(money)
    assert min(parts.values(), default=0.0) >= 0
    assert {catalog.fault(("inferometer_token_cost_total", ("w", *part))) for part in parts} <= {""}
    entry = settle(hour, policy)
    idle = posted(entry, "cost").get(("gpu", "idle"), 0.0)
    assert posted(entry, "token_cost").get(("", "idle", "none"), 0.0) == about(idle)
    kinds = {kind for (_, kind, _), part in parts.items() if part}
    assert not ("unassigned" in kinds and kinds & set(TOKEN_TYPES))
