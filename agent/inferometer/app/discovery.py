"""Engines that were found, not configured: pods that serve become engines of workloads, and leave when they refuse."""

from __future__ import annotations

import logging

from msgspec import Struct
from msgspec.structs import replace

from inferometer.config import Config, Engine, Workload
from inferometer.model import EngineSignal, Pods, ServingPod

_log = logging.getLogger(__name__)

_LINGERS_SECONDS = 120.0  # how long a pod that the cluster has forgotten may go on answering
_REMEMBERED_SECONDS = 3600.0  # a workload without pods: for so long it stays on /metrics


class _Followed(Struct):
    """A pod that is read. ``gone_at``: since when the API server no longer has it."""

    pod: ServingPod
    gone_at: float | None = None


class Discovery:
    """What pods make of a configuration. ``since``: steady time since when no pod could come unseen.

    ``limit``: most pods to follow at one time; ``dropped``: pods that were left out for it, each time they were seen.
    """

    def __init__(self, limit: int = 2_000) -> None:
        self.limit, self.dropped = limit, 0
        self._followed: dict[str, _Followed] = {}
        self._refused: set[str] = set()
        self._workloads: dict[str, float] = {}
        self._faults: frozenset[str] = frozenset()
        self.since: float | None = None

    def see(self, seen: Pods) -> bool:
        """Take what the API server shows; whether engines or workloads changed by it."""
        before = self._shape()
        self.since = seen.since if self.since is None else min(self.since, seen.since)
        here = {pod.uid: pod for pod in seen.pods}
        self._refused &= here.keys()
        for uid, pod in here.items():
            if uid in self._refused:
                continue
            if uid in self._followed or len(self._followed) < self.limit:
                self._followed[uid] = _Followed(pod)
            else:
                self.dropped += 1
        for uid, followed in self._followed.items():
            if uid not in here and followed.gone_at is None:
                followed.gone_at = seen.at
        self._make_way(here)
        self._remember(seen.at)
        self._tell(seen.faults)
        return self._shape() != before

    def see_page(self, page: EngineSignal) -> bool:
        """Take how an engine's page was read: a pod that is to end is let go of once it refuses."""
        for uid, followed in self._followed.items():
            if followed.pod.engine != page.engine:
                continue
            gone = followed.gone_at
            over = gone is not None and page.at - gone > _LINGERS_SECONDS
            if over or (page.error and (gone is not None or followed.pod.ending)):
                del self._followed[uid]
                self._refused.add(uid)
                return True
        return False

    def joined(self, settings: Config) -> Config:
        """The configuration with what was found: a workload that is configured by its name keeps its settings."""
        if settings.kubernetes is None:
            return settings
        found: dict[str, list[Engine]] = {name: [] for name in self._workloads}
        listed = {engine.url for workload in settings.workloads for engine in workload.engines}
        for pod in (followed.pod for followed in self._followed.values()):
            if pod.url not in listed:
                listed.add(pod.url)
                found.setdefault(pod.workload, []).append(_engine(pod, counted=not settings.kubernetes.node))
        known = [
            replace(workload, engines=(*workload.engines, *found.pop(workload.name, ())))
            for workload in settings.workloads
        ]
        price = "default" if "default" in settings.prices else None
        new = [Workload(name=name, engines=tuple(engines), price=price) for name, engines in found.items()]
        return replace(settings, workloads=(*known, *new))

    def engines_since(self) -> dict[str, float]:
        """By engine that was found, the steady time since when it could not have come unseen."""
        since = self.since
        return {one.pod.engine: since for one in self._followed.values()} if since is not None else {}

    def _make_way(self, here: dict[str, ServingPod]) -> None:
        """A pod that is gone must not be read at an address, or under a name, that another one has by now."""
        urls = {pod.url for pod in here.values() if not pod.ending}
        names = {pod.engine for pod in here.values()}
        for uid, followed in list(self._followed.items()):
            pod = followed.pod
            taken = pod.url in urls or (pod.engine in names and uid not in here)
            if taken and (followed.gone_at is not None or pod.ending):
                del self._followed[uid]
                self._refused.add(uid)

    def _remember(self, at: float) -> None:
        self._workloads |= {followed.pod.workload: at for followed in self._followed.values()}
        self._workloads = {w: last for w, last in self._workloads.items() if at - last < _REMEMBERED_SECONDS}

    def _tell(self, faults: tuple[str, ...]) -> None:
        for fault in faults:
            if fault not in self._faults:
                _log.warning(fault)
        self._faults = frozenset(faults)

    def _shape(self) -> tuple[list[ServingPod], list[str]]:
        return ([followed.pod for followed in self._followed.values()], list(self._workloads))


def _engine(pod: ServingPod, *, counted: bool) -> Engine:
    """``counted``: its GPUs are as many as it asks for; on its own node they are found, and known by what they are."""
    gpus = pod.gpus if counted and pod.gpus else None
    return Engine(url=pod.url, name=pod.engine, role=pod.role, pod=pod.engine, gpus=gpus)
