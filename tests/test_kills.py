"""Promise 4: kill the agent at any instant, and every token, request, joule, second and span is counted exactly once.

The agent reads its engines through proxies that keep every page they served. So it is known exactly what it may have
read; with what was lost when an engine died while the agent was away, its totals have one right value. The meters of
its GPUs are the test's own, and its spans come from an exporter that repeats what was not acknowledged.

`make kills` kills it 1,000 times; INFEROMETER_KILLS, INFEROMETER_KILLS_SEED and INFEROMETER_KILLS_MINUTES (the longest)
choose otherwise.
"""

import contextlib
import os
import random
import shutil
import sys
import threading
import time
from http.client import HTTPException

import pytest
from aim import Aim
from exporting import Exporter
from fakenvml import Driver, build
from inferometer.exposition.prometheus import Renderer
from inferometer.interval.kept import Kept, decoded
from inferometer.ledger import Ledger
from inferometer.model import Snapshot
from lines import Lines
from live import Agent, Clients, Engines, Proxy, eventually, fetch, free_port

KILLS = int(os.environ.get("INFEROMETER_KILLS", "10"))
MINUTES = float(os.environ.get("INFEROMETER_KILLS_MINUTES", "inf"))
SEED = int(os.environ.get("INFEROMETER_KILLS_SEED", "1"))
# Counters of the agent's own life, and those that are the driver's own: in no ledger.
OF_THE_PROCESS = (
    "process_", "inferometer_source_errors_total", "inferometer_spans_total", "inferometer_series_", "inferometer_http_"
)  # fmt: skip
OF_THE_DRIVER = tuple(
    f"inferometer_gpu_{name}_total" for name in ("energy_joules", "throttle_seconds", "ecc_errors", "pcie_bytes",
                                                 "nvlink_bytes", "xid_errors")
)  # fmt: skip

CONFIG = """
interval: 250ms
workloads:
  - {{name: first, engines: [{{url: "{first}"}}], gpus: [GPU-0], slo: {{ttft: 500ms, tpot: 50ms, e2e: 10s}}}}
  - name: second
    engines: [{{url: "{second}", spans: {{service.name: second}}}}]
    gpus: [GPU-1]
    slo: {{ttft: 50ms, e2e: 500ms}}
prices: {{default: {{gpu_hour: 3600}}}}
otlp: {{http: "127.0.0.1:{port}"}}
"""
WORKLOADS = ("first", "second")  # each with one GPU at 1 USD a second
EXTRA = "  - {name: extra, engines: [], gpus: [GPU-2]}\n"  # comes and goes; without it the GPU is nobody's
WATTS = (300.0, 450.0, 120.0)
JOULES, DEVICE_JOULES = "inferometer_energy_joules_total", "inferometer_gpu_energy_joules_total"
OF_SPANS = "inferometer_request_tokens"

# What is compared: on the agent's page, on the engine's, and in the simulator's truth.
COUNTS = (
    ("inferometer_tokens_total", {"type": "input_cached"}, "vllm:prompt_tokens_cached_total", "cached_tokens"),
    ("inferometer_tokens_total", {"type": "output"}, "vllm:generation_tokens_total", "output_tokens"),
    ("inferometer_requests_total", {"outcome": "ok"}, "vllm:request_success_total", "ok"),
    ("inferometer_ttft_seconds_count", {}, "vllm:time_to_first_token_seconds_count", "first_tokens"),
    ("inferometer_e2e_seconds_count", {}, "vllm:e2e_request_latency_seconds_count", "ok"),
)
OK = 3  # the finished requests in the tuples below
TRACED = 3  # where spans come, latencies are theirs and not the page's: only so many of the counts are compared


def by_agent(page, engine, counts=COUNTS):
    """The compared numbers as the agent has them; all input first."""
    known = [page.sum(name, engine=engine, **labels) or 0.0 for name, labels, _, _ in counts]
    return (known[0] + (page.sum("inferometer_tokens_total", engine=engine, type="input_uncached") or 0.0), *known)


def by_engine(page, counts=COUNTS):
    """The same on a page of the engine."""
    return (page.sum("vllm:prompt_tokens_total"), *(page.sum(name) for _, _, name, _ in counts))


def by_truth(totals, counts=COUNTS):
    """The same as it really was in one process of the engine."""
    known = totals | totals["requests"]
    return (known["prompt_tokens"], *(known.get(name, 0) for _, _, _, name in counts))


def plus(a, b):
    return tuple(x + y for x, y in zip(a, b, strict=True))


def minus(a, b):
    return tuple(x - y for x, y in zip(a, b, strict=True))


def own(page):
    """The page's counters that are to survive the process."""
    return {
        series: value
        for series, value in page.counters().items()
        if not series.startswith(OF_THE_PROCESS + OF_THE_DRIVER)
    }


def check_never_back(before, after, what):
    """No counter of ``before`` is gone or smaller in ``after``."""
    back = {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1.0) < value}
    assert not back, f"{what}: {back}"


class Witness(threading.Thread):
    """Scrapes one agent until it is dead; ``texts`` are the pages that it exposed."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.texts, self._agent = [], agent
        self.start()

    def run(self):
        while self._agent.process.poll() is None:
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                status, text = self._agent.get("/metrics")
                if status == 200:
                    self.texts.append(text)
            time.sleep(0.05)


class Meters:
    """The GPUs' energy meters: they stand still, run, and stand still again."""

    def __init__(self, driver):
        self._cards = driver.world.gpus[: len(WATTS)]
        self._base = self.joules()

    def run(self):
        """From now on every GPU draws its watts."""
        for card, watts in zip(self._cards, WATTS, strict=True):
            card.watts, card.since = watts, time.clock_gettime(time.CLOCK_BOOTTIME)

    def stop(self):
        """They keep what they have shown last."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for card in self._cards:
            card.joules, card.since = card.joules + card.watts * (now - card.since), 0.0

    def joules(self):
        """By GPU, what they show at most."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        return [card.joules + (card.watts * (now - card.since) if card.since else 0.0) for card in self._cards]

    def drawn(self):
        """Since the start."""
        return [now - base for now, base in zip(self.joules(), self._base, strict=True)]


class Followed:
    """One engine behind its proxy: the agent's totals of it must be ``base`` + a page that was served of its process.

    ``fresh``: the numbers before any page of that process was read. ``unseen``: what every dead process took along.
    """

    def __init__(self, engines, number, proxy, counts):
        self.proxy, self.restarts, self.unseen, self.counts = proxy, 0, [], counts
        self.missed = False  # a process of it was born while nobody looked
        self._engines, self._number = engines, number
        self._read, self._known = [], 0  # of each served page: process start, epoch, compared numbers
        self.baseline = self.fresh = self.now()
        self.base = minus((0.0,) * len(self.baseline), self.baseline)

    def now(self):
        """The numbers as the engine shows them just now."""
        return by_engine(Lines(fetch(self._engines.urls[self._number])[1]), self.counts)

    @property
    def truth(self):
        """What the simulator knows."""
        return self._engines.truth(self._number)

    @property
    def process(self):
        """When the newest process of the engine started."""
        return self.truth["processes"][-1]["start"]

    def served(self, process, epoch=None):
        """The numbers on the pages of a process; those of one life of the agent only, if given."""
        for number in range(self._known, len(self.proxy.served)):
            page, self.proxy.served[number] = self.proxy.served[number], None  # a thousand lives have many pages
            parsed = Lines(page.text)
            self._read.append((parsed.sum("process_start_time_seconds"), page.epoch, by_engine(parsed, self.counts)))
            self._known += 1
        return [numbers for start, life, numbers in self._read if start == process and epoch in {None, life}]

    def restart(self, seconds=0.0):
        """A new process after ``seconds``; returns the old one's start."""
        old = self.process
        self._engines.control(self._number, "restart", seconds)
        self.restarts += 1
        return old

    def buried(self, process, level):
        """The agent has read ``level`` of a dead process and never will more: the rest is what no page showed it."""
        dead = next(p for p in self.truth["processes"] if p["start"] == process)
        self.unseen.append(minus(by_truth(dead["totals"], self.counts), level))
        assert min(self.unseen[-1]) >= 0, "a page cannot show more than there was"
        self.base, self.fresh = plus(self.base, level), (0.0,) * len(level)


class Trial:
    """Lives and deaths of an agent over one ledger."""

    def __init__(self, folder, engines, proxies, driver):
        self.rng = random.Random(SEED)
        counts = (COUNTS, COUNTS[:TRACED])
        self.followed = [Followed(engines, n, proxy, counts[n]) for n, proxy in enumerate(proxies)]
        self.meters, self.began = Meters(driver), time.time()
        port = free_port()
        self.exporter = Exporter(f"http://127.0.0.1:{port}/v1/traces", "second", SEED)
        self.aim = Aim(self.rng, folder / "ledger", proxies, self.exporter, self._reload)
        self._folder, self._ledger, self._life = folder, folder / "ledger", 0
        self._driver, self._seen, self._pages, self._has_extra = driver, {}, 0, True
        self._told = 0.0  # spans in the marks, that go into the totals with the engine's next page
        self._text = CONFIG.format(first=proxies[0].url, second=proxies[1].url, port=port)
        self._configure()

    def _configure(self):
        text = self._text.replace("prices:", EXTRA + "prices:") if self._has_extra else self._text
        (self._folder / "agent.yaml").write_text(text)

    def _reload(self, agent):
        """A workload comes or goes."""
        self._has_extra = not self._has_extra
        self._configure()
        agent.hangup()

    def live(self):
        """A new life of the agent."""
        self._life += 1
        for engine in self.followed:
            engine.proxy.epoch = self._life
        arguments = ("--config.file", self._folder / "agent.yaml", "--storage.path", self._ledger)
        return Agent(self._folder / "agent.log", *arguments, **self._driver.environ)

    def committed(self):
        """What the next agent will find, as a page; the check that it will not set the ledger aside."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._ledger, copy)
        ledger = Ledger(copy, "USD")
        ledger.close()
        assert not list(copy.glob("*set-aside*"))
        state = ledger.state
        marks = [decoded(mark, series) for _, mark, series in Kept().restored(state.marks)]
        tallies = [tally for mark in marks for tally in mark.state.traces.tallies.values()]
        self._told = sum(tally.tokens["output"].counts[-1] for tally in tallies)
        snapshot = Snapshot(0.0, state.totals, state.created, state.histograms)
        return Lines(Renderer(process=False).render(snapshot).decode())

    def until_read(self, engine):
        """Wait until this life has been given a page of the engine's newest process."""
        process = engine.process
        eventually(lambda: engine.served(process, self._life), "a page served")

    def judge(self, witness):
        """A life is over: what it exposed never went back and is on disk, and what is on disk is one whole reading."""
        witness.join()
        for text in witness.texts:
            page = Lines(text)
            seen = own(page)
            check_never_back(self._seen, seen, "exposed less than before")
            self._seen, self._pages = seen, self._pages + 1
            for workload in WORKLOADS:
                check_money(page, workload)
        if not self._ledger.exists():
            return
        found = self.committed()
        check_never_back(self._seen, own(found), "exposed but not committed")
        for engine in self.followed:
            level = minus(by_agent(found, engine.proxy.name, engine.counts), engine.base)
            assert level in [engine.fresh, *engine.served(engine.process)], "no whole reading of a page"
        acknowledged, sent = self.exporter.acknowledged, self.exporter.posted
        spans = (found.sum(f"{OF_SPANS}_count", workload="second", type="output") or 0) + self._told
        assert acknowledged <= spans <= sent, "spans that were acknowledged are kept, each once"
        assert (found.sum(JOULES, method="counter") or 0.0) <= sum(self.meters.drawn()) * (1 + 1e-9)

    def restart_while_up(self, engine, agent):
        """The engine dies under load beside a living agent, which knows the last page that it read in time."""
        agent.ready()
        self.until_read(engine)
        old = engine.restart(seconds=0.3)
        name, count = engine.proxy.name, engine.restarts
        page = agent.until(
            lambda page: page.sum("inferometer_resets_total", source=f"http://{name}/metrics") == count,
            "the restart counted",
        )
        total = minus(by_agent(page, name, engine.counts), engine.base)
        since = [(0.0,) * len(total), *engine.served(engine.process)]
        levels = [engine.fresh, *engine.served(old)]
        level = next((level for level in reversed(levels) if any(plus(level, more) == total for more in since)), None)
        assert level is not None, "no page of the old process and one of the new"
        engine.buried(old, level)

    def restart_while_down(self, engine):
        """The engine dies under load while no agent lives: what the ledger has of it is all that can ever be had."""
        level = minus(by_agent(self.committed(), engine.proxy.name, engine.counts), engine.base)
        engine.buried(engine.restart(seconds=0.1), level)
        engine.missed = True
        time.sleep(0.2)

    def run(self, clients):
        """Kill it ``KILLS`` times; engines start anew, by turns while it lives and while it does not."""
        phases = list(self.aim.phases)
        events = min(20, KILLS // 5)
        when = {KILLS * n // (events + 1): n for n in range(1, events + 1)}
        end = time.monotonic() + 60 * MINUTES
        for number in range(KILLS):
            if time.monotonic() > end:
                return
            event = when.get(number, 0)
            engine = self.followed[event // 2 % 2]
            with self.live() as agent:
                witness = Witness(agent)
                if number == 0:
                    self.begin(agent, clients)
                    witness.texts.clear()  # before spans came, latencies were the page's: their layout has changed
                if event % 2:
                    self.restart_while_up(engine, agent)
                self.aim.kill(phases[number % len(phases)], agent)
                self.judge(witness)
            if event and event % 2 == 0:
                self.restart_while_down(engine)

    def begin(self, agent, clients):
        """What was before is not the agent's business; once it has its first readings, everything that follows is."""
        for engine in self.followed:
            agent.until(lambda page, name=engine.proxy.name: page.sum("inferometer_tokens_total", engine=name) == 0)
        read = agent.until(lambda page: page.sum(DEVICE_JOULES) == 1000 * len(WATTS), "all GPUs read")
        until = "inferometer_settled_until_timestamp_seconds"
        agent.until(lambda page: page.sum(until) > read.sum(until) + 1.0, "and committed")
        self.meters.run()
        self.exporter.begin()
        for client in clients:
            client.start()
        agent.until(lambda page: page.sum(f"{OF_SPANS}_count"), "spans")

    def ends(self, agent):
        """Everything is at rest: the page on which all that happened is counted."""
        eventually(lambda: not self.exporter.waiting, "every span acknowledged", seconds=120)
        self.meters.stop()
        wanted = {engine: plus(engine.base, engine.now()) for engine in self.followed}
        drawn = pytest.approx(sum(self.meters.drawn()), abs=0.001 * len(WATTS) + 1e-6)  # NVML counts millijoules

        def lacks():
            """What the page shows that is not what happened, beside it."""
            page = Lines(agent.get("/metrics")[1])
            shown = {engine: by_agent(page, engine.proxy.name, engine.counts) for engine in self.followed}
            lack = {e.proxy.name: (shown[e], numbers) for e, numbers in wanted.items() if shown[e] != numbers}
            joules = page.sum(JOULES, method="counter")
            return lack if joules == drawn else lack | {"joules": (joules, drawn)}

        with contextlib.suppress(AssertionError):
            eventually(lambda: not lacks())
        assert lacks() == {}
        return Lines(agent.get("/metrics")[1])


def check_counts(followed, page):
    """Equal to what the engine did since the first reading, less exactly what no page showed the agent."""
    for engine in followed:
        processes = engine.truth["processes"]
        done = minus((0.0,) * len(engine.base), engine.baseline)
        for process in processes:
            done = plus(done, by_truth(process["totals"], engine.counts))
        for unseen in engine.unseen:
            done = minus(done, unseen)
        name = engine.proxy.name
        assert by_agent(page, name, engine.counts) == done
        assert (
            page.sum("inferometer_resets_total", source=f"http://{name}/metrics")
            == engine.restarts
            == len(processes) - 1
        )
        # What is known only from what is missing is certain when the engine rests: of the newest process at least.
        vanished = page.sum("inferometer_requests_total", engine=name, outcome="vanished")
        known = [process["totals"]["requests"].get("vanished", 0) for process in processes]
        assert known[-1] <= vanished <= sum(known)
        wasted = [process["totals"]["wasted_output_tokens"] for process in processes]
        perhaps = Clients.LONGEST_OUTPUT * sum(unseen[OK] for unseen in engine.unseen)  # they finished unseen
        assert wasted[-1] <= page.sum("inferometer_wasted_tokens_total", engine=name) <= sum(wasted) + perhaps


def check_money(page, workload):
    """Every second from the accounting's start on is either charged or declared unaccounted; no cent is elsewhere."""
    until = page.sum("inferometer_settled_until_timestamp_seconds", workload=workload)
    start = page.sum("inferometer_accounting_start_timestamp_seconds", workload=workload)
    cost = page.sum("inferometer_cost_total", workload=workload)
    if cost is None or until is None:  # the very first pages
        return
    unaccounted = page.sum("inferometer_unaccounted_gpu_seconds_total", workload=workload)
    assert cost + unaccounted == pytest.approx(until - start, abs=2e-6), "to the microsecond, as unix times are exact"
    assert cost == pytest.approx(page.sum("inferometer_gpu_seconds_total", workload=workload), rel=1e-9)
    assert page.sum("inferometer_token_cost_total", workload=workload) == pytest.approx(cost, rel=1e-9)
    judged = page.sum("inferometer_slo_requests_total", workload=workload) or 0
    pending = page.sum("inferometer_slo_requests_pending", workload=workload) or 0
    assert judged + pending == (page.sum("inferometer_requests_total", workload=workload) or 0)


def check_nobodys_gpu(page, seconds):
    """A GPU that comes and goes with a workload is paid for once at most, whoever has it."""
    held = sum(
        page.sum(name, workload=workload) or 0.0
        for name in ("inferometer_gpu_seconds_total", "inferometer_unaccounted_gpu_seconds_total")
        for workload in ("extra", "(unattributed)")
    )
    assert held <= seconds


def check_spans(page, exporter):
    """Each acknowledged span is counted, once, with its tokens."""
    count, tokens = (page.sum(f"{OF_SPANS}_{part}", workload="second", type="output") for part in ("count", "sum"))
    assert (count, tokens) == (exporter.acknowledged, exporter.output_tokens)


def report(trial, capsys):
    """The table of docs/reliability.md."""
    kills, exporter = trial.aim.kills, trial.exporter
    rows = [f"{'killed at':<22} times", *(f"{phase:<22}{count:>6}" for phase, count in sorted(kills.items()))]
    restarts = sum(engine.restarts for engine in trial.followed)
    rows += [
        f"{'in all':<22}{kills.total():>6}",
        f"{trial._pages} pages of /metrics, {restarts} restarts of engines, {sum(trial.meters.drawn()):.0f} J,",
        f"{exporter.acknowledged} spans ({exporter.repeats} exports repeated): 0 lost, 0 doubled",
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(rows) + "\n")


@pytest.fixture
def driver(tmp_path):
    """Three GPUs whose meters stand still."""
    build(tmp_path / "nvml")
    return Driver(tmp_path / "nvml", gpus=len(WATTS))


def test_no_kill_loses_or_repeats_anything(tmp_path, driver, capsys):
    """SIGKILL under load, at every phase of a life, while engines and workloads come and go."""
    with contextlib.ExitStack() as world:
        engines = world.enter_context(Engines(tmp_path / "engines.log", count=2))
        proxies = [world.enter_context(Proxy(url)) for url in engines.urls]
        for url in engines.urls:
            with Clients(url, count=3, seed=SEED) as before:
                before.start()
                time.sleep(0.3)
        trial = Trial(tmp_path, engines, proxies, driver)
        world.callback(trial.exporter.end)
        told = (lambda *_: None, trial.exporter.told)
        clients = [world.enter_context(Clients(url, 4, SEED, told[n])) for n, url in enumerate(engines.urls)]
        trial.run(clients)
        for client in clients:
            client.stop()
        for engine in trial.followed:
            eventually(lambda engine=engine: engine.truth["in_flight"]["requests"] == 0, "engines at rest")
        with trial.live() as agent:
            witness = Witness(agent)
            page = trial.ends(agent)
            check_counts(trial.followed, page)
            check_spans(page, trial.exporter)
            check_nobodys_gpu(page, time.time() - trial.began)
            for workload, engine in zip(WORKLOADS, trial.followed, strict=True):
                check_money(page, workload)
                if engine.missed:
                    assert page.sum("inferometer_unaccounted_gpu_seconds_total", workload=workload) > 0
            assert page.sum("inferometer_resets_total", source="nvml") in {None, 0}
            assert agent.stop() == 0
            trial.judge(witness)
        report(trial, capsys)
