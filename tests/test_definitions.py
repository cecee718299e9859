"""The worked examples of docs/definitions.md, computed by the agent's own functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from inferometer.economics import Policy, ratios, settle
from inferometer.economics.attribution import fractions, mig_weight
from inferometer.economics.budget import Budget, outlook
from inferometer.economics.goodput import judge
from inferometer.economics.prices import Electricity, Owned, Rented, Step, capital_per_year, energy_cost, hourly
from inferometer.economics.ratios import burn_rate
from inferometer.economics.tokens import by_weights, per_million, request_cost
from inferometer.interval.device import Floor, Stretch
from inferometer.interval.vanished import Vanished
from inferometer.model import Histogram, Interval, ModelChange, Stratum, Verdicts

PAGE = Path(__file__).parents[1] / "docs" / "definitions.md"
INF = float("inf")
MONEY, SPLIT = "inferometer_cost_total", "inferometer_token_cost_total"
HOUR = 3600.0
SERVER = Owned(server=320000, gpus=8, years=4, software_per_gpu=4500, hosting=3000)
ON_CREDIT = Owned(
    server=320000, gpus=8, years=4, residual=64000, cost_of_capital=0.08, software_per_gpu=4500, hosting=3000
)
LIMITS = {"ttft": 0.5, "tpot": 0.05, "e2e": 10.0}


def window(seconds=HOUR, **grown):
    """The ratio gauges of a window in which these accounts grew: (name, label values) → amount, workload left out."""
    accounts = {
        (f"inferometer_{name}", ("chat", *labels)): v for name, rows in grown.items() for labels, v in rows.items()
    }
    return {
        (name, *labels[1:-1]): value for (name, labels), value in ratios("chat", seconds, seconds, accounts).items()
    }


def gauge(name, *labels, **grown):
    return window(**grown)[f"inferometer_{name}", *labels]


def stratum(ttft, tpot, e2e, finished=1000.0, **more):
    """A stratum of requests by how many were within each limit (or at each edge: TTFT)."""
    edges = {"ttft": (0.25, 0.5), "tpot": (0.05,), "e2e": (10.0,)}
    counts = {"ttft": ttft, "tpot": (tpot,), "e2e": (e2e,)}
    latencies = {slo: Histogram((*edges[slo], INF), (*counts[slo], finished)) for slo in edges}
    return Stratum("m", 0.0, ok=finished, latencies=latencies, **more)


def good(ttft_limit=0.5, **of):
    return judge(stratum(**of), LIMITS | {"ttft": ttft_limit})


def state_of_time(state, seconds, moved):
    """Money by account of some time of one GPU at 4.00 an hour."""
    models = {"m": ModelChange(tokens={"output": moved})}
    interval = Interval("chat", "e", HOUR, seconds, gpus=1.0, state=state, models=models)
    return settle(interval, Policy("chat", price=Rented((Step(0, 4.0),)))).amounts


def vanished():
    left = Vanished()
    return left.see(0.0, by_token=40 - 4 - 0, by_call=0.0, at_rest=True)


CHAT = {
    "cost_total": {("gpu", "busy"): 2.40, ("gpu", "idle"): 0.80},
    "tokens_total": {("m", "input_uncached"): 12e6, ("m", "output"): 3e6},
    "requests_total": {("m", "ok"): 1000.0},
}
MIX = {"input_uncached": 6e6, "input_cached": 4e6, "output": 2e6}
PARTS = by_weights(4.0, MIX, {"input_uncached": 1, "input_cached": 0.1, "output": 4})
PRICES = {
    "tokens_total": {("m", kind): count for kind, count in MIX.items()},
    "token_cost_total": {**{("m", kind, "weights"): v for kind, v in PARTS.items()}, ("", "idle", "none"): 1.0},
}
MARGINS = {"ttft": (700.0, 930.0), "tpot": 960.0, "e2e": 950.0}
BOUNDS = good(**MARGINS).good
REJECTED = good(**MARGINS, rejected=20.0)
INSIDE = good(0.45, **MARGINS).good
IN_FLIGHT = good(ttft=(80.0, 90.0), tpot=100.0, e2e=100.0, finished=100.0, in_flight=5.0).good
TRACED = Verdicts()
for _ttft, _tpot, _e2e, _tokens, _outcome in (
    (0.30, 0.030, 6, 200, "ok"),
    (0.60, 0.030, 5, 150, "ok"),
    (0.20, 0.060, 13, 210, "ok"),
    (0.25, 0.028, 4, 400, "ok"),
    (0.10, 0.020, 2, 40, "error"),
):
    _span = SimpleNamespace(outcome=_outcome, ttft=_ttft, tpot=_tpot, e2e=_e2e, output_tokens=_tokens)
    TRACED.add(_span, LIMITS)
TRACED_WINDOW = {
    "slo_requests_total": {("m", "trace"): TRACED.requests},
    "good_requests_lower_total": {("m", "trace"): TRACED.good_lower},
    "good_requests_upper_total": {("m", "trace"): TRACED.good_upper},
    "good_tokens_total": {("m",): TRACED.good_tokens},
    "slo_tokens_total": {("m",): TRACED.tokens},
    "cost_total": {("gpu", "busy"): 0.03},
}
BURNING = burn_rate(1000 - 800, 1000, 0.99)
UNIT = {"input_uncached": 0.277778, "output": 1.111111}
JUNE = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
JOULES = {
    "energy_joules_total": {("gpu", "unknown", "counter"): 21600.0},
    "tokens_total": {("m", "input_uncached"): 360e3, ("m", "output"): 120e3},
}
POWER = Electricity(per_kwh=0.12, pue=1.3)
FLOOR = Floor(watts=120.0).split(Stretch(60.0, 21_600.0, "counter"))

EXAMPLES = [
    ("Words", "$0.380952", per_million(4 + 4, 20e6 + 1e6)),
    ("Words", "$2.10", (per_million(4, 20e6) + per_million(4, 1e6)) / 2),
    ("States of GPU time", "$3.00", state_of_time("busy", 0.75 * HOUR, 9.0)[MONEY, ("chat", "gpu", "busy")]),
    ("States of GPU time", "$3.00", state_of_time("busy", 0.75 * HOUR, 9.0)[SPLIT, ("chat", "m", "output", "weights")]),
    ("States of GPU time", "$0.80", state_of_time("idle", 0.2 * HOUR, 0.0)[SPLIT, ("chat", "", "idle", "none")]),
    (
        "States of GPU time",
        "$0.20",
        state_of_time("unknown", 0.05 * HOUR, 0.0)[SPLIT, ("chat", "", "unassigned", "none")],
    ),
    ("States of GPU time", "0.75", gauge("busy_ratio", gpu_seconds_total={("busy",): 2700.0, ("idle",): 900.0})),
    ("What a GPU-hour costs", "$1.698059", hourly(SERVER, 0.0)),
    ("What a GPU-hour costs", "$82,411.73", capital_per_year(ON_CREDIT)),
    ("What a GPU-hour costs", "$1.732473", hourly(ON_CREDIT, 0.0)),
    ("Cost per million tokens", "$0.213333", gauge("cost_per_million_tokens", "all", "allocation", **CHAT)),
    ("Cost per million tokens", "$1.066667", gauge("cost_per_million_tokens", "output", "allocation", **CHAT)),
    ("Cost per million tokens", "$0.160000", gauge("cost_per_million_tokens", "all", "usage", **CHAT)),
    ("Cost per million tokens", "$0.800000", gauge("cost_per_million_tokens", "output", "usage", **CHAT)),
    ("Cost per million tokens", "$0.003200", gauge("cost_per_request", **CHAT)),
    ("Price of a token type", "$1.666667", PARTS["input_uncached"]),
    ("Price of a token type", "$0.111111", PARTS["input_cached"]),
    ("Price of a token type", "$2.222222", PARTS["output"]),
    *[
        ("Price of a token type", printed, gauge("token_price_per_million", "m", kind, "weights", basis, **PRICES))
        for basis, kind, printed in (
            ("usage", "input_uncached", "$0.277778"),
            ("usage", "input_cached", "$0.027778"),
            ("usage", "output", "$1.111111"),
            ("allocation", "input_uncached", "$0.347222"),
            ("allocation", "input_cached", "$0.034722"),
            ("allocation", "output", "$1.388889"),
        )
    ],
    ("Why there are two numbers", "840", BOUNDS.lower),
    ("Why there are two numbers", "930", BOUNDS.upper),
    ("Why there are two numbers", "0.840", BOUNDS.lower / 1000),
    ("Why there are two numbers", "0.930", BOUNDS.upper / 1000),
    ("Why there are two numbers", "$0.004301", 4 / BOUNDS.upper),
    ("Why there are two numbers", "$0.004762", 4 / BOUNDS.lower),
    ("Why there are two numbers", "0.824", REJECTED.good.lower / REJECTED.judged),
    ("Why there are two numbers", "0.912", REJECTED.good.upper / REJECTED.judged),
    ("With traces: each request by itself", "0.40", gauge("goodput_ratio_lower", **TRACED_WINDOW)),
    ("With traces: each request by itself", "0.60", gauge("good_tokens_ratio", **TRACED_WINDOW)),
    ("With traces: each request by itself", "$50.00", gauge("cost_per_million_good_tokens", **TRACED_WINDOW)),
    ("Error budget and burn rate", "20.0", BURNING),
    ("Error budget and burn rate", "2.7778", BURNING / 720 * 100),
    ("Error budget and burn rate", "36", 720 / BURNING),
    ("Budgets of money", "$35,668.80", outlook(Budget(20_000), JUNE + 864_000, 9_000, 55.56 / HOUR).forecast),
    ("What a request costs", "$0.000963", request_cost(UNIT, {"input_uncached": 600, "output": 717})),
    ("What a request costs", "$0.007931", request_cost(UNIT, {"input_uncached": 600, "output": 6988})),
    ("Put limits on bucket edges", "610", INSIDE.lower),
    ("Put limits on bucket edges", "930", INSIDE.upper),
    ("Strata", "85", IN_FLIGHT.lower),
    ("Strata", "95", IN_FLIGHT.upper),
    ("Vanished requests", "36", vanished()),
    ("Energy per token", "0.045", gauge("energy_per_token_joules", "all", "gpu", **JOULES)),
    ("Energy per token", "0.180", gauge("energy_per_token_joules", "output", "gpu", **JOULES)),
    ("Energy per token", "360", gauge("power_watts", seconds=60.0, **JOULES)),
    ("Energy per token", "43,680", (21600 + 12000) * POWER.pue),
    ("Energy per token", "$0.001456", energy_cost(21600 + 12000, POWER)),
    ("Energy per token", "4.853", (21600 + 12000) * POWER.pue / 3.6e6 * 400),
    ("Active and idle energy", "7,200", FLOOR["idle"]),
    ("Active and idle energy", "14,400", FLOOR["active"]),
    ("Active and idle energy", "0.12", FLOOR["active"] / 120e3),
    ("Who used a GPU", "0.533333", fractions([mig_weight(4, 4), mig_weight(3, 4)])[0]),
    ("Who used a GPU", "0.466667", fractions([mig_weight(4, 4), mig_weight(3, 4)])[1]),
    ("Who used a GPU", "0.142857", fractions([mig_weight(1, 1)] * 3)[0]),
    ("Who used a GPU", "0.571429", 1 - sum(fractions([mig_weight(1, 1)] * 3))),
]


def section(heading):
    """The text of a section of definitions.md, up to the next heading."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"definitions.md has no section {heading}"
    return found[1]


@pytest.mark.parametrize(("heading", "printed", "value"), EXAMPLES)
def test_examples_of_the_definitions(heading, printed, value):
    """The page prints, to its last digit, what the agent would compute."""
    digits = len(printed.partition(".")[2])
    text = f"{'$' if printed[0] == '$' else ''}{value:{',' if ',' in printed else ''}.{digits}f}"
    assert text == printed
    assert re.search(rf"(?<![\d.,]){re.escape(printed)}(?![\d]|[.,]\d)", section(heading))
