"""Flags and variables: the table that the command line is built from, and how their values lie over a file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from inferometer.config.faults import Faults, near
from inferometer.config.node import Node, Origin

Given = str | Sequence[str]
_Tree = dict[str, Node]


class Flag(Struct, frozen=True):
    """One flag; ``keys`` leads to the value that it sets. A ``switch`` stands alone, and its variable says true."""

    name: str
    metavar: str
    help: str
    keys: tuple[str, ...] = ()
    repeatable: bool = False
    switch: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that does the same."""
        return "INFEROMETER_" + self.name.upper().replace(".", "_").replace("-", "_")


ENGINE_URL = Flag("engine.url", "URL", "metrics page of an engine", repeatable=True)
WORKLOAD = Flag("workload", "NAME", "name of the one workload that flags describe (default: default)", ("name",))
GPUS = Flag("gpus", "auto|all|none|N|UUID,…", "GPUs of every workload (default: auto)", ("gpus",))
PRICE = Flag("price.gpu-hour", "MONEY", "price of one GPU-hour; sets prices.default", ("prices", "default"))
GPU_SOURCES = Flag("gpu.sources", "nvml,dcgm", "where GPU telemetry comes from (default: nvml)", ("gpu", "sources"))
SLOS = (
    Flag("slo.ttft", "DURATION", "limit of the time to first token, e.g. 500ms", ("slo", "ttft")),
    Flag("slo.tpot", "DURATION", "limit of the time per output token, e.g. 50ms", ("slo", "tpot")),
    Flag("slo.e2e", "DURATION", "limit of the whole request, e.g. 10s", ("slo", "e2e")),
    Flag("slo.objective", "RATIO", "share of requests that shall be good (default: 0.95)", ("slo", "objective")),
)
GENERAL = (
    Flag("interval", "DURATION", "how often sources are read (default: 5s)", ("interval",)),
    Flag(
        "web.listen-address", "ADDRESS", "address of page, metrics and API (default: :10110)", ("web", "listen_address")
    ),
    Flag("web.config.file", "FILE", "TLS, client certificates and passwords of these pages", ("web", "config_file")),
    Flag(
        "web.enable-lifecycle",
        "",
        "take POST /-/reload and POST /-/release (default: SIGHUP alone reloads)",
        ("web", "enable_lifecycle"),
        switch=True,
    ),
    Flag(
        "storage.path", "DIR", "directory of the ledger (default: none, totals are kept in memory)", ("storage", "path")
    ),
    GPU_SOURCES,
    Flag("gpu.dcgm-url", "URL", "page of dcgm-exporter, for the source dcgm", ("gpu", "dcgm_url")),
    Flag("log.level", "LEVEL", "debug, info, warning or error (default: info)", ("log", "level")),
    Flag("log.format", "FORMAT", "logfmt or json (default: logfmt)", ("log", "format")),
)
FLAGS = (ENGINE_URL, WORKLOAD, GPUS, PRICE, *SLOS, *GENERAL)
"""Every flag that sets a key, in the order of the help text."""


def overlay(root: Node | None, given: Mapping[str, Given], environ: Mapping[str, str], faults: Faults) -> Node:
    """The file's tree (None: no file) with variables laid over it, and flags over those."""
    nodes = _chosen(given, environ, faults)
    origin = root.origin if root else Origin("flags")
    if root is not None and not isinstance(root.value, Mapping):
        return root
    tree = dict(root.value) if root is not None and isinstance(root.value, Mapping) else {}
    for flag in GENERAL:
        _put(tree, flag.keys, nodes.get(flag.name))
    if PRICE.name in nodes:
        _put(tree, PRICE.keys, Node({"gpu_hour": nodes[PRICE.name]}, nodes[PRICE.name].origin))
    workloads = tree.get("workloads")
    if workloads is not None and workloads.value:
        _adjust(tree, workloads, nodes, faults)
    elif root is None or any(flag.name in nodes for flag in (ENGINE_URL, WORKLOAD, GPUS, *SLOS)):
        tree["workloads"] = Node([_workload(nodes)], origin)
    return Node(tree, origin)


def _chosen(given: Mapping[str, Given], environ: Mapping[str, str], faults: Faults) -> _Tree:
    """The value of every flag that is given, or else of its variable; an empty variable counts as unset."""
    known = [flag.name for flag in FLAGS]
    for name in [name for name in given if name not in known]:
        guess = near(name, known)
        faults.add_at(Origin(f"--{name}"), f"unknown flag; did you mean --{guess}?" if guess else "unknown flag")
    nodes: _Tree = {}
    for flag in FLAGS:
        if given.get(flag.name):
            nodes[flag.name] = _node(flag, given[flag.name], Origin(f"--{flag.name}"))
        elif environ.get(flag.variable):
            nodes[flag.name] = _node(flag, environ[flag.variable], Origin(flag.variable))
    return nodes


def _node(flag: Flag, given: Given, origin: Origin) -> Node:
    if flag is ENGINE_URL:
        urls = _words(given) if isinstance(given, str) else given
        return Node([Node({"url": Node(url, origin)}, origin) for url in urls], origin)
    text = given if isinstance(given, str) else given[-1]
    if flag is GPU_SOURCES:
        return Node([Node(word, origin) for word in _words(text)], origin)
    if flag is GPUS and ("," in text or text.startswith(("GPU-", "MIG-"))):
        return Node([Node(word, origin) for word in _words(text)], origin)
    return Node(text, origin)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _put(tree: _Tree, keys: Sequence[str], node: Node | None) -> None:
    """Set a value; what is no mapping on the way stays, for the decoder to report."""
    if node is None:
        return
    key, *rest = keys
    if not rest:
        tree[key] = node
        return
    inner = tree.get(key, Node({}, node.origin))
    if isinstance(inner.value, Mapping):
        branch = dict(inner.value)
        _put(branch, rest, node)
        tree[key] = Node(branch, inner.origin)


def _workload(nodes: _Tree) -> Node:
    origin = Origin("flags")
    tree: _Tree = {"name": Node("default", origin)}
    if ENGINE_URL.name in nodes:
        tree["engines"] = nodes[ENGINE_URL.name]
    for flag in (WORKLOAD, GPUS, *SLOS):
        _put(tree, flag.keys, nodes.get(flag.name))
    return Node(tree, origin)


def _adjust(tree: _Tree, workloads: Node, nodes: _Tree, faults: Faults) -> None:
    """Lay flags over every workload of a file; what would be ambiguous there is a fault."""
    for flag, what in ((ENGINE_URL, "engines"), (WORKLOAD, "the names of workloads")):
        if node := nodes.get(flag.name):
            text = f"the file has workloads; give {what} in the file or as {node.origin.name}, not both"
            faults.add_at(node.origin, text)
    if isinstance(workloads.value, str | Mapping):
        return
    tree["workloads"] = Node([_adjusted(workload, nodes) for workload in workloads.value], workloads.origin)


def _adjusted(workload: Node, nodes: _Tree) -> Node:
    if not isinstance(workload.value, Mapping):
        return workload
    branch = dict(workload.value)
    for flag in (GPUS, *SLOS):
        _put(branch, flag.keys, nodes.get(flag.name))
    return Node(branch, workload.origin)
