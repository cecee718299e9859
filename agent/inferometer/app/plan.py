"""From a configuration and the GPUs that are there to what every part needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from inferometer import config
from inferometer.adapters import Adapter, Tenants
from inferometer.app.engines import candidates
from inferometer.app.hints import hints, spans
from inferometer.app.holdings import UNATTRIBUTED, Ownership, ownership
from inferometer.config import Config, Engine, Workload
from inferometer.economics import Policy, Slo
from inferometer.interval import Assumed, Room, Watch, Watched
from inferometer.model import Gpu, Holdings
from inferometer.sources import public_url
from inferometer.sources.scrape import Target

_RECORDING = "recording:"


class Plan(Struct, frozen=True):
    """What follows from a configuration: by workload its watch and policy, by engine its target and adapters.

    ``exporter``: the page that tells of GPUs; ``assumed``: what the owner says of power.
    """

    config: Config
    watches: tuple[Watch, ...]
    policies: Mapping[str, Policy]
    assumed: Assumed
    targets: Mapping[str, Target]
    exporter: Target | None
    adapters: Mapping[str, tuple[Adapter, ...]]
    tenants: Mapping[str, Tenants]
    hints: tuple[str, ...]


def plan(  # noqa: PLR0913, PLR0917 - all that a plan follows from
    settings: Config,
    gpus: tuple[Gpu, ...],
    environ: Mapping[str, str],
    known: Mapping[str, tuple[Adapter, ...]] | None = None,
    kubelet: Holdings | None = None,
    since: Mapping[str, float] | None = None,
) -> Plan:
    """Lay out the parts. ``gpus``: all that any source has shown so far; ``environ`` tells where we run.

    ``since``: by engine that was found, the steady time since when it could not have come unseen.

    ``known``: the adapters by engine where they stay as they are; without them they are read, and ConfigError says
    what is wrong with them.
    """
    engines = [engine for workload in settings.workloads for engine in workload.engines]
    if known is None:
        found = candidates(settings)
        known = {label(engine): found[engine.url] for engine in engines}
    targets = {label(engine): _target(settings, engine, known[label(engine)]) for engine in engines}
    owned = ownership(settings, gpus, environ, kubelet)
    policies = {workload.name: _policy(settings, workload) for workload in settings.workloads}
    return Plan(
        config=settings,
        watches=_watches(settings, targets, owned, since or {}),
        policies=policies | {UNATTRIBUTED: _nobody(settings)},
        assumed=Assumed(
            settings.gpu.idle_watts, settings.host.watts if settings.host is not None else None, settings.gpu.sources
        ),
        targets=targets,
        exporter=_exporter(settings),
        adapters=known,
        tenants={
            label(engine): Tenants(engine.tenant.label, engine.tenant.allow, engine.tenant.limit)
            for engine in engines
            if engine.tenant is not None
        },
        hints=(
            *(hint for workload in settings.workloads for hint in hints(workload, owned.charged[workload.name])),
            *owned.faults,
            *spans(settings),
        ),
    )


def room(settings: Config) -> Room:
    """For how many series there is room."""
    return Room(settings.limits.series, settings.limits.all_series)


def label(engine: Engine) -> str:
    """An engine's label: its own name, else what its address says."""
    return engine.name or name_of(engine.url)


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
        name=label(engine),
        url=_page_of(engine, found),
        timeout_seconds=settings.scrape.timeout,
        max_page_bytes=settings.scrape.max_page_bytes,
        max_page_series=settings.scrape.max_page_series,
        bearer_token_file=engine.bearer_token_file or "",
        ca_file=tls.ca_file or "",
        cert_file=tls.cert_file or "",
        key_file=tls.key_file or "",
        server_name=tls.server_name or "",
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def _exporter(settings: Config) -> Target | None:
    """The page of dcgm-exporter, where GPUs are read from it."""
    url = settings.gpu.dcgm_url
    if url is None or "dcgm" not in settings.gpu.sources:
        return None
    scrape = settings.scrape
    return Target("dcgm", url, scrape.timeout, scrape.max_page_bytes, scrape.max_page_series)


def _page_of(engine: Engine, found: tuple[Adapter, ...]) -> str:
    """The address to read: an engine that is named and has its page elsewhere is not asked at /metrics."""
    parts = urlsplit(engine.url)
    if len(found) != 1 or parts.path != "/metrics" or parts.scheme not in {"http", "https"}:
        return engine.url
    return parts._replace(path=found[0].endpoint.path).geturl()


def _policy(settings: Config, workload: Workload) -> Policy:
    weights = settings.tokens.weights
    thresholds, models = workload.slo.thresholds, config.slos.by_model(workload.slo)
    return Policy(
        workload=workload.name,
        price=config.costs.workload_price(settings, workload),
        **_grid(settings),
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
    workload: Workload,
    targets: Mapping[str, Target],
    owned: Ownership,
    since: Mapping[str, float],
    traced: frozenset[str],
) -> Watch:
    held, holds = owned.charged[workload.name], owned.holds[workload.name]
    given = sum(engine.gpus or 0 for engine in workload.engines) * workload.share
    workers = [engine for engine in workload.engines if engine.role != "frontend"]
    rest = [engine for engine in workers or workload.engines if engine.gpus is None]
    each = max(0.0, held - given) / len(rest) if rest else 0.0
    members = tuple(
        Watched(
            engine=label(engine),
            gpus=engine.gpus * workload.share if engine.gpus is not None else each if engine in rest else 0.0,
            source=public_url(targets[label(engine)].url.removeprefix(_RECORDING)),
            role=engine.role,
            since=since.get(label(engine)),
            traced=engine.url in traced,
        )
        for engine in workload.engines
    )
    limits = {"": workload.slo.thresholds, **config.slos.by_model(workload.slo)}
    return Watch(workload.name, members, gpus=held, holds=holds, limits=limits)


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


def _watches(
    settings: Config, targets: Mapping[str, Target], owned: Ownership, since: Mapping[str, float]
) -> tuple[Watch, ...]:
    """Every workload's, and one for what nobody holds."""
    watches = [_watch(w, targets, owned, since, _traced(settings)) for w in settings.workloads]
    if UNATTRIBUTED in owned.holds:
        watches.append(Watch(UNATTRIBUTED, (), owned.charged[UNATTRIBUTED], owned.holds[UNATTRIBUTED]))
    return tuple(watches)


def _nobody(settings: Config) -> Policy:
    """What nobody holds costs the default price, if there is one."""
    default = settings.prices.get("default")
    return Policy(
        workload=UNATTRIBUTED,
        price=config.costs.price(default) if default is not None else None,
        **_grid(settings),
    )


def _grid(settings: Config) -> dict[str, Any]:
    """What energy costs money, air and water; the same for every workload."""
    electricity, carbon, water = settings.electricity, settings.carbon, settings.water
    return {
        "electricity": config.costs.electricity(electricity),
        "pue": electricity.pue if electricity is not None else None,
        "carbon_grams_per_kwh": carbon.grams_per_kwh if carbon is not None else None,
        "water_liters_per_kwh": water.liters_per_kwh if water is not None else None,
    }
