"""Faults at a scripted time through the real agent, and what they left of its numbers beside the truth."""

from __future__ import annotations

import math
from pathlib import Path

from inferometer.model import Snapshot

from chaos.laws import Laws
from chaos.rig import Rig
from chaos.timeline import Timeline
from chaos.world import BAD, GOOD, World

START = 1_800_000_000.0
_REST_SECONDS = 420  # the longest stratum, and the wait for spans


class Trial:
    """One life of a world. ``broken``: what does not hold, as sentences; nothing is expected there."""

    def __init__(self, seed: int, folder: Path, *, kills: bool = False) -> None:
        self.clock = Timeline(START)
        self.world = World(seed, self.clock)
        self.laws = Laws()
        self.cycles = 0
        self._folder, self._kills = folder, kills
        self._path = folder / "agent.yaml"
        self._path.write_text(self.world.config())

    @property
    def broken(self) -> list[str]:
        return [*self.laws.broken.values()]

    async def run(self, faults: int, share: float = 0.7) -> None:
        """Meet at least so many faults, then mend everything and compare."""
        rig = Rig(self._path, self.clock, self.world, **{"storage.path": str(self._folder / "ledger")})
        async with rig:
            await self._cycle(rig, 0.0)
            for _ in range(5):
                await self._cycle(rig)
            while self.world.faults.total() < faults:
                self.world.faulty = share if self.world.rng.random() < 0.9 else 0.0
                await self._cycle(rig, self.world.rng.choice((0.25, 1.0, 1.0, 1.0, 2.5)))
                if self._kills and self.world.rng.random() < 0.01:
                    await rig.again()
                    self.laws.restarted()
                    self.world.faulty = 0.0  # which of its names a page uses is not in the ledger
                    await self._cycle(rig)
            self.world.faulty = 0.0
            for _ in range(3):
                await self._cycle(rig)
            self.world.rest()
            for _ in range(_REST_SECONDS // 5):
                await self._cycle(rig, 5.0)
            await self._cycle(rig, 0.0)  # what the meters said last is posted with the next page
            self._judge(rig.agent.snapshot())

    async def _cycle(self, rig: Rig, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        self.cycles += 1
        await rig.beat()
        self.laws.see(rig.agent.snapshot())
        sources = rig.agent._readers.stats._sources
        for port, reason in self.world.expected.items():
            found = sources[f"engine:{port}"].reason
            allowed = {reason} if reason is not None else {"", "not_metrics", "unknown_engine", "truncated"}
            if found not in allowed:
                self._breach(f"reason {found!r} for {reason!r}", port)

    def _judge(self, snapshot: Snapshot) -> None:
        """Counts, money, joules and verdicts against the truth."""
        for port, server in self.world.servers.items():
            engine, truth = f"engine:{port}", server.truth()
            got = {
                "prompt_tokens": _sum(snapshot, "tokens", 1, engine, "input_uncached", "input_cached"),
                "cached_tokens": _sum(snapshot, "tokens", 1, engine, "input_cached"),
                "output_tokens": _sum(snapshot, "tokens", 1, engine, "output"),
                "ok": _sum(snapshot, "requests", 1, engine, "ok"),
                "error": _sum(snapshot, "requests", 1, engine, "error"),
            }
            for name, count in got.items():
                if not truth[name] - server.lost[name] <= count <= truth[name]:
                    self._breach(f"{name} of {engine}", (count, truth[name], server.lost[name]))
        for workload, gpus in (("bad", 2), ("good", 1)):
            cost, owed = _sum(snapshot, "cost", 0, workload), 2.0 * gpus * (self.clock.now - START) / 3600
            if not math.isclose(cost, owed, rel_tol=1e-9):
                self._breach(f"cost of {workload}", (cost, owed))
            settled = snapshot.values["inferometer_settled_until_timestamp_seconds", (workload,)]
            began = snapshot.values["inferometer_accounting_start_timestamp_seconds", (workload,)]
            if not math.isclose(cost, 2.0 * gpus * (settled - began) / 3600, rel_tol=1e-6):
                self._breach(f"cost of {workload} by the time that it says", (cost, settled - began))
            self._goodput(snapshot, workload)
        joules = _sum(snapshot, "energy_joules")
        if not math.isclose(joules, self.world.meters.joules(self.clock.now), rel_tol=1e-9):
            self._breach("joules", (joules, self.world.meters.joules(self.clock.now)))

    def _goodput(self, snapshot: Snapshot, workload: str) -> None:
        """The good requests of engines of which nothing was lost are within the bounds."""
        servers = [self.world.servers[port] for port in (BAD if workload == "bad" else GOOD)]
        if any(any(server.lost.values()) for server in servers):
            return
        requests = [one for server in servers for one in server.requests() if one["outcome"] == "ok"]
        good = sum(one["ttft"] <= 0.25 and one["e2e"] <= 2.5 for one in requests)
        lower, upper = (_sum(snapshot, f"good_requests_{side}", 0, workload) for side in ("lower", "upper"))
        if not lower <= good <= upper:
            self._breach(f"good requests of {workload}", (lower, good, upper))

    def _breach(self, kind: str, what: object) -> None:
        self.laws.broken.setdefault(kind, f"{kind}: {what}")


def _sum(snapshot: Snapshot, name: str, place: int = 0, value: str = "", *last: str) -> float:
    """Of a counter's accounts that have ``value`` in a place, and end in one of ``last``."""
    return math.fsum(
        amount
        for (metric, labels), amount in snapshot.totals.items()
        if metric == f"inferometer_{name}_total"
        and (not value or labels[place] == value)
        and (not last or labels[-1] in last)
    )
