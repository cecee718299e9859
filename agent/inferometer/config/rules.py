"""Rules between keys: each yields the path and the sentence of every fault that it finds.

They see a configuration that may have faults already: a required value may then be None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from inferometer.config import durations
from inferometer.config.faults import Faults, near
from inferometer.config.node import Path
from inferometer.config.schema import Config, Workload

Found = Iterator[tuple[Path, str]]
_ROUNDING = 1e-9


def check(config: Config, faults: Faults) -> None:
    """Add what the rules find."""
    for rule in RULES:
        for path, text in rule(config, faults):
            faults.add(path, text)


def _repeated(values: Iterable[tuple[Path, object]]) -> Iterator[tuple[Path, Path]]:
    """The path of every value that stood before, and where."""
    seen: dict[object, Path] = {}
    for path, value in values:
        if value is not None and value in seen:
            yield path, seen[value]
        seen.setdefault(value, path)


def _windows(config: Config, _: Faults) -> Found:
    windows = [(("windows", index), window) for index, window in enumerate(config.windows)]
    for path, _first in _repeated(windows):
        yield path, f"the window {durations.text(config.windows[int(path[1])])} is given twice; keep one"


def _timeout(config: Config, faults: Faults) -> Found:
    path = ("scrape", "timeout")
    if faults.written(path) and faults.clean(("interval",)) and config.scrape.timeout > config.interval:
        yield path, f"is longer than the interval of {durations.text(config.interval)}; make it shorter"


def _workload_names(config: Config, _: Faults) -> Found:
    names = [(("workloads", i, "name"), workload.name) for i, workload in _workloads(config)]
    for path, first in _repeated(names):
        yield path, f"is the name of workloads[{first[1]}] too; give each workload its own"


def _engine_urls(config: Config, _: Faults) -> Found:
    urls = [
        (("workloads", i, "engines", j, "url"), engine.url)
        for i, workload in _workloads(config)
        for j, engine in enumerate(workload.engines)
        if engine is not None
    ]
    for path, first in _repeated(urls):
        yield path, f"is an engine of workloads[{first[1]}] already; list each engine once"


def _spans(config: Config, _: Faults) -> Found:
    keys = [
        (("workloads", i, "engines", j, "spans"), tuple(sorted(engine.spans.items())) or None)
        for i, workload in _workloads(config)
        for j, engine in enumerate(workload.engines)
        if engine is not None and engine.spans is not None
    ]
    for path, first in _repeated(keys):
        where = f"workloads[{first[1]}].engines[{first[3]}]"
        yield path, f"are those of {where} too; name an attribute in which their resources differ"


def _otlp(config: Config, _: Faults) -> Found:
    otlp = config.otlp
    if otlp is not None and otlp.http is not None and otlp.http == otlp.grpc and not otlp.http.endswith(":0"):
        yield ("otlp", "grpc"), f"is the address of otlp.http too ({otlp.http}); HTTP and gRPC need a port each"


def _prices_exist(config: Config, faults: Faults) -> Found:
    for i, workload in _workloads(config):
        if workload.price is not None and not faults.written(("prices", workload.price)):
            guess = near(workload.price, config.prices)
            advice = f"did you mean {guess}?" if guess else "add it, or name one that is there"
            yield ("workloads", i, "price"), f"there is no '{workload.price}' under prices; {advice}"


def _gpu_lists(config: Config, _: Faults) -> Found:
    for i, workload in _workloads(config):
        if isinstance(workload.gpus, tuple):
            gpus = [(("workloads", i, "gpus", j), gpu) for j, gpu in enumerate(workload.gpus)]
            for path, _first in _repeated(gpus):
                yield path, f"{workload.gpus[int(path[3])]} is listed twice; keep one"


def _gpu_claims(config: Config, faults: Faults) -> Found:
    """No GPU is given away more than once; ``all`` claims every GPU that anybody lists."""
    claims: dict[object, list[tuple[int, float]]] = {}
    claiming = [(i, w) for i, w in _workloads(config) if faults.clean(("workloads", i, "share"))]
    listed = {gpu for _, w in claiming if isinstance(w.gpus, tuple) for gpu in w.gpus if gpu is not None} or {"all"}
    for i, workload in claiming:
        for gpu in dict.fromkeys(_claimed(workload, listed)):
            claims.setdefault(gpu, []).append((i, workload.share))
    reported: set[int] = set()
    for gpu, holders in claims.items():
        last, total = holders[-1][0], sum(share for _, share in holders)
        if len(holders) > 1 and total > 1 + _ROUNDING and last not in reported:
            reported.add(last)
            yield ("workloads", last, "gpus"), _overclaimed(config, gpu, holders)


def _claimed(workload: Workload, listed: Iterable[object]) -> Iterable[object]:
    if workload.gpus == "all":
        return listed
    return [gpu for gpu in workload.gpus if gpu is not None] if isinstance(workload.gpus, tuple) else ()


def _overclaimed(config: Config, gpu: object, holders: list[tuple[int, float]]) -> str:
    names = " and ".join(str(config.workloads[i].name) for i, _ in holders)
    what = "every GPU" if gpu == "all" else f"GPU {gpu}"
    if any(share == 1 for _, share in holders):
        return f"{what} is claimed by {names}; give each a share below 1, e.g. share: 0.5"
    total = sum(share for _, share in holders)
    return f"the shares of {what} in {names} add up to {total:g}; make them add up to at most 1"


def _own_adapters(config: Config, _: Faults) -> Found:
    for i, workload in _workloads(config):
        for j, engine in enumerate(workload.engines):
            if engine is not None and engine.adapter is not None and engine.engine != "auto":
                yield ("workloads", i, "engines", j, "adapter"), f"is given beside engine: {engine.engine}; keep one"


def _tls_pairs(config: Config, _: Faults) -> Found:
    for i, workload in _workloads(config):
        for j, engine in enumerate(workload.engines):
            tls = engine.tls if engine is not None else None
            if tls is not None and (tls.cert_file is None) != (tls.key_file is None):
                yield ("workloads", i, "engines", j, "tls"), "has cert_file or key_file alone; give both or neither"


def _tariffs(config: Config, _: Faults) -> Found:
    for name, price in config.prices.items():
        if not isinstance(price.gpu_hour, tuple):
            continue
        path: Path = ("prices", name, "gpu_hour")
        starts = [step.start if step is not None else None for step in price.gpu_hour]
        if not starts:
            yield path, 'is an empty list; give a number, or steps that start at "00:00"'
        elif starts[0]:
            yield (*path, 0, "from"), 'is not midnight; the first step must start at "00:00"'
        for k, (before, start) in enumerate(itertools.pairwise(starts), start=1):
            if before is not None and start is not None and start <= before:
                yield (*path, k, "from"), "is not later than the step before; put the steps in ascending order"


def _owned(config: Config, faults: Faults) -> Found:
    for name, price in config.prices.items():
        path: Path = ("prices", name, "owned")
        if price.owned is None:
            continue
        if price.owned.metered and not faults.written(("electricity", "price_per_kwh")):
            yield (*path, "metered"), "needs the price of power; give electricity.price_per_kwh"
        if price.owned.server is not None and price.owned.residual > price.owned.server:
            yield (*path, "residual"), "is more than the server cost; make it at most server"


def _feeds(config: Config, faults: Faults) -> Found:
    for name, price in config.prices.items():
        feed, path = price.feed, ("prices", name, "from")
        if feed is None:
            continue
        of_catalog = {"accelerator": feed.accelerator is not None, "spot": feed.spot}
        wrong = {"node": feed.node is not None} if feed.csv is not None else of_catalog
        for key in [key for key, given in wrong.items() if given]:
            yield (*path, key), f"is not for {'csv' if feed.csv is not None else 'opencost'}; remove it"
        if feed.csv is not None and feed.accelerator is None and feed.instance is None:
            yield path, "does not say which row of the catalog; give accelerator or instance"
        if feed.csv is not None and config.currency != "USD" and faults.clean(("currency",)):
            yield (
                (*path, "csv"),
                f"is in USD, the currency here is {config.currency}; give gpu_hour in {config.currency}",
            )


def _weights(config: Config, _: Faults) -> Found:
    weights = config.tokens.weights
    if weights.input_uncached == weights.input_cached == weights.output == 0:
        yield ("tokens", "weights"), "are all 0; give at least one token type a weight"


def _gpu_sources(config: Config, faults: Faults) -> Found:
    sources = [(("gpu", "sources", i), source) for i, source in enumerate(config.gpu.sources)]
    for path, _first in _repeated(sources):
        yield path, "is listed twice; keep one"
    if "dcgm" in config.gpu.sources and not faults.written(("gpu", "dcgm_url")):
        yield ("gpu", "sources"), "has dcgm without its page; give gpu.dcgm_url"


def _workloads(config: Config) -> Iterator[tuple[int, Workload]]:
    return ((i, workload) for i, workload in enumerate(config.workloads) if workload is not None)


RULES: tuple[Callable[[Config, Faults], Found], ...] = (
    _windows,
    _timeout,
    _workload_names,
    _engine_urls,
    _spans,
    _otlp,
    _prices_exist,
    _gpu_lists,
    _gpu_claims,
    _own_adapters,
    _tls_pairs,
    _tariffs,
    _owned,
    _feeds,
    _weights,
    _gpu_sources,
)
