"""What is followed: workloads, their engines and the GPUs that these hold."""

from __future__ import annotations

from msgspec import Struct


class Watched(Struct, frozen=True):
    """One engine of a workload and the GPUs it holds (a share of a GPU counts as a fraction).

    ``source``: the name under which its page is read, as ``inferometer_source_up`` has it.
    """

    engine: str
    gpus: float = 0.0
    source: str = ""


class Watch(Struct, frozen=True):
    """One workload. Without engines it has one nameless engine, of which nothing is ever read.

    ``gpus``: what a workload without engines holds.
    ``uuids``: the GPUs whose joules are the workload's; None = every GPU that is read.
    """

    workload: str
    engines: tuple[Watched, ...]
    gpus: float = 0.0
    uuids: frozenset[str] | None = frozenset()
    share: float = 1.0

    @property
    def members(self) -> tuple[Watched, ...]:
        """Its engines, or the nameless one."""
        return self.engines or (Watched("", self.gpus),)

    def part(self, engine: Watched) -> float:
        """An engine's share of what the workload holds: by GPUs, evenly where none has any."""
        held = sum(member.gpus for member in self.members)
        return engine.gpus / held if held else 1 / len(self.members)
