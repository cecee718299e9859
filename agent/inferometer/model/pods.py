"""Pods that serve, as the API server of a cluster shows them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["both", "prefill", "decode", "frontend"]
"""An engine's part in disaggregated serving."""


class ServingPod(Struct, frozen=True):
    """One pod with a metrics page. ``uid`` tells it from a later pod of the same name.

    ``workload``: ``namespace/name`` of what owns it; ``gpus``: whole GPUs that it asks for, 0 where it names none.
    ``ending``: it is asked to stop, or has: it is read until it refuses.
    """

    namespace: str
    name: str
    uid: str
    workload: str
    url: str
    role: Role = "both"
    gpus: int = 0
    ending: bool = False

    @property
    def engine(self) -> str:
        """Its name as an engine."""
        return f"{self.namespace}/{self.name}"


class Pods(Struct, frozen=True):
    """All pods that serve. ``error``: why nothing, or not all, is known beyond what was known before.

    ``since``: steady time since when no pod could come unseen. ``faults``: sentences about pods that ask for
    something that cannot be done.
    """

    source: str
    at: float
    error: str = ""
    pods: tuple[ServingPod, ...] = ()
    since: float = 0.0
    faults: tuple[str, ...] = ()
    seconds: float = 0.0
    detail: str = ""
