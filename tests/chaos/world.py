"""A simulated world behind a network that breaks: engines that are well, engines that are not, and meters of GPUs."""

from __future__ import annotations

import random
from collections import Counter

from inferometer.sources import connection
from yarl import URL

from chaos.answers import ANSWERS, Answer
from chaos.meters import Meters
from chaos.pages import EXACT
from chaos.server import Server
from chaos.timeline import Timeline

CONFIG = """
interval: 1s
currency: EUR
scrape: {{max_page_bytes: 1048576}}
prices: {{default: {{gpu_hour: 2.0}}}}
gpu: {{sources: [dcgm], dcgm_url: "http://gpus:9400/metrics"}}
workloads:
  - {{name: bad, gpus: [GPU-0, GPU-1], slo: {{ttft: 250ms, e2e: 2.5s}}, engines: [{bad}]}}
  - {{name: good, gpus: [GPU-2], slo: {{ttft: 250ms, e2e: 2.5s}}, engines: [{good}]}}
"""
BAD, GOOD = (8001, 8002, 8003, 8004), (8101, 8102)
METER_FAULTS = ("blank", "gone", "wrong")


class World:
    """Answers in the place of a session. ``faulty``: how often a reading meets a fault; counted by name."""

    def __init__(self, seed: int, clock: Timeline) -> None:
        self.rng, self.clock = random.Random(seed), clock
        self.faulty = 0.0
        self.faults: Counter[str] = Counter()
        self.expected: dict[int, str | None] = {}
        self.servers = {port: Server(100 * seed + port, clock.now) for port in (*BAD, *GOOD)}
        self.meters = Meters(3, clock.now, self.rng)

    def config(self) -> str:
        """The agent's configuration for this world."""
        lists = [", ".join(f'{{url: "http://engine:{port}/metrics"}}' for port in ports) for ports in (BAD, GOOD)]
        return CONFIG.format(bad=lists[0], good=lists[1])

    async def get(self, url: URL, _request: bytes, limit: int, *_tls: object) -> connection.Answer:
        """One request."""
        if url.port == 9400:
            return Answer(self._meters()).given(limit)
        server = self.servers[url.port]
        page = server.page(self.clock.now)
        self.expected[url.port] = ""
        if url.port in GOOD or self.rng.random() >= self.faulty:
            server.shown()
            if url.port in BAD and self.rng.random() < self.faulty / 20:
                self._count("restart")
                server.restart()
            return Answer(page).given(limit)
        return self._fault(url.port, page).given(limit)

    def rest(self) -> None:
        """No more faults, and nobody asks any more."""
        self.faulty = 0.0
        for server in self.servers.values():
            server.rest(self.clock.now)

    def _fault(self, port: int, page: bytes) -> Answer:
        name = self.rng.choice((*EXACT, *ANSWERS))
        self._count(name)
        if name in EXACT:
            self.expected[port] = None if name in _MAY_FAIL else ""
            return Answer(EXACT[name](self.rng, page))
        answer, self.expected[port] = ANSWERS[name][0](self.rng, page), ANSWERS[name][1]
        if not self.expected[port]:
            self.servers[port].shown()
        return answer

    def _meters(self) -> bytes:
        now = self.clock.now
        if self.rng.random() >= self.faulty:
            page = self.meters.page(now)
            if self.rng.random() < self.faulty / 20:
                self._count("driver reloaded")
                self.meters.reload(now)
            return page
        fault = self.rng.choice(METER_FAULTS)
        self._count(f"meters {fault}")
        return self.meters.page(now, fault)

    def _count(self, name: str) -> None:
        self.faults[name] += 1


_MAY_FAIL = {"not_numbers", "negative", "huge", "no_floats", "without_lines", "nul_bytes", "long_lines", "exemplars"}
"""Faults of a page after which it may be none: no line of it may be left that shows whose it is."""
