"""What is followed: workloads, their engines and the GPUs that these hold."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field


class Watched(Struct, frozen=True):
    """One engine of a workload and the GPUs it holds (a share of a GPU counts as a fraction).

    ``source``: the name under which its page is read, as ``inferometer_source_up`` has it.
    ``role``: both, prefill, decode or frontend: in disaggregated serving several pages show the same tokens.
    ``since``: steady time since when it could not have come unseen; None: since its workload has been watched.
    ``traced``: spans of its requests may come, so that what its page says of SLOs waits for them.
    """

    engine: str
    gpus: float = 0.0
    source: str = ""
    role: str = "both"
    since: float | None = None
    traced: bool = False


class Hold(Struct, frozen=True):
    """A workload's hold on one GPU, or on one MIG instance of it.

    ``fraction``: of the whole device; the fractions of all holds on a device add up to 1 where somebody holds the rest.
    ``instance``: the MIG instance's UUID, '' for the device or what no instance takes up. ``part``: of that instance.
    ``slices``: the fraction of each instance of the device (formulas §2), empty where it is not cut.
    ``method``: why so much: exclusive, share, mig, replica or none (nobody's).
    """

    gpu: str
    fraction: float
    instance: str = ""
    part: float = 1.0
    slices: Mapping[str, float] = field(default_factory=dict)
    method: str = "exclusive"


class Scope(Struct, frozen=True):
    """What the page of an engine counts for its workload: input tokens, output tokens, requests."""

    input: bool = True
    output: bool = True
    requests: bool = True


class Watch(Struct, frozen=True):
    """One workload. Without engines it has one nameless engine, of which nothing is ever read.

    ``gpus``: what a workload without engines holds.
    ``holds``: the devices whose joules are the workload's.
    ``limits``: thresholds in seconds by SLO name, by model; '' are those of all other models.
    """

    workload: str
    engines: tuple[Watched, ...]
    gpus: float = 0.0
    holds: tuple[Hold, ...] = ()
    limits: Mapping[str, Mapping[str, float]] = {}

    @property
    def members(self) -> tuple[Watched, ...]:
        """Its engines, or the nameless one."""
        return self.engines or (Watched("", self.gpus),)

    def parts(self) -> tuple[float, ...]:
        """Each member's share of what the workload holds: by GPUs, evenly where none has any."""
        members = self.members
        held = sum(member.gpus for member in members)
        return tuple(member.gpus / held if held else 1 / len(members) for member in members)

    def limits_of(self, model: str) -> Mapping[str, float]:
        """The thresholds of a model's SLOs."""
        return self.limits.get(model, self.limits.get("", {}))

    def scopes(self) -> tuple[Scope, ...]:
        """What counts on each member's page, so that every token and request of the workload counts once.

        Where there is a frontend it counts everything. Without one, prefill pages count input (they also make one
        output token a request), decode pages count output and requests (they also show the input handed over).
        """
        has_frontend = any(member.role == "frontend" for member in self.members)
        return tuple(_scope(member.role, has_frontend=has_frontend) for member in self.members)


def _scope(role: str, *, has_frontend: bool) -> Scope:
    if has_frontend:
        mine = role == "frontend"
        return Scope(mine, mine, mine)
    return Scope(input=role != "decode", output=role != "prefill", requests=role != "prefill")
