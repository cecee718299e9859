"""From a configuration and the GPUs that are there to what every part needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from inferometer import config
from inferometer.adapters import Adapter, Tenants
from inferometer.app.engines import candidates
from inferometer.app.hints import hints, not_yet, spans
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
    tenants: Mapping[str, Tenants]
    hints: tuple[str, ...]


def plan(
    settings: Config,
    gpus: tuple[Gpu, ...],
    environ: Mapping[str, str],
    known: Mapping[str, tuple[Adapter, ...]] | None = None,
) -> Plan:
    """Lay out the parts. ``gpus``: all that any driver has shown so far; ``environ`` tells where we run.

    ``known``: the adapters by engine where they stay as they are; without them they are read, and ConfigError says
    what is wrong with them.
    """
    engines = [engine for workload in settings.workloads for engine in workload.engines]
    if known is None:
        known = {name_of(url): found for url, found in candidates(settings).items()}
    targets = {name_of(engine.url): _target(settings, engine, known[name_of(engine.url)]) for engine in engines}
    return Plan(
        config=settings,
        watches=tuple(
            _watch(workload, targets, _held(settings, workload, gpus, environ), _traced(settings))
            for workload in settings.workloads
        ),
        policies={workload.name: _policy(settings, workload) for workload in settings.workloads},
        targets=targets,
        adapters=known,
        tenants={
            name_of(engine.url): Tenants(engine.tenant.label, engine.tenant.allow, engine.tenant.limit)
            for engine in engines
            if engine.tenant is not None
        },
        hints=(
            *(
                hint
                for workload in settings.workloads
                for hint in hints(workload, _held(settings, workload, gpus, environ)[0])
            ),
            *spans(settings),
            *not_yet(settings),
        ),
    )


def name_of(url: str) -> str:
    """An engine's label: host:port, with the path where it is not the usual one; a recording's source as it is."""
    if url.startswith(_RECORDING):
        return url.removeprefix(_RECORDING)
    parts = urlsplit(url)
    path = "" if parts.path in {"", "/", "/metrics"} else parts.path
    return parts.netloc.rpartition("@")[2] + path


def _target(settings: Config, engine: Engine, found: tuple[Adapter, ...]) -> Target:
    tls = engine.tls
    return Target(
        name=name_of(engine.url),
        url=_page_of(engine, found),
        timeout_seconds=settings.scrape.timeout,
        max_page_bytes=settings.scrape.max_page_bytes,
        bearer_token_file=engine.bearer_token_file or "",
        ca_file=tls.ca_file or "",
        cert_file=tls.cert_file or "",
        key_file=tls.key_file or "",
        server_name=tls.server_name or "",
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def _page_of(engine: Engine, found: tuple[Adapter, ...]) -> str:
    """The address to read: an engine that is named and has its page elsewhere is not asked at /metrics."""
    parts = urlsplit(engine.url)
    if len(found) != 1 or parts.path != "/metrics" or parts.scheme not in {"http", "https"}:
        return engine.url
    return parts._replace(path=found[0].endpoint.path).geturl()


def _policy(settings: Config, workload: Workload) -> Policy:
    weights = settings.tokens.weights
    thresholds, models = workload.slo.thresholds, config.slos.by_model(workload.slo)
    electricity = settings.electricity
    return Policy(
        workload=workload.name,
        price=config.costs.workload_price(settings, workload),
        electricity=config.costs.electricity(electricity),
        pue=electricity.pue if electricity is not None else 1.0,
        carbon_grams_per_kwh=settings.carbon.grams_per_kwh if settings.carbon is not None else None,
        training=config.costs.training(workload.training),
        rates=(workload.rates.prefill, workload.rates.decode) if workload.rates is not None else None,
        slo=Slo(thresholds, workload.slo.objective, models) if thresholds or any(models.values()) else None,
        budget=config.costs.budget(workload.budget),
        weights={
            "input_uncached": weights.input_uncached,
            "input_cached": weights.input_cached,
            "output": weights.output,
        },
    )


def _watch(
    workload: Workload, targets: Mapping[str, Target], holds: tuple[float, frozenset[str]], traced: frozenset[str]
) -> Watch:
    held, uuids = holds
    given = sum(engine.gpus or 0 for engine in workload.engines) * workload.share
    workers = [engine for engine in workload.engines if engine.role != "frontend"]
    rest = [engine for engine in workers or workload.engines if engine.gpus is None]
    each = max(0.0, held - given) / len(rest) if rest else 0.0
    members = tuple(
        Watched(
            engine=name_of(engine.url),
            gpus=engine.gpus * workload.share if engine.gpus is not None else each if engine in rest else 0.0,
            source=public_url(targets[name_of(engine.url)].url.removeprefix(_RECORDING)),
            role=engine.role,
            traced=engine.url in traced,
        )
        for engine in workload.engines
    )
    limits = {"": workload.slo.thresholds, **config.slos.by_model(workload.slo)}
    return Watch(workload.name, members, gpus=held, uuids=uuids, share=workload.share, limits=limits)


def _traced(settings: Config) -> frozenset[str]:
    """The engines that spans may come from: those that say which are theirs, else the one that counts requests."""
    if settings.otlp is None:
        return frozenset()
    engines = [engine for workload in settings.workloads for engine in workload.engines]
    keyed = [engine for engine in engines if engine.spans]
    if not keyed and len(settings.workloads) == 1 and engines:
        keyed = [counting(engines)]
    return frozenset(engine.url for engine in keyed)


def counting(engines: Sequence[Engine]) -> Engine:
    """The engine whose page counts the requests of its workload: the frontend, else the first that is no prefill."""
    order = {"frontend": 0, "both": 1, "decode": 1, "prefill": 2}
    return min(engines, key=lambda engine: order[engine.role])


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
