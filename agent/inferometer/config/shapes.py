"""Kinds that hold others: lists, mappings, tables of keys, alternatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from inferometer.config.faults import Faults, near
from inferometer.config.kinds import Choice, Json, Kind, Scalar
from inferometer.config.node import Node, Path

_SECRETS = dict.fromkeys(("token", "password", "api_key", "authorization", "headers"), "bearer_token_file")


REFERENCE: Json = {
    "type": "string",
    "pattern": r"\$\([^()]*\)",
    "description": "Holds $(NAME) from the environment",
}


class Row(Struct, frozen=True):
    """One key of a table: the attribute it fills, its kind, what it means, and its default if it may be left out."""

    name: str
    attribute: str
    kind: Kind
    help: str
    required: bool
    default: Any


class List(Kind, frozen=True):
    """A list of one kind; a faulty item is None, so that the others keep their index."""

    item: Kind

    def _noun(self) -> str:
        if isinstance(self.item, Table):
            return f"a list (each with {' and '.join(row.name for row in self.item.rows.values() if row.required)})"
        return f"a list (each: {self.item.noun})"

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        if isinstance(node.value, str | Mapping):
            faults.add(path, self.refusal(node))
            return None
        return tuple(self.item.decode(item, (*path, index), faults) for index, item in enumerate(node.value))

    def _schema(self) -> Json:
        return {"type": "array", "items": written(self.item)}

    def _show(self, value: Any) -> Any:
        return [self.item.show(item) for item in value]


class Map(Kind, frozen=True):
    """A mapping of free names to one kind; a faulty value is left out."""

    item: Kind

    def _noun(self) -> str:
        return "a mapping of names" if isinstance(self.item, Table) else f"a mapping (each value: {self.item.noun})"

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        if not isinstance(node.value, Mapping):
            faults.add(path, self.refusal(node))
            return None
        decoded = {key: self.item.decode(child, (*path, key), faults) for key, child in node.value.items()}
        return {key: value for key, value in decoded.items() if value is not None}

    def _schema(self) -> Json:
        return {"type": "object", "additionalProperties": written(self.item)}

    def _show(self, value: Any) -> Any:
        return {key: self.item.show(item) for key, item in value.items()}


class Table(Kind, frozen=True):
    """A mapping of known keys that fills a Struct; of the keys ``exactly_one``, if any, one must be given."""

    name: str
    meaning: str
    fill: Callable[..., Struct]
    rows: Mapping[str, Row]
    exactly_one: tuple[str, ...] = ()

    def _noun(self) -> str:
        return f"a mapping with the keys {', '.join(self.rows)}"

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        given = node.value
        if not isinstance(given, Mapping):
            faults.add(path, self.refusal(node))
            return None
        for key in [key for key in given if key not in self.rows]:
            faults.place((*path, key), given[key].origin)
            faults.add((*path, key), _unknown(key, self.rows))
        self._choose(given, path, faults)
        values = {row.attribute: _value(row, given, path, faults) for row in self.rows.values()}
        return self.fill(**values)

    def _choose(self, given: Mapping[str, Node], path: Path, faults: Faults) -> None:
        chosen = [name for name in self.exactly_one if name in given]
        if self.exactly_one and not chosen:
            faults.add(path, f"has neither {' nor '.join(self.exactly_one)}; give one of them")
        if len(chosen) > 1:
            faults.add(path, f"has {' and '.join(chosen)}; give only one of them")

    def _schema(self) -> Json:
        return {"$ref": f"#/$defs/{self.name}"}

    def _show(self, value: Any) -> Any:
        pairs = ((row, getattr(value, row.attribute)) for row in self.rows.values())
        return {row.name: row.kind.show(item) for row, item in pairs if item is not None}


class Either(Kind, frozen=True):
    """One of several kinds, told apart by the value's shape; single values come first."""

    kinds: tuple[Kind, ...]

    def _noun(self) -> str:
        return ", or ".join(kind.noun for kind in self.kinds)

    def _decode(self, node: Node, path: Path, faults: Faults) -> Any:
        text = self.refusal(node)
        for kind in self.kinds:
            if _fits(kind, node):
                return kind.decode(node, path, faults)
            if isinstance(kind, Scalar):
                try:
                    return kind.read(node)
                except ValueError as error:  # what one kind has to add is worth more than what all are called
                    text = text if str(error) == kind.refusal(node) else str(error)
        faults.add(path, text)
        return None

    def _schema(self) -> Json:
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def _show(self, value: Any) -> Any:
        return next(kind for kind in self.kinds if _holds(kind, value)).show(value)


def written(kind: Kind) -> Json:
    """The JSON schema of a kind as a file has it: instead of a single value, ``$(NAME)`` may stand."""
    schema = kind.schema()
    is_open = isinstance(kind, Table | Map | List) or schema == {"type": "string"}
    return schema if is_open else {"anyOf": [schema, {"$ref": "#/$defs/Reference"}]}


def _value(row: Row, given: Mapping[str, Node], path: Path, faults: Faults) -> Any:
    value = None
    if row.name in given:
        value = row.kind.decode(given[row.name], (*path, row.name), faults)
    elif row.required:
        faults.add((*path, row.name), f"is missing; give {row.kind.noun}")
    return row.default if value is None else value


def _unknown(key: str, rows: Mapping[str, Row]) -> str:
    file = f"{key}_file" if f"{key}_file" in rows else _SECRETS.get(key, "")
    if file in rows:
        return f"is never given inline; write it to a file and give {file}"
    guess = near(key, rows)
    return f"unknown key; did you mean {guess}?" if guess else f"unknown key; known here: {', '.join(rows)}"


def _fits(kind: Kind, node: Node) -> bool:
    if isinstance(node.value, str):
        return False
    return isinstance(kind, Table | Map) if isinstance(node.value, Mapping) else isinstance(kind, List)


def _holds(kind: Kind, value: Any) -> bool:
    """Whether ``value`` is shown by ``kind``: structs by tables, tuples by lists, words by their choice."""
    if isinstance(value, Struct):
        return isinstance(kind, Table)
    if isinstance(value, tuple):
        return isinstance(kind, List)
    return isinstance(kind, Scalar) and (not isinstance(kind, Choice) or value in kind.words)
