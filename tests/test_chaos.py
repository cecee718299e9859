"""Faults between the agent and all that it reads: counts stay exact, the agent stays up, nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import math
import os
import random
import time
from collections import Counter

import pytest
from chaos.proxy import Proxy as Broken
from chaos.trial import Trial
from exports import JSON, PROTOBUF, export, post
from live import Agent, Clients, Engines, Proxy, eventually, free_port

FAULTS = int(os.environ.get("INFEROMETER_CHAOS", "200"))
SEED = int(os.environ.get("INFEROMETER_SEED", "1"))
_PER_TRIAL = 1000


@pytest.fixture(autouse=True)
def quiet():
    """Thousands of sources go down and up: that is not for the output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kills", [False, True], ids=["one agent", "an agent that is killed now and then"])
def test_after_any_faults_every_count_is_the_truth(tmp_path, kills):
    """At a scripted time: each page, answer and meter is wrong every other time; then tokens, money, joules add up."""
    faults = FAULTS // 2
    for number in range(0, faults, _PER_TRIAL):
        seed = SEED + number + kills
        folder = tmp_path / str(number)
        folder.mkdir()
        trial = Trial(seed, folder, kills=kills)
        asyncio.run(trial.run(min(_PER_TRIAL, faults - number)))
        assert not trial.broken, f"seed {seed}: " + "\n".join(trial.broken)
        print(f"seed {seed}: {trial.world.faults.total()} faults in {trial.cycles} rounds")


BAD, GOOD = 4, 2
INTERVAL_SECONDS = 0.25
CONFIG = """
interval: 250ms
scrape: {{max_page_bytes: 4194304}}
gpu: {{sources: [nvml]}}
otlp: {{http: "127.0.0.1:{otlp}"}}
prices: {{default: {{gpu_hour: 3.6}}}}
workloads:
  - {{name: bad, gpus: 4, engines: [{bad}]}}
  - {{name: good, gpus: 2, engines: [{good}], slo: {{ttft: 1s}}}}
"""


def counted(page, engine):
    """Tokens and requests of an engine as /metrics has them."""
    kinds = {"prompt_tokens": ("input_uncached", "input_cached"), "output_tokens": ("output",)}
    found = {
        name: sum(page.sum("inferometer_tokens_total", engine=engine, type=kind) or 0 for kind in parts)
        for name, parts in kinds.items()
    }
    return found | {"ok": page.sum("inferometer_requests_total", engine=engine, outcome="ok") or 0}


def truly(engines, number):
    """The same by the engine itself, once it rests."""
    truth = eventually(
        lambda: (t := engines.truth(number)) and not t["in_flight"]["requests"] and t, "the engine rests"
    )
    totals = truth["totals"]
    return {name: totals[name] for name in ("prompt_tokens", "output_tokens")} | {"ok": totals["requests"].get("ok", 0)}


def send_spans(url, rng, sent):
    """Good exports, the same again, skewed ones and no exports at all; ``sent``: bodies of which each counts once."""
    ended = time.time() - rng.choice((0, 0, 3600, -600))
    body = rng.choice(sent) if sent and rng.random() < 0.5 else export(ended=ended).SerializeToString()
    bad = rng.choice((b"", b"\xff" * 50, body[:-3], rng.randbytes(200), b"{}", b"\x0a\xff\xff\xff\x7f"))
    with contextlib.suppress(OSError, http.client.HTTPException):
        post(
            url, bad, rng.choice((PROTOBUF, JSON, "text/plain")), **{"Content-Encoding": rng.choice(("", "gzip", "br"))}
        )
    answer = post(url, body)
    if answer.status == 200 and body not in sent:
        sent.append(body)


def check_live(page, before):
    """Nothing that is exposed is negative or no number, and no counter goes back."""
    for sample in page.samples:
        assert math.isfinite(sample.value), sample
        assert sample.value >= 0 or "error_budget" in sample.name, sample
    now = page.counters()
    back = {key: (before[key], value) for key, value in now.items() if value < before.get(key, 0)}
    assert not back
    return now


def test_a_live_agent_on_broken_connections(tmp_path):
    """Real processes and sockets, four readings a second: bad engines lose nothing, good ones and spans notice none."""
    rng, faults = random.Random(SEED), max(100, FAULTS // 4)
    with contextlib.ExitStack() as world:
        engines = world.enter_context(Engines(tmp_path / "engines.log", BAD + GOOD))
        bad = [world.enter_context(Broken(url, SEED + n)) for n, url in enumerate(engines.urls[:BAD])]
        good = [world.enter_context(Proxy(url)) for url in engines.urls[BAD:]]
        lists = [", ".join(f'{{url: "{proxy.url}"}}' for proxy in proxies) for proxies in (bad, good)]
        lists[1] = lists[1].replace("}", ", spans: {service.name: vllm}}", 1)
        otlp, path = free_port(), tmp_path / "agent.yaml"
        path.write_text(CONFIG.format(bad=lists[0], good=lists[1], otlp=otlp))
        agent = world.enter_context(
            Agent(tmp_path / "log", "--config.file", path, "--storage.path", tmp_path / "ledger")
        )
        agent.until(lambda page: page.sum("inferometer_source_up") >= BAD + GOOD)
        clients = [Clients(url, 2, SEED + 10 * n) for n, url in enumerate(engines.urls)]
        with contextlib.ExitStack() as load:
            for one in clients:
                load.enter_context(one)
                one.start()
            for proxy in bad:
                proxy.share = 0.6
            before, most, sent, began = {}, 0.0, [], time.monotonic()
            while sum(proxy.faults.total() for proxy in bad) < faults:
                page = agent.page()
                before = check_live(page, before)
                most = max(most, page.sum("process_resident_memory_bytes"))
                send_spans(f"http://127.0.0.1:{otlp}/v1/traces", rng, sent)
                time.sleep(0.05)
            times = [one.at for proxy in good for one in proxy.served if one.at > began]
            for proxy in bad:
                proxy.share = 0.0
        met = sum((proxy.faults for proxy in bad), Counter())
        seconds = time.monotonic() - began
        print(f"seed {SEED}: {met.total()} faults in {seconds:.0f} s, most memory {most / 1e6:.0f} MB: {dict(met)}")
        assert len(times) > 0.5 * GOOD * seconds / INTERVAL_SECONDS, "good engines were not read in time"
        assert most < 300e6
        assert page.sum("inferometer_event_loop_lag_seconds") < 2
        for number, proxy in enumerate((*bad, *good)):
            truth = truly(engines, number)
            agent.until(lambda page, p=proxy, t=truth: counted(page, p.name) == t, f"{proxy.name} has {truth}")
        page = agent.page()
        check_live(page, before)
        spans = {row.labels["outcome"]: row.value for row in page.rows("inferometer_spans_total")}
        assert spans["accepted"] + spans["skewed"] == len(sent)
        for proxy in bad:
            told = {row.labels["reason"] for row in page.rows("inferometer_source_errors_total", source=proxy.url)}
            assert told <= proxy.reasons, (told - proxy.reasons, proxy.faults)
        for proxy in good:
            assert page.sum("inferometer_source_up", source=proxy.url) == 1
        for workload, gpus in (("bad", BAD), ("good", GOOD)):
            page = agent.page()
            stamps = ("settled_until", "accounting_start")
            until, since = (page.sum(f"inferometer_{s}_timestamp_seconds", workload=workload) for s in stamps)
            cost = page.sum("inferometer_cost_total", workload=workload)
            assert cost == pytest.approx(gpus * (until - since) / 1000, abs=gpus * 3 * INTERVAL_SECONDS / 1000)
            assert page.sum("inferometer_token_cost_total", workload=workload) == pytest.approx(cost, rel=1e-9)
        assert "Traceback" not in agent.log
        assert agent.stop() == 0
