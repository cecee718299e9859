"""The web configuration file: the format of Prometheus's exporter-toolkit, which ``promtool check web-config`` knows.

What the toolkit takes and we refuse is refused with a sentence that says why; docs/security.md has the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from inferometer.config import reader, tables
from inferometer.config.faults import Faults
from inferometer.config.node import Node
from inferometer.errors import ConfigError
from inferometer.web import rules
from inferometer.web.schema import WebFile


def read(path: str) -> tuple[WebFile, Faults]:
    """The file, and where each of its keys is written. Raises ConfigError with every fault that the file itself has."""
    faults = Faults(path)
    root = reader.read(path, None, faults)
    if root is None:
        raise ConfigError(faults.sentences())
    file: WebFile | None = tables.table(WebFile).decode(_given(root), (), faults)
    if file is not None:
        for where, text in rules.check(file, faults):
            faults.add(where, text)
    if file is None or faults.sentences():
        raise ConfigError(faults.sentences())
    return _resolved(file, Path(path).absolute().parent), faults


def _given(node: Node) -> Node:
    """Without the keys that have no value: as in the toolkit these are as good as left out."""
    if not isinstance(node.value, Mapping):
        return node
    return Node({key: _given(value) for key, value in node.value.items() if value.form != "null"}, node.origin)


def _resolved(file: WebFile, folder: Path) -> WebFile:
    tls = file.tls_server_config
    if tls is None:
        return file
    paths = {name: getattr(tls, name) for name in ("cert_file", "key_file", "client_ca_file")}
    joined = {name: str(folder / path) for name, path in paths.items() if path is not None}
    return replace(file, tls_server_config=replace(tls, **joined))
