"""Disaggregated serving from one truth of requests: pages of several servers in, every token and every coin once.

The deployments differ in who serves what and in whose pages are read; what happened to the requests does not.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

import pytest
from inferometer import adapters, config
from inferometer.app.replay import replay
from inferometer.economics import Policy, Slo, settle
from inferometer.economics.prices import Rented, Step
from inferometer.exposition import catalog
from inferometer.interval import Meter, Watch, Watched
from inferometer.model import TOKEN_TYPES, Batch
from inferometer.sources.page import PageParser
from inferometer.sources.recording import Writer
from readings import scraped

START, SECONDS = 1_774_745_000, 60
PRICE = 3.60  # per GPU-hour: 0.001 per second
SLO = {"ttft": 0.5, "tpot": 0.05, "e2e": 5.0}
EDGES = {"ttft": (0.1, 0.5, 1.0), "tpot": (0.02, 0.05, 0.1), "e2e": (1.0, 5.0, 20.0)}
WEIGHTS = {"input_uncached": 1.0, "input_cached": 0.1, "output": 4.0}
NAMES = {
    "ttft": "vllm:time_to_first_token_seconds",
    "tpot": "vllm:request_time_per_output_token_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}


@dataclass(frozen=True)
class Request:
    """One request; times in seconds since the start. Its client leaves it after ``output`` tokens where not ``ok``."""

    place: int
    arrived: float
    ttft: float
    tpot: float
    prompt: int
    cached: int
    output: int
    ok: bool

    @property
    def first(self) -> float:
        return self.arrived + self.ttft

    @property
    def ended(self) -> float:
        return self.first + (self.output - 1) * self.tpot

    @property
    def good(self) -> bool:
        return self.ok and self.ttft <= 0.5 and self.tpot <= 0.05 and self.ended - self.arrived <= 5.0

    def generated(self, now: float) -> int:
        if now < self.first:
            return 0
        return self.output if now >= self.ended else min(self.output, 1 + int((now - self.first) / self.tpot))


def truth() -> list[Request]:
    """Requests of two bursts with a pause between, all over before the end."""
    dice = Random(11)
    return [
        Request(
            place=place,
            arrived=dice.uniform(0, 15) + 25 * (place % 2),
            ttft=dice.uniform(0.02, 0.9),
            tpot=dice.uniform(0.01, 0.08),
            prompt=(prompt := dice.randrange(100, 4000)),
            cached=dice.randrange(prompt),
            output=dice.randrange(2, 120),
            ok=dice.random() < 0.9,
        )
        for place in range(50)
    ]


REQUESTS = truth()
TOKENS = {
    "input_uncached": sum(r.prompt - r.cached for r in REQUESTS),
    "input_cached": sum(r.cached for r in REQUESTS),
    "output": sum(r.output for r in REQUESTS),
}


@dataclass(frozen=True)
class Server:
    """A server with a page. It serves every ``one_of``-th request, beginning with that at ``place``."""

    role: str
    gpus: int
    place: int = 0
    one_of: int = 1

    @property
    def name(self) -> str:
        return f"{self.role}-{self.place}"

    def mine(self) -> list[Request]:
        return [r for r in REQUESTS if r.place // 2 % self.one_of == self.place]

    def counts(self, now: float) -> dict[str, float]:
        """Its counters as vLLM has them: a prefill server gives one token of its own for each request it hands over."""
        begun = [r for r in self.mine() if r.first <= now]
        over = [r for r in begun if self.role == "prefill" or r.ended <= now]
        cached = sum(r.prompt if self.role == "decode" else r.cached for r in begun)
        aborted = sum(not r.ok for r in over) if self.role != "prefill" else 0
        return {
            "vllm:prompt_tokens_total": sum(r.prompt for r in begun),
            "vllm:prompt_tokens_cached_total": cached,
            "vllm:generation_tokens_total": sum(1 if self.role == "prefill" else r.generated(now) for r in begun),
            'vllm:request_success_total{finished_reason="stop"}': len(over) - aborted,
            'vllm:request_success_total{finished_reason="abort"}': aborted,
        }

    def running(self, now: float) -> int:
        begins = (lambda r: r.first) if self.role == "decode" else (lambda r: r.arrived)
        ends = (lambda r: r.first) if self.role == "prefill" else (lambda r: r.ended)
        return sum(begins(r) <= now < ends(r) for r in self.mine())

    def page(self, now: float) -> bytes:
        lines = [f"process_start_time_seconds {START - 100}", _line("vllm:num_requests_running", self.running(now))]
        lines += [_line(name, value) for name, value in self.counts(now).items()]
        begun = [r for r in self.mine() if r.first <= now]
        over = [r for r in begun if r.ended <= now and self.role != "prefill"]
        lines += _histogram("ttft", [r.ttft for r in begun])
        lines += _histogram("tpot", [r.tpot for r in over])
        lines += _histogram("e2e", [r.ended - r.arrived for r in over])
        return "".join(f"{line}\n" for line in lines).encode()


def _line(name: str, value: float) -> str:
    bare, brace, rest = name.partition("{")
    return f'{bare}{{model_name="m"{"," + rest if brace else "}"} {value}'


def _histogram(signal: str, values: list[float]) -> list[str]:
    edges = (*EDGES[signal], math.inf)
    counts = Counter(bisect_left(edges, value) for value in values)
    sums = accumulate(counts[place] for place in range(len(edges)))
    lines = [
        _line(f'{NAMES[signal]}_bucket{{le="{"+Inf" if edge == math.inf else edge}"}}', count)
        for edge, count in zip(edges, sums, strict=True)
    ]
    return [*lines, _line(f"{NAMES[signal]}_count", len(values)), _line(f"{NAMES[signal]}_sum", sum(values))]


POOLS = tuple(Server(role, gpus, place, 2) for role, gpus in (("prefill", 1), ("decode", 2)) for place in (0, 1))
PLAIN = tuple(Server("both", 2, place, 2) for place in (0, 1))
FRONTEND = Server("frontend", 0)
DEPLOYMENTS = {
    "pools and a frontend": (*POOLS, FRONTEND),
    "a frontend listed first": (FRONTEND, *POOLS),
    "pools": POOLS,
    "workers and a frontend": (*PLAIN, FRONTEND),
    "workers": PLAIN,
    "a pool beside a worker": (Server("prefill", 1, 0, 2), Server("decode", 2, 0, 2), Server("both", 2, 1, 2)),
}


def money(servers: tuple[Server, ...]) -> dict[tuple[str, str], float]:
    """Token cost by type and method, second by second from the servers' own counters (formulas §5, M1 and M4)."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for server in servers:
        for before, now in pairwise(range(SECONDS + 1)):
            old, new = server.counts(before), server.counts(now)
            moved = {name: new[name] - old[name] for name in new}
            prompt, cached, output, *ended = moved.values()
            tokens = {"input_uncached": prompt - cached, "input_cached": cached, "output": output}
            pool = {"prefill": ("input_uncached", "input_cached"), "decode": ("output",)}.get(server.role, TOKEN_TYPES)
            loads = {kind: tokens[kind] * WEIGHTS[kind] for kind in pool}
            second, whole = server.gpus * PRICE / 3600, sum(loads.values())
            busy = whole or output or prompt or any(ended) or server.running(before) or server.running(now)
            for kind, load in loads.items():
                method = "pool" if server.role in {"prefill", "decode"} else "weights"
                found[kind, method] += second * load / whole if whole else 0.0
            if not whole:
                found["unassigned" if busy else "idle", "none"] += second
    return {where: pytest.approx(amount, abs=1e-9) for where, amount in found.items() if amount}


class Totals:
    """What was settled, with sums over labels."""

    def __init__(self, accounts: dict) -> None:
        self.accounts = accounts

    def __call__(self, name: str, *labels: str) -> float:
        """The sum over a counter's series with all these label values."""
        return math.fsum(self.by(name, *labels).values())

    def by(self, name: str, *wanted: str) -> dict[tuple[str, ...], float]:
        metric = f"inferometer_{name}_total"
        return {
            labels: value
            for (found, labels), value in self.accounts.items()
            if found == metric and set(wanted) <= set(labels)
        }


def metered(servers: tuple[Server, ...], tmp_path: object) -> Totals:
    """Translated pages through meter and settle; one server's page a little after the other's."""
    del tmp_path
    known = tuple(adapters.builtin().values())
    parse = PageParser(adapters.wanted(known)).parse
    translators = {server.name: adapters.Translator(server.name, known) for server in servers}
    meter = Meter([Watch("w", tuple(Watched(s.name, float(s.gpus), role=s.role) for s in servers))], 1.0)
    policy = Policy("w", Rented((Step(0, PRICE),)), slo=Slo(SLO))
    accounts: dict = defaultdict(float)
    intervals = []
    for now in range(SECONDS + 1):
        at = float(START + now)
        pages = [scraped(s.name, at, parse(s.page(now)).series) for s in servers]
        for page in pages:
            meter.add(Batch(at, at), [translators[page.source](page)])
            intervals += meter.due(at)
    for interval in (*intervals, *meter.finish(float(START + SECONDS))):
        for account, amount in settle(interval, policy).amounts.items():
            accounts[account] += amount
    return Totals(accounts)


def replayed(servers: tuple[Server, ...], tmp_path: object) -> Totals:
    """A recording of the pages through the command's own pipeline, with roles and GPUs from a file."""
    with Writer(tmp_path / "recording") as writer:
        for now in range(SECONDS + 1):
            for server in servers:
                writer.write(float(START + now), server.name, "metrics", "200", server.page(now))
    engines = ", ".join(f'{{url: "recording:{s.name}", role: {s.role}, gpus: {s.gpus}}}' for s in servers if s.gpus)
    engines += "".join(f', {{url: "recording:{s.name}", role: {s.role}}}' for s in servers if not s.gpus)
    text = f"interval: 1s\nprices: {{default: {{gpu_hour: {PRICE}}}}}\nworkloads:\n  - name: w\n"
    text += f"    gpus: {sum(s.gpus for s in servers)}\n    engines: [{engines}]\n"
    text += "    slo: {ttft: 500ms, tpot: 50ms, e2e: 5s}\n"
    (tmp_path / "inferometer.yaml").write_text(text, encoding="utf-8")
    settings = config.load(str(tmp_path / "inferometer.yaml"), {}, {})
    snapshot = asyncio.run(replay(tmp_path / "recording", settings, {}))
    assert {catalog.fault(account) for account in (*snapshot.totals, *snapshot.values)} <= {""}
    assert snapshot.values["inferometer_slo_requests_pending", ("w",)] == 0
    return Totals(dict(snapshot.totals))


@pytest.fixture(scope="module", params=DEPLOYMENTS)
def servers(request):
    return DEPLOYMENTS[request.param]


@pytest.fixture(scope="module", params=[metered, replayed])
def totals(request, servers, tmp_path_factory):
    return request.param(servers, tmp_path_factory.mktemp("disaggregated"))


def test_the_truth_has_something_of_everything():
    """Good, slow and aborted requests; seconds in which a pool waits; the pages of two pools show tokens twice."""
    assert 5 < sum(r.good for r in REQUESTS) < 45
    assert 0 < sum(not r.ok for r in REQUESTS) < 10
    assert max(r.ended for r in REQUESTS) < SECONDS
    assert {kind for kind, _ in money(POOLS)} == {*TOKEN_TYPES, "unassigned", "idle"}
    shown = sum(server.counts(SECONDS)["vllm:prompt_tokens_total"] for server in POOLS)
    assert shown == 2 * (TOKENS["input_uncached"] + TOKENS["input_cached"])


def test_every_token_counts_once(totals):
    assert {kind: totals("tokens", kind) for kind in TOKEN_TYPES} == TOKENS


def test_every_request_counts_once(totals):
    found = {outcome: totals("requests", outcome) for outcome in ("ok", "error", "aborted", "rejected", "vanished")}
    aborted = sum(not r.ok for r in REQUESTS)
    assert found == {"ok": len(REQUESTS) - aborted, "aborted": aborted, "error": 0, "rejected": 0, "vanished": 0}


def test_every_coin_counts_once(totals, servers):
    """Σ cost = price × GPUs × time = Σ token cost."""
    gpus = sum(server.gpus for server in servers)
    bill = gpus * SECONDS * PRICE / 3600
    assert totals("gpu_seconds") == gpus * SECONDS
    assert totals("cost") == pytest.approx(bill, rel=1e-9)
    assert totals("token_cost") == pytest.approx(bill, rel=1e-9)


def test_who_pays(totals, servers):
    """Every type and method to the cent: prefill GPUs are charged to input, decode GPUs to output, workers to both."""
    paid: dict = defaultdict(float)
    for (_, _, kind, method), amount in totals.by("token_cost").items():
        paid[kind, method] += amount
    assert {where: amount for where, amount in paid.items() if amount} == money(servers)


def test_input_costs_what_its_pool_was_busy(totals, servers):
    """Output costs all that the decode GPUs were busy, input the prefill GPUs but for seconds in which none was done.

    A request runs in a prefill server before its tokens show, while every second of decoding shows tokens.
    """
    prefill, decode = (
        PRICE / 3600 * math.fsum(totals("gpu_seconds", s.name, "busy") for s in servers if s.role == role)
        for role in ("prefill", "decode")
    )
    assert totals("token_cost", "output", "pool") == pytest.approx(decode, rel=1e-9)
    paid = totals("token_cost", "input_uncached", "pool") + totals("token_cost", "input_cached", "pool")
    assert -1e-9 <= prefill - paid <= totals("token_cost", "unassigned") + 1e-9


def test_every_request_is_judged_once(totals):
    """By the frontend where there is one, else where it was decoded; the bounds hold the truth."""
    assert totals("slo_requests") == len(REQUESTS)
    good = sum(r.good for r in REQUESTS)
    assert totals("good_requests_lower") <= good <= totals("good_requests_upper") < len(REQUESTS)
    for slo, limit in SLO.items():
        within = [r for r in REQUESTS if {"ttft": r.ttft, "tpot": r.tpot, "e2e": r.ended - r.arrived}[slo] <= limit]
        assert totals("slo_met_requests_lower", slo) <= len(within)
        assert totals("slo_met_requests_upper", slo) >= sum(r.ok for r in within)
