"""Loading: file, variables and flags become one checked Config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as File

from msgspec.structs import replace

from inferometer.config import flags as overlays
from inferometer.config import reader, rules, slos, tables
from inferometer.config.faults import Faults
from inferometer.config.node import Path
from inferometer.config.schema import Config, Engine, Price
from inferometer.errors import ConfigError


def load(path: str | None, flags: Mapping[str, overlays.Given], environ: Mapping[str, str]) -> Config:
    """The configuration: default < file < environment < flag.

    ``path``: the file; None takes INFEROMETER_CONFIG_FILE, and without that the flags describe one workload.
    ``flags``: values by dotted name, without dashes (``{"slo.ttft": "500ms"}``).
    Raises ConfigError with every fault as one sentence. Reads that one file; what ``*_file`` keys name stays unread.
    """
    return _loaded(path, flags, environ)[0]


def load_to_show(path: str, environ: Mapping[str, str]) -> tuple[Config, Mapping[Path, str]]:
    """Likewise of a file alone, and by path the values that hold ``$(NAME)``, as they are written."""
    config, faults = _loaded(path, {}, environ)
    return config, faults.references


def _loaded(path: str | None, flags: Mapping[str, overlays.Given], environ: Mapping[str, str]) -> tuple[Config, Faults]:
    file = path or environ.get("INFEROMETER_CONFIG_FILE") or None
    faults = Faults(file or "flags")
    root = reader.read(file, environ, faults) if file else None
    if file and root is None:
        raise ConfigError(faults.sentences())
    config: Config | None = tables.table(Config).decode(overlays.overlay(root, flags, environ, faults), (), faults)
    if config is not None:
        rules.check(config, faults)
    if config is None or faults.sentences():
        raise ConfigError(faults.sentences())
    return _resolved(config, faults, File(file or "flags").absolute().parent), faults


def _resolved(config: Config, faults: Faults, folder: File) -> Config:
    """Fill in the defaults that depend on other keys; adapters stand relative to the file's ``folder``."""
    scrape = config.scrape
    if not faults.written(("scrape", "timeout")):
        scrape = replace(scrape, timeout=min(config.interval, scrape.timeout))
    default = "default" if "default" in config.prices else None
    workloads = tuple(
        replace(
            workload,
            engines=tuple(_with_adapter(engine, folder) for engine in workload.engines),
            price=workload.price or default,
            slo=slos.resolved(workload.slo, objective=faults.written(("workloads", index, "slo", "objective"))),
        )
        for index, workload in enumerate(config.workloads)
    )
    prices = {name: _with_catalog(price, folder) for name, price in config.prices.items()}
    return replace(config, workloads=workloads, scrape=scrape, prices=prices)


def _with_catalog(price: Price, folder: File) -> Price:
    feed = price.feed
    if feed is None or feed.csv is None:
        return price
    return replace(price, feed=replace(feed, csv=str(folder / feed.csv)))


def _with_adapter(engine: Engine, folder: File) -> Engine:
    return engine if engine.adapter is None else replace(engine, adapter=str(folder / engine.adapter))
