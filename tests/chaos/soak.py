"""A year and more of an agent's life at a scripted time: all that comes and goes does, and nothing may add up."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inferometer.model import Export, Pods, Request, ServingPod
from inferometer.sources import connection
from yarl import URL

from chaos.answers import Answer
from chaos.laws import Laws
from chaos.little import Little
from chaos.meters import Meters
from chaos.rig import Rig
from chaos.timeline import Timeline

START = 1_800_000_000.0
_MOST_PODS = 2
_WORKLOADS = 4
_CONFIG = """
interval: {seconds}s
windows: [{windows}]
prices: {{default: {{gpu_hour: {price}}}}}
gpu: {{sources: [dcgm], dcgm_url: "http://gpus:9400/metrics"}}
otlp: {{}}
kubernetes: {{api_url: "http://nowhere:1"}}
workloads:
  - {{name: fixed, gpus: [GPU-0], slo: {{ttft: 250ms, e2e: 1s}}, budget: {{amount: 900, timezone: Asia/Kathmandu}},
      engines: [{engines}]}}
"""


class Sample(NamedTuple):
    """What may grow: bytes of the process and of the ledger's file, and how many there are of all else."""

    cycle: int
    rss_bytes: int
    objects: int
    descriptors: int
    tasks: int
    ledger_bytes: int
    hour_rows: int
    marks: int
    series: int


class Soak:
    """``samples``: one for every ``every`` cycles of so many ``seconds``, also in ``csv``, line by line."""

    def __init__(self, seed: int, folder: Path, *, every: int, seconds: int, csv: Path) -> None:
        self.rng = random.Random(seed)
        self.clock = Timeline(START)
        self.laws = Laws()
        self.samples: list[Sample] = []
        self._every, self._seconds, self._csv, self._folder = every, seconds, csv, folder
        csv.parent.mkdir(parents=True, exist_ok=True)
        csv.write_text(",".join(Sample._fields) + "\n")
        self._path = folder / "agent.yaml"
        self._servers: dict[int, Little] = {port: Little(START - 60) for port in (1, 2)}
        self._pods: dict[int, ServingPod] = {}
        self._names = 0
        self._fixed = [1, 2]
        self._meters = Meters(2, START, self.rng)
        self._gone_gpus = False
        self._spans: list[Request] = []
        self._configure()

    async def run(self, cycles: int) -> None:
        """So many cycles, one after the other."""
        async with Rig(self._path, self.clock, self, **{"storage.path": str(self._folder / "ledger")}) as rig:
            for cycle in range(cycles):
                self.clock.now += self._seconds
                self._live()
                await rig.beat(*self._more())
                if cycle % 50 == 49:
                    self._configure()
                    accepted, said = await rig.agent.reload()
                    assert accepted, said
                if cycle % 10 == 9:
                    rig.metrics()
                    self.laws.see(rig.agent.snapshot())
                if (cycle + 1) % self._every == 0:
                    self.samples.append(self._sample(cycle + 1, rig))
                    with self._csv.open("a") as csv:
                        csv.write(",".join(map(str, self.samples[-1])) + "\n")

    async def get(self, url: URL, _request: bytes, limit: int, *_tls: object) -> connection.Answer:
        """One request, in the place of a session of connections."""
        if url.port == 9400:
            return Answer(self._meters.page(self.clock.now, "gone" if self._gone_gpus else "")).given(limit)
        server = self._servers.get(url.port)
        if server is None:
            return Answer(error=ConnectionRefusedError()).given(limit)
        if self.rng.random() < 0.03:
            return Answer(status=500).given(limit)
        return Answer(server.page()).given(limit)

    def _live(self) -> None:
        """Requests are served; pods, models and GPUs come and go."""
        rng = self.rng
        for server in self._servers.values():
            server.serve(rng.choice(("small", "small", "small", "lora")), rng.randrange(20))
        if rng.random() < 0.05:
            self._gone_gpus = not self._gone_gpus
        if rng.random() < 0.01:
            self._servers[rng.choice(self._fixed)] = Little(self.clock.now - 10)
        if self._pods and rng.random() < 0.06:
            port = rng.choice(list(self._pods))
            del self._pods[port], self._servers[port]
        if len(self._pods) < _MOST_PODS and rng.random() < 0.08:
            self._names += 1
            port, owner = 10_000 + self._names % 50_000, f"llm/chat-{rng.randrange(_WORKLOADS)}"
            name = f"{owner.partition('/')[2]}-{self._names:x}"
            self._servers[port] = Little(self.clock.now - 10)
            self._pods[port] = ServingPod(
                "llm", name, f"u{self._names}", owner, f"http://10.0.0.1:{port}/metrics", gpus=1
            )

    def _more(self) -> Iterator[Pods | Export]:
        """What is pushed: the pods that serve, and spans, some of them again."""
        now = self.clock.wall()
        yield Pods("kubernetes", self.clock.at(), pods=tuple(self._pods.values()), since=START)
        new = [
            Request(self.rng.randbytes(24), now - 3, now - 1 - n, model="small", ttft=0.2, e2e=2.0, output_tokens=120.0)
            for n in range(3)
        ]
        requests = tuple(({}, request) for request in (*new, *self._spans[:1]))
        self._spans = new
        yield Export("otlp", self.clock.at(), requests=requests)

    def _configure(self) -> None:
        """The file is written anew, a little other than it was; an engine may leave for a time."""
        self._fixed = self.rng.choice(([1, 2], [1], [1, 2]))
        engines = ", ".join(f'{{url: "http://10.0.0.9:{port}/metrics"}}' for port in self._fixed)
        windows = self.rng.choice(("1h", "6h"))
        price = self.rng.choice((2.0, 2.5))
        text = _CONFIG.format(seconds=self._seconds, windows=windows, price=price, engines=engines)
        self._path.write_text(text)

    def _sample(self, cycle: int, rig: Rig) -> Sample:
        gc.collect()
        ledger, state = self._folder / "ledger" / "ledger.db", rig.agent._ledger.state
        (rows,) = rig.agent._ledger._database.execute("SELECT count(*) FROM hours").fetchone()
        return Sample(
            cycle=cycle,
            rss_bytes=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            objects=len(gc.get_objects()),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            tasks=len(asyncio.all_tasks()),
            ledger_bytes=sum(path.stat().st_size for path in ledger.parent.glob("ledger.db*")),
            hour_rows=rows,
            marks=len(state.marks),
            series=len(state.totals) + len(state.histograms),
        )


def growth(samples: list[Sample], name: str) -> float:
    """By least squares over the samples: how much it grows in 1,000 cycles."""
    xs, ys = [one.cycle / 1000 for one in samples], [float(getattr(one, name)) for one in samples]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
