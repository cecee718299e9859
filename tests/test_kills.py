"""Promise 4: kill the agent at any instant, and every token, request and second is still counted exactly once.

The agent reads its engines through proxies that keep every page they served. So it is known exactly what it may have
read; with what was lost when an engine died while the agent was away, its totals have one right value.
"""

import contextlib
import os
import random
import shutil
import threading
import time
from http.client import HTTPException

import pytest
from inferometer.exposition.prometheus import Renderer
from inferometer.ledger import Ledger
from inferometer.model import Snapshot
from live import Agent, Clients, Engines, Page, Proxy, eventually, fetch

KILLS = int(os.environ.get("INFEROMETER_KILLS", "25"))
SEED = int(os.environ.get("INFEROMETER_KILLS_SEED", "1"))
MOMENTS = ("start", "reading", "any", "stopping")
OF_THE_PROCESS = (
    "process_",
    "inferometer_source_errors_total",
    "inferometer_series_",
    "inferometer_http_",
)  # of the agent's own life, in no ledger

CONFIG = """
interval: 500ms
workloads:
  - {{name: first, engines: [{{url: "{}"}}], gpus: 2, slo: {{ttft: 500ms, tpot: 50ms, e2e: 10s}}}}
  - {{name: second, engines: [{{url: "{}"}}], gpus: 1, slo: {{ttft: 50ms, e2e: 500ms}}}}
prices: {{default: {{gpu_hour: 3600}}}}
"""
GPUS = {"first": 2, "second": 1}  # at 1 USD a second each

# What is compared: on the agent's page, on the engine's, and in the simulator's truth.
COUNTS = (
    ("inferometer_tokens_total", {"type": "input_cached"}, "vllm:prompt_tokens_cached_total", "cached_tokens"),
    ("inferometer_tokens_total", {"type": "output"}, "vllm:generation_tokens_total", "output_tokens"),
    ("inferometer_requests_total", {"outcome": "ok"}, "vllm:request_success_total", "ok"),
    ("inferometer_ttft_seconds_count", {}, "vllm:time_to_first_token_seconds_count", "first_tokens"),
    ("inferometer_e2e_seconds_count", {}, "vllm:e2e_request_latency_seconds_count", "ok"),
)
OK = 3  # the finished requests in the tuples below


def by_agent(page, engine):
    """The compared numbers as the agent has them; all input first."""
    known = [page.sum(name, engine=engine, **labels) or 0.0 for name, labels, _, _ in COUNTS]
    return (known[0] + (page.sum("inferometer_tokens_total", engine=engine, type="input_uncached") or 0.0), *known)


def by_engine(page):
    """The same on a page of the engine."""
    return (page.sum("vllm:prompt_tokens_total"), *(page.sum(name) for _, _, name, _ in COUNTS))


def by_truth(totals):
    """The same as it really was in one process of the engine."""
    known = totals | totals["requests"]
    return (known["prompt_tokens"], *(known.get(name, 0) for _, _, _, name in COUNTS))


def plus(a, b):
    return tuple(x + y for x, y in zip(a, b, strict=True))


def minus(a, b):
    return tuple(x - y for x, y in zip(a, b, strict=True))


def own(page):
    """The page's counters that are to survive the process."""
    return {key: value for key, value in page.counters().items() if not key[0].startswith(OF_THE_PROCESS)}


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


class Followed:
    """One engine behind its proxy: the agent's totals of it must be ``base`` + a page that was served of its process.

    ``fresh``: the numbers before any page of that process was read. ``unseen``: what every dead process took along.
    """

    def __init__(self, engines, number, proxy):
        self.proxy, self.restarts, self.unseen = proxy, 0, []
        self._engines, self._number = engines, number
        self._read = []  # of each served page: process start, epoch, compared numbers
        self.baseline = self.fresh = self.now()
        self.base = minus((0.0,) * len(self.baseline), self.baseline)

    def now(self):
        """The numbers as the engine shows them just now."""
        return by_engine(Page(fetch(self._engines.urls[self._number])[1]))

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
        for page in self.proxy.served[len(self._read) :]:
            parsed = Page(page.text)
            self._read.append((parsed.sum("process_start_time_seconds"), page.epoch, by_engine(parsed)))
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
        self.unseen.append(minus(by_truth(dead["totals"]), level))
        assert min(self.unseen[-1]) >= 0, "a page cannot show more than there was"
        self.base, self.fresh = plus(self.base, level), (0.0,) * len(level)


class Trial:
    """Lives and deaths of an agent over one ledger."""

    def __init__(self, folder, engines, proxies):
        self.rng = random.Random(SEED)
        self.followed = [Followed(engines, number, proxy) for number, proxy in enumerate(proxies)]
        self._folder, self._ledger, self._life = folder, folder / "ledger", 0
        self._seen = {}
        (folder / "agent.yaml").write_text(CONFIG.format(*(proxy.url for proxy in proxies)))

    def live(self):
        """A new life of the agent."""
        self._life += 1
        for engine in self.followed:
            engine.proxy.epoch = self._life
        config = self._folder / "agent.yaml"
        return Agent(self._folder / "agent.log", "--config.file", config, "--storage.path", self._ledger)

    def committed(self):
        """What the next agent will find, as a page; the check that it will not set the ledger aside."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._ledger, copy)
        ledger = Ledger(copy, "USD")
        ledger.close()
        assert not list(copy.glob("*set-aside*"))
        state = ledger.state
        snapshot = Snapshot(0.0, state.totals, state.created, state.histograms)
        return Page(Renderer(process=False).render(snapshot).decode())

    def until_read(self, engine):
        """Wait until this life has been given a page of the engine's newest process."""
        process = engine.process
        eventually(lambda: engine.served(process, self._life), "a page served")

    def die_at(self, moment, agent):
        """Let the agent live on a little and kill it."""
        if moment == "start":
            time.sleep(self.rng.uniform(0.0, 0.5))
        elif moment == "reading":  # between the answer of an engine and the end of the commit
            self.until_read(self.rng.choice(self.followed))
            time.sleep(self.rng.uniform(0.0, 0.08))
        elif moment == "any":
            time.sleep(self.rng.uniform(0.2, 1.5))
        else:
            time.sleep(self.rng.uniform(0.3, 0.8))
            agent.process.terminate()
            time.sleep(self.rng.uniform(0.0, 0.06))
        agent.kill()

    def judge(self, witness):
        """A life is over: what it exposed never went back and is on disk, and what is on disk is one whole reading."""
        witness.join()
        for text in witness.texts:
            seen = own(Page(text))
            check_never_back(self._seen, seen, "exposed less than before")
            self._seen = seen
        if not self._ledger.exists():
            return
        found = self.committed()
        check_never_back(self._seen, own(found), "exposed but not committed")
        for engine in self.followed:
            level = minus(by_agent(found, engine.proxy.name), engine.base)
            assert level in [engine.fresh, *engine.served(engine.process)], "no whole reading of a page"

    def restart_while_up(self, engine, agent):
        """The engine dies under load beside a living agent, which knows the last page that it was given."""
        agent.ready()
        self.until_read(engine)
        old = engine.restart(seconds=0.3)
        name, count = engine.proxy.name, engine.restarts
        agent.until(
            lambda page: page.sum("inferometer_resets_total", source=f"http://{name}/metrics") == count,
            "the restart counted",
        )
        engine.buried(old, engine.served(old, self._life)[-1])

    def restart_while_down(self, engine):
        """The engine dies under load while no agent lives: what the ledger has of it is all that can ever be had."""
        level = minus(by_agent(self.committed(), engine.proxy.name), engine.base)
        engine.buried(engine.restart(seconds=0.1), level)
        time.sleep(0.2)

    def run(self, clients):
        """Kill it ``KILLS`` times, with two restarts of engines while it lives and two while it does not."""
        when = {KILLS * n // 5: n for n in range(1, 5)}
        for number in range(KILLS):
            engine = self.followed[when.get(number, 0) > 2]
            with self.live() as agent:
                witness = Witness(agent)
                if number == 2:  # two lives may have ended before they read anything
                    self.reads_baselines(agent)
                    for client in clients:
                        client.start()
                if when.get(number) in {1, 3}:
                    self.restart_while_up(engine, agent)
                self.die_at(MOMENTS[number % len(MOMENTS)], agent)
                self.judge(witness)
            if when.get(number) in {2, 4}:
                self.restart_while_down(engine)

    def reads_baselines(self, agent):
        """What the engines had done before is not the agent's business; from here on everything is."""
        for engine in self.followed:
            agent.until(lambda page, name=engine.proxy.name: page.sum("inferometer_tokens_total", engine=name) == 0)


def check_counts(followed, page):
    """Equal to what the engine did since the first reading, less exactly what no page showed the agent."""
    for engine in followed:
        processes = engine.truth["processes"]
        done = minus((0.0,) * len(engine.base), engine.baseline)
        for process in processes:
            done = plus(done, by_truth(process["totals"]))
        for unseen in engine.unseen:
            done = minus(done, unseen)
        name = engine.proxy.name
        assert by_agent(page, name) == done
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


def check_money(page, workload, gpus):
    """Every second from the accounting's start on is either charged or declared unaccounted; no cent is elsewhere."""
    start = page.sum("inferometer_accounting_start_timestamp_seconds", workload=workload)
    held = gpus * (page.sum("inferometer_settled_until_timestamp_seconds", workload=workload) - start)
    cost = page.sum("inferometer_cost_total", workload=workload)
    unaccounted = page.sum("inferometer_unaccounted_gpu_seconds_total", workload=workload)
    assert unaccounted > 0, "an engine started anew while nobody looked"
    assert cost + unaccounted == pytest.approx(held, abs=2e-6), "to the microsecond, as exact as unix times are"
    assert cost == pytest.approx(page.sum("inferometer_gpu_seconds_total", workload=workload), rel=1e-9)
    assert page.sum("inferometer_token_cost_total", workload=workload) == pytest.approx(cost, rel=1e-9)
    judged = page.sum("inferometer_slo_requests_total", workload=workload)
    pending = page.sum("inferometer_slo_requests_pending", workload=workload)
    assert judged + pending == page.sum("inferometer_requests_total", workload=workload)


def test_no_kill_loses_or_repeats_anything(tmp_path):
    """SIGKILL at random moments of start, reading, commit and stop, under load, while engines come and go."""
    with contextlib.ExitStack() as world:
        engines = world.enter_context(Engines(tmp_path / "engines.log", count=2))
        proxies = [world.enter_context(Proxy(url)) for url in engines.urls]
        for url in engines.urls:
            with Clients(url, count=3, seed=SEED) as before:
                before.start()
                time.sleep(0.5)
        trial = Trial(tmp_path, engines, proxies)
        clients = [world.enter_context(Clients(url, count=5, seed=SEED)) for url in engines.urls]
        trial.run(clients)
        for client in clients:
            client.stop()
        for engine in trial.followed:
            eventually(lambda engine=engine: engine.truth["in_flight"]["requests"] == 0, "engines at rest")
        with trial.live() as agent:
            witness = Witness(agent)
            wanted = {engine.proxy.name: plus(engine.base, engine.now()) for engine in trial.followed}
            page = agent.until(lambda page: all(by_agent(page, name) == wanted[name] for name in wanted))
            check_counts(trial.followed, page)
            for workload, gpus in GPUS.items():
                check_money(page, workload, gpus)
            assert agent.stop() == 0
            trial.judge(witness)
