"""What a pod object says of its metrics page: annotations, ports, owner, GPUs. Only the fields named here are read."""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Struct, field
from yarl import URL

from inferometer.model import Role, ServingPod

OURS, PROMETHEUS = "inferometer.dev/", "prometheus.io/"

ROLES: dict[str, Role] = {"both": "both", "prefill": "prefill", "decode": "decode", "frontend": "frontend"}

_DEFAULT_PORT, _DEFAULT_PATH = 8000, "/metrics"
_PORT_NAMES = ("metrics", "http", "http-metrics")
_WORKLOAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_LEADER_WORKER_SET = "leaderworkerset.sigs.k8s.io/name"
_HASH = "pod-template-hash"
_WHOLE_GPU = "nvidia.com/gpu"
_GPU = "nvidia.com/"
_OVER = frozenset({"Succeeded", "Failed"})


class Owner(Struct, frozen=True):
    """What keeps a pod."""

    kind: str = ""
    name: str = ""
    controller: bool = False


class Meta(Struct, frozen=True, rename="camel"):
    """Of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] | None = None


class Port(Struct, frozen=True, rename="camel"):
    """Of a container."""

    container_port: int = 0
    name: str = ""


class Resources(Struct, frozen=True):
    """What a container may use."""

    limits: dict[str, str | int] | None = None
    claims: tuple[dict[str, str], ...] | None = None


class Container(Struct, frozen=True):
    """Of a pod."""

    ports: tuple[Port, ...] | None = None
    resources: Resources = Resources()


class Spec(Struct, frozen=True, rename="camel"):
    """What a pod shall be."""

    containers: tuple[Container, ...] = ()


class Status(Struct, frozen=True, rename="camel"):
    """What a pod is."""

    phase: str = ""
    pod_ip: str = field(default="", name="podIP")


class PodObject(Struct, frozen=True):
    """A pod as the API server sends it."""

    metadata: Meta = Meta()
    spec: Spec = Spec()
    status: Status = Status()


class Found(NamedTuple):
    """The pod, where it serves a page and has an address; ``faults``: what it asks for in vain."""

    pod: ServingPod | None
    faults: tuple[str, ...] = ()


def serving(pod: PodObject) -> Found:
    """A pod that says ``inferometer.dev/scrape``, or asks for GPUs and says ``prometheus.io/scrape``."""
    meta = pod.metadata
    if not _asks(pod) or not pod.status.pod_ip:
        return Found(None)
    faults: list[str] = []
    where = f"pod {meta.namespace}/{meta.name}: annotation "
    try:
        url = _url(pod, faults)
    except ValueError as error:  # of an odd pod nothing can be read; the others are not its fault
        return Found(None, (f"pod {meta.namespace}/{meta.name}: has no address that can be read: {error}",))
    found = ServingPod(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        workload=f"{meta.namespace}/{_workload(meta, faults)}",
        url=url,
        role=_role(meta, faults),
        gpus=sum(_whole_gpus(container) for container in pod.spec.containers),
        ending=meta.deletion_timestamp is not None or pod.status.phase in _OVER,
    )
    return Found(found, tuple(where + fault for fault in faults))


def _asks(pod: PodObject) -> bool:
    """Whether a pod asks to be read. Our annotation decides alone where it is."""
    said = _said(pod.metadata, OURS, "scrape")
    if said is not None:
        return said == "true"
    asks = _said(pod.metadata, PROMETHEUS, "scrape") == "true"
    return asks and any(_uses_gpu(container) for container in pod.spec.containers)


def _said(meta: Meta, prefix: str, name: str) -> str | None:
    value = (meta.annotations or {}).get(prefix + name)
    return None if value is None else value.strip()


def _setting(meta: Meta, name: str) -> tuple[str, str]:
    """A value and the annotation that it stands in: ours before Prometheus's; '' where there is none."""
    for prefix in (OURS, PROMETHEUS):
        value = _said(meta, prefix, name)
        if value:
            return value, prefix + name
    return "", ""


def _workload(meta: Meta, faults: list[str]) -> str:
    told = _said(meta, OURS, "workload")
    if told and _WORKLOAD.fullmatch(told):
        return told
    if told:
        faults.append(f"{OURS}workload is '{told}'; letters, digits and . _ - / are expected")
    return owner(meta)


def owner(meta: Meta) -> str:
    """The name of what a person made: a Deployment (above a ReplicaSet), StatefulSet, LeaderWorkerSet; else the pod."""
    labels = meta.labels or {}
    if _LEADER_WORKER_SET in labels:
        return labels[_LEADER_WORKER_SET]
    above = next((one for one in meta.owner_references or () if one.controller), None)
    if above is None:
        return meta.name
    if above.kind == "ReplicaSet" and _HASH in labels:
        return above.name.removesuffix(f"-{labels[_HASH]}")
    return above.name


def _role(meta: Meta, faults: list[str]) -> Role:
    told = _said(meta, OURS, "role") or "both"
    if told in ROLES:
        return ROLES[told]
    faults.append(f"{OURS}role is '{told}'; one of {', '.join(ROLES)} is expected")
    return "both"


def _url(pod: PodObject, faults: list[str]) -> str:
    meta, (path, _) = pod.metadata, _setting(pod.metadata, "path")
    scheme, key = _setting(meta, "scheme")
    if scheme not in {"", "http", "https"}:
        faults.append(f"{key} is '{scheme}'; http or https is expected")
        scheme = ""
    place = URL.build(scheme=scheme or "http", host=pod.status.pod_ip, port=_port(pod, faults))
    return str(place.with_path("/" + (path or _DEFAULT_PATH).lstrip("/")))


def _port(pod: PodObject, faults: list[str]) -> int:
    """As annotated, by number or name; else a port that is named for it; else the first one; else vLLM's."""
    ports = [port for container in pod.spec.containers for port in container.ports or ()]
    named = {port.name: port.container_port for port in reversed(ports) if port.name}
    told, key = _setting(pod.metadata, "port")
    if told in named:
        return named[told]
    if told.isdecimal() and told.isascii() and len(told) <= 5 and 0 < int(told) < 65536:
        return int(told)
    if told:
        faults.append(f"{key} is '{told}'; a number or the name of a container's port is expected")
    usual = [named[name] for name in _PORT_NAMES if name in named]
    return next(iter(usual + [port.container_port for port in ports]), _DEFAULT_PORT)


def _uses_gpu(container: Container) -> bool:
    resources = container.resources
    return bool(resources.claims) or any(name.startswith(_GPU) for name in resources.limits or {})


def _whole_gpus(container: Container) -> int:
    told = str((container.resources.limits or {}).get(_WHOLE_GPU, "0"))
    return int(told) if told.isdecimal() and len(told) <= 6 else 0
