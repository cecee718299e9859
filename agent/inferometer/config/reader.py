"""The reader: a YAML file becomes a tree of nodes; nothing is constructed, so every line stays exact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as File

import yaml

from inferometer.composed import TooManyError, compose
from inferometer.config.faults import Faults
from inferometer.config.node import Node, Origin, Path

_REFERENCE = re.compile(r"\$\(([^()]*)\)")
_STANDARD = "tag:yaml.org,2002:"
_FORMS = {"int": "number", "float": "number", "bool": "switch", "null": "null"}


def read(file: str, environ: Mapping[str, str] | None, faults: Faults) -> Node | None:
    """The tree of a file, ``$(NAME)`` filled in unless ``environ`` is None; an empty file is an empty mapping.

    None where it cannot be read.
    """
    try:
        text = File(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        faults.add((), f"cannot be read: {error.strerror}; check the path")
        return None
    except UnicodeDecodeError:
        faults.add((), "is not UTF-8 text; save it as UTF-8")
        return None
    try:
        root = compose(text)
        node = None if root is None else _Reader(file, environ, faults).node(root, ())
        return Node({}, Origin(file)) if node is None or node.form == "null" else node
    except TooManyError as error:
        faults.add_at(Origin(file), f"{error}; write them where they are needed")
    except yaml.YAMLError as error:
        line, problem = _problem(error, text)
        faults.add_at(Origin(file, line), f"is not valid YAML: {problem}; check indentation, colons and quotes")
    except RecursionError:
        faults.add_at(Origin(file), "is nested too deeply; make it flatter")
    return None


def _problem(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        second = isinstance(error, yaml.composer.ComposerError) and error.context
        return error.problem_mark.line + 1, "a second document begins" if second else str(error.problem)
    position = getattr(error, "position", 0)
    return text.count("\n", 0, position) + 1, "a character that is not allowed"


class _Reader:
    """Turns the nodes of one file into ours."""

    def __init__(self, file: str, environ: Mapping[str, str] | None, faults: Faults) -> None:
        self._file = file
        self._environ = environ
        self._faults = faults
        self._open: set[int] = set()

    def node(self, raw: yaml.Node, path: Path, key: yaml.Node | None = None) -> Node:
        """The tree below ``raw``; the value of a key stands in the line of its key."""
        origin = self._origin(key or raw)
        self._faults.place(path, origin)
        if not raw.tag.startswith(_STANDARD):
            self._faults.add(path, f"has the tag {raw.tag}, which means nothing here; remove it")
        if isinstance(raw, yaml.ScalarNode):
            return self._scalar(raw, path, origin)
        inside = self._inside(raw, path)
        return Node("", origin, "unset") if inside is None else Node(inside, origin)

    def _inside(self, raw: yaml.Node, path: Path) -> list[Node] | dict[str, Node] | None:
        if id(raw) in self._open:
            self._faults.add(path, "contains itself; write it out without the alias")
            return None
        self._open.add(id(raw))
        inside = self._mapping(raw, path) if isinstance(raw, yaml.MappingNode) else self._list(raw, path)
        self._open.discard(id(raw))
        return inside

    def _scalar(self, raw: yaml.ScalarNode, path: Path, origin: Origin) -> Node:
        environ = self._environ
        names = _REFERENCE.findall(raw.value) if environ is not None else []
        if environ is None or not names:
            form = _FORMS.get(raw.tag.removeprefix(_STANDARD), "text" if raw.style else "open")
            return Node(raw.value, origin, form)
        unset = [name for name in dict.fromkeys(names) if name not in environ]
        for name in unset:
            problem = f"the environment variable {name} is not set; set it, or write the value here"
            self._faults.add(
                path, problem if name.isidentifier() else f"has $({name}), which names no variable; remove it"
            )
        text = _REFERENCE.sub(lambda match: environ.get(match[1], ""), raw.value)
        self._faults.refer(path, raw.value)
        return Node(text, origin, "unset" if unset else "open", raw.value)

    def _list(self, raw: yaml.Node, path: Path) -> list[Node]:
        return [self.node(item, (*path, index)) for index, item in enumerate(raw.value)]

    def _mapping(self, raw: yaml.MappingNode, path: Path) -> dict[str, Node]:
        own: dict[str, Node] = {}
        for key, value in self._pairs(raw):
            if key.value in own:
                line = own[key.value].origin.line
                text = f"is given twice, first in line {line}; keep one"
                self._faults.place((*path, key.value), self._origin(key))
                self._faults.add((*path, key.value), text)
            else:
                own[key.value] = self.node(value, (*path, key.value), key)
        return self._merged(raw, path) | own

    def _pairs(self, raw: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode):
                self._faults.add_at(self._origin(key), "has a list or mapping as a key; a key must be a word")
            elif not _is_merge(key):
                yield key, value

    def _merged(self, raw: yaml.MappingNode, path: Path) -> dict[str, Node]:
        """What ``<<: *anchor`` brings in; keys of the mapping's own win."""
        merged: dict[str, Node] = {}
        for key, source in _merges(raw):
            inside = self._inside(source, path) if isinstance(source, yaml.MappingNode) else None
            if isinstance(inside, dict):
                merged = inside | merged
            else:
                self._faults.add_at(
                    self._origin(key), "merges what is no mapping; name the anchor of a mapping after <<"
                )
        return merged

    def _origin(self, raw: yaml.Node) -> Origin:
        return Origin(self._file, raw.start_mark.line + 1)


def _is_merge(key: yaml.Node) -> bool:
    return key.tag == _STANDARD + "merge"


def _merges(raw: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    for key, value in raw.value:
        if _is_merge(key):
            yield from ((key, source) for source in (value.value if isinstance(value, yaml.SequenceNode) else [value]))
