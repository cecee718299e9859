"""From a configuration and the GPUs that are there to what every part needs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from inferometer import adapters, config
from inferometer.adapters import Adapter
from inferometer.config import Config, Engine, Workload
from inferometer.economics import Policy, Slo
from inferometer.interval import Watch, Watched
from inferometer.model import Gpu
from inferometer.sources import public_url
from inferometer.sources.scrape import Target

_RECORDING = "recording:"


class Plan(Struct, frozen=True):
    """What follows from a configuration: by workload its watch and policy, by engine its target and adapters."""

    config: Config
    watches: tuple[Watch, ...]
    policies: Mapping[str, Policy]
    targets: Mapping[str, Target]
    adapters: Mapping[str, tuple[Adapter, ...]]
    hints: tuple[str, ...]


def plan(settings: Config, gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> Plan:
    """Lay out the parts. ``gpus``: all that any driver has shown so far; ``environ`` tells where we run."""
    known = adapters.builtin()
    engines = [engine for workload in settings.workloads for engine in workload.engines]
    every = tuple(known.values())
    return Plan(
        config=settings,
        watches=tuple(_watch(settings, workload, gpus, environ) for workload in settings.workloads),
        policies={workload.name: _policy(settings, workload) for workload in settings.workloads},
        targets={name_of(engine.url): _target(settings, engine) for engine in engines},
        adapters={
            name_of(engine.url): every if engine.engine not in known else (known[engine.engine],) for engine in engines
        },
        hints=(
            *(hint for workload in settings.workloads for hint in _hints(settings, workload, gpus, environ)),
            *_not_yet(settings),
        ),
    )


def name_of(url: str) -> str:
    """An engine's label: host:port, with the path where it is not the usual one; a recording's source as it is."""
    if url.startswith(_RECORDING):
        return url.removeprefix(_RECORDING)
    parts = urlsplit(url)
    path = "" if parts.path in {"", "/", "/metrics"} else parts.path
    return parts.netloc.rpartition("@")[2] + path


def _target(settings: Config, engine: Engine) -> Target:
    tls = engine.tls
    return Target(
        name=name_of(engine.url),
        url=engine.url,
        timeout_seconds=settings.scrape.timeout,
        max_page_bytes=settings.scrape.max_page_bytes,
        bearer_token_file=engine.bearer_token_file or "",
        ca_file=tls.ca_file or "",
        cert_file=tls.cert_file or "",
        key_file=tls.key_file or "",
        server_name=tls.server_name or "",
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def _policy(settings: Config, workload: Workload) -> Policy:
    weights = settings.tokens.weights
    thresholds = workload.slo.thresholds
    electricity = settings.electricity
    return Policy(
        workload=workload.name,
        price=config.costs.workload_price(settings, workload),
        electricity=config.costs.electricity(electricity),
        pue=electricity.pue if electricity is not None else 1.0,
        carbon_grams_per_kwh=settings.carbon.grams_per_kwh if settings.carbon is not None else None,
        training=config.costs.training(workload.training),
        slo=Slo(thresholds, workload.slo.objective) if thresholds else None,
        weights={
            "input_uncached": weights.input_uncached,
            "input_cached": weights.input_cached,
            "output": weights.output,
        },
    )


def _watch(settings: Config, workload: Workload, gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> Watch:
    held, uuids = _held(settings, workload, gpus, environ)
    given = sum(engine.gpus or 0 for engine in workload.engines)
    rest = [engine for engine in workload.engines if engine.gpus is None and engine.role != "frontend"]
    each = max(0.0, held - given) / len(rest) if rest else 0.0
    members = tuple(
        Watched(
            engine=name_of(engine.url),
            gpus=float(engine.gpus) if engine.gpus is not None else each if engine in rest else 0.0,
            source=public_url(engine.url.removeprefix(_RECORDING)),
        )
        for engine in workload.engines
    )
    return Watch(workload.name, members, gpus=held, uuids=uuids, share=workload.share)


def _held(
    settings: Config, workload: Workload, gpus: tuple[Gpu, ...], environ: Mapping[str, str]
) -> tuple[float, frozenset[str]]:
    """How many GPUs a workload holds (a share of one is a fraction), and which of those that are read."""
    wanted = workload.gpus
    if isinstance(wanted, int):
        return wanted * workload.share, frozenset()
    if isinstance(wanted, tuple):
        uuids = {gpu.uuid for gpu in gpus if gpu.uuid in wanted or gpu.index in wanted or str(gpu.index) in wanted}
        return len(wanted) * workload.share, frozenset(uuids)
    if wanted == "all" or (wanted == "auto" and _owns_the_box(settings, environ)):
        return len(gpus) * workload.share, frozenset(gpu.uuid for gpu in gpus)
    return 0.0, frozenset()


def _owns_the_box(settings: Config, environ: Mapping[str, str]) -> bool:
    """One workload on a plain machine has all GPUs that it sees; in a pod only labels tell whose a GPU is."""
    alone = sum(workload.gpus == "auto" for workload in settings.workloads) == 1
    return alone and "KUBERNETES_SERVICE_HOST" not in environ


def _hints(settings: Config, workload: Workload, gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> list[str]:
    """What is missing for numbers that people expect, each with the way to have it."""
    hints = []
    name = workload.name
    if workload.price is None:
        hints.append(f"{name}: no price configured, so no cost: add --price.gpu-hour 2.50 or prices.default")
    held, _ = _held(settings, workload, gpus, environ)
    if held == 0 and workload.gpus != "none" and not any(engine.gpus for engine in workload.engines):
        hints.append(f"{name}: no GPU found, so no GPU time and no cost: add --gpus N to count N GPUs as held")
    if not workload.slo.thresholds:
        hints.append(f"{name}: no SLO configured, so no goodput: add --slo.ttft 500ms --slo.tpot 50ms --slo.e2e 10s")
    return hints


def _not_yet(settings: Config) -> list[str]:
    """Keys that are valid and that this version does not act on: silence would look like a zero."""
    workloads = settings.workloads
    ignored = {
        "otlp": settings.otlp is not None,
        "gpu.dcgm_url": "dcgm" in settings.gpu.sources,
        "workloads[].budget": any(workload.budget for workload in workloads),
        "workloads[].training.over_tokens": any(w.training and w.training.over_tokens for w in workloads),
        "engines[].role": any(engine.role != "both" for workload in workloads for engine in workload.engines),
    }
    return [f"{key}: this version does not act on it yet" for key, there in ignored.items() if there]
