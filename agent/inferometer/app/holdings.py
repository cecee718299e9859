"""Who holds which GPU, and how much of it: from the configuration, the devices that are there, and their pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from inferometer.config import Config, Workload
from inferometer.economics.attribution import fractions, mig_weight
from inferometer.interval import Hold
from inferometer.model import Gpu, Holdings, Instance, Pod

UNATTRIBUTED = "(unattributed)"
_ROUNDING = 1e-9


class Claim(Struct, frozen=True):
    """A workload's wish for a device: an instance, or the whole of it where ``instance`` is ''."""

    workload: str
    gpu: str
    instance: str
    share: float
    method: str


class Ownership(Struct, frozen=True):
    """Holds by workload, ``(unattributed)`` among them where something is left; ``faults``: sentences for people.

    ``charged``: how many GPUs each one's money is for.
    """

    holds: Mapping[str, tuple[Hold, ...]]
    charged: Mapping[str, float]
    faults: tuple[str, ...] = ()


def ownership(
    settings: Config, gpus: tuple[Gpu, ...], environ: Mapping[str, str], kubelet: Holdings | None = None
) -> Ownership:
    """Lay out every device that was seen. A device that is claimed more than once is nobody's (design §5)."""
    claims = [claim for workload in settings.workloads for claim in _claims(settings, workload, gpus, environ, kubelet)]
    holds: dict[str, list[Hold]] = {workload.name: [] for workload in settings.workloads}
    rest: list[Hold] = []
    faults: list[str] = []
    for gpu in gpus:
        slices = _slices(gpu)
        mine = [claim for claim in claims if claim.gpu == gpu.uuid]
        fault = _contested(gpu, mine)
        if fault:
            faults.append(fault)
            mine = []
        held = [(claim.workload, _hold(claim, slices)) for claim in mine]
        for workload, hold in held:
            holds[workload].append(hold)
        rest += _rest(gpu.uuid, [hold for _, hold in held], slices)
    found = {workload: tuple(mine) for workload, mine in holds.items()}
    charged = {workload.name: _charged(workload, found[workload.name], gpus) for workload in settings.workloads}
    if rest and not _is_sidecar(environ):
        found[UNATTRIBUTED] = tuple(rest)
        charged[UNATTRIBUTED] = _left_to_pay(settings, rest, {claim.gpu for claim in claims})
    return Ownership(found, charged, tuple(faults))


def _claims(
    settings: Config,
    workload: Workload,
    gpus: tuple[Gpu, ...],
    environ: Mapping[str, str],
    kubelet: Holdings | None,
) -> list[Claim]:
    wanted, name, share = workload.gpus, workload.name, workload.share
    method = "exclusive" if share == 1 else "share"
    if isinstance(wanted, tuple):
        names = {str(one) for one in wanted}
        whole = [Claim(name, g.uuid, "", share, method) for g in gpus if {g.uuid, str(g.index)} & names]
        cut = [Claim(name, g.uuid, i.uuid, share, "mig") for g in gpus for i in g.instances if i.uuid in names]
        return whole + cut
    if wanted == "all" or (wanted == "auto" and _owns_the_box(settings, environ)):
        return [Claim(name, gpu.uuid, "", share, method) for gpu in gpus]
    if wanted == "auto":
        pods = _pods(workload, environ)
        return [claim for gpu in gpus for claim in _by_pods(workload, gpu, pods, kubelet)]
    return []


def _owns_the_box(settings: Config, environ: Mapping[str, str]) -> bool:
    """One workload on a plain machine has all GPUs that it sees; in a pod only labels tell whose a GPU is."""
    alone = sum(workload.gpus == "auto" for workload in settings.workloads) == 1
    return alone and "KUBERNETES_SERVICE_HOST" not in environ


def _pods(workload: Workload, environ: Mapping[str, str]) -> set[str]:
    """The pods of a workload's engines: as configured, else the one that this agent is in."""
    told = {engine.pod for engine in workload.engines if engine.pod is not None}
    namespace, name = environ.get("POD_NAMESPACE"), environ.get("POD_NAME")
    own = {f"{namespace}/{name}"} if namespace and name and _is_sidecar(environ) else set()
    return told or own


def _is_sidecar(environ: Mapping[str, str]) -> bool:
    """Whether this agent looks after its own pod alone: the node's other GPUs are other agents' business.

    The agent of a whole node is told its name, NODE_NAME, by the downward API.
    """
    return "KUBERNETES_SERVICE_HOST" in environ and "NODE_NAME" not in environ


def _by_pods(workload: Workload, gpu: Gpu, pods: set[str], kubelet: Holdings | None) -> Iterable[Claim]:
    """What labels or the kubelet say; a GPU that several pods share is divided by their number (formulas §2)."""
    for instance in gpu.instances:
        holders = _holders(instance.pods, kubelet, *_names(gpu, instance))
        if holders & pods:
            share = len(holders & pods) / len(holders) * workload.share
            yield Claim(workload.name, gpu.uuid, instance.uuid, share, "mig")
    holders = _holders(gpu.pods, kubelet, *_names(gpu, None)) if not gpu.instances else set()
    if holders & pods:
        replicas = max(len(holders), kubelet.replicas.get(gpu.uuid, 1) if kubelet is not None else 1)
        share = len(holders & pods) / replicas * workload.share
        yield Claim(workload.name, gpu.uuid, "", share, "exclusive" if replicas == 1 and share == 1 else "replica")


def _names(gpu: Gpu, instance: Instance | None) -> tuple[str, ...]:
    """What the kubelet may call a device: its UUID, as old drivers name instances, on GKE, and in claims (DRA)."""
    if instance is None:
        return gpu.uuid, f"nvidia{gpu.index}", f"gpu-{gpu.index}"
    return instance.uuid, f"MIG-{gpu.uuid}/{instance.gi}/0", f"nvidia{gpu.index}/gi{instance.gi}"


def _holders(labelled: Iterable[Pod], kubelet: Holdings | None, *names: str) -> set[str]:
    """The pods of a device by the kubelet, which knows it by one of these names; by its labels where it names none."""
    told = [pod for name in names for pod in kubelet.pods.get(name, ())] if kubelet is not None else []
    return {f"{pod.namespace}/{pod.name}" for pod in told or labelled}


def _slices(gpu: Gpu) -> dict[str, float]:
    """Each instance's fraction of its device (formulas §2)."""
    weights = [mig_weight(one.compute_slices, one.memory_slices) for one in gpu.instances]
    return dict(zip((one.uuid for one in gpu.instances), fractions(weights), strict=True))


def _hold(claim: Claim, slices: Mapping[str, float]) -> Hold:
    if not claim.instance:
        return Hold(claim.gpu, claim.share, method=claim.method)
    fraction = slices[claim.instance] * claim.share
    return Hold(claim.gpu, fraction, claim.instance, claim.share, slices, claim.method)


def _contested(gpu: Gpu, claims: list[Claim]) -> str:
    """The sentence, where more is claimed than there is, or a device both as a whole and by its instances."""
    whole = sum(claim.share for claim in claims if not claim.instance)
    parts: dict[str, float] = {}
    for claim in claims:
        if claim.instance:
            parts[claim.instance] = parts.get(claim.instance, 0.0) + claim.share
    is_mixed = bool(parts) and len(claims) > sum(1 for claim in claims if claim.instance)
    if not is_mixed and max(whole, *parts.values(), 0.0) <= 1 + _ROUNDING:
        return ""
    names = " and ".join(dict.fromkeys(claim.workload for claim in claims))
    how, cure = "", "list it in one of them, or give each a share below 1"
    if is_mixed:
        how, cure = " as a whole and by its instances", "list either the whole of it or instances, not both"
    return f"GPU {gpu.uuid} is claimed by {names}{how}: its money and joules go to {UNATTRIBUTED}; {cure}"


def _rest(uuid: str, held: list[Hold], slices: Mapping[str, float]) -> list[Hold]:
    """What nobody holds of a device: what is left of each instance, and what no instance takes up."""
    if not any(hold.instance for hold in held):
        whole = 1 - sum(hold.fraction for hold in held)
        if not slices or held:
            return [Hold(uuid, whole, method="none")] if whole > _ROUNDING else []
    left = []
    for instance, fraction in slices.items():
        part = 1 - sum(hold.part for hold in held if hold.instance == instance)
        if part > _ROUNDING:
            left.append(Hold(uuid, fraction * part, instance, part, slices, "none"))
    uncut = 1 - sum(slices.values())
    if uncut > _ROUNDING:
        left.append(Hold(uuid, uncut, slices=slices, method="none"))
    return left


def _charged(workload: Workload, holds: tuple[Hold, ...], gpus: tuple[Gpu, ...]) -> float:
    """GPUs that the workload pays for: those that it says, seen or not, else those that were found."""
    wanted = workload.gpus
    if isinstance(wanted, int):
        return wanted * workload.share
    found = sum(hold.fraction for hold in holds)
    if isinstance(wanted, tuple):
        seen = {name for g in gpus for name in (g.uuid, str(g.index), *(i.uuid for i in g.instances))}
        found += workload.share * sum(str(one) not in seen and not str(one).startswith("MIG-") for one in wanted)
    return found


def _left_to_pay(settings: Config, rest: list[Hold], claimed: set[str]) -> float:
    """Nobody's GPUs cost money too, but not where a workload counts GPUs that it does not name: it pays for these."""
    assumed = any(isinstance(workload.gpus, int) for workload in settings.workloads)
    return sum(hold.fraction for hold in rest if hold.gpu in claimed or not assumed)
