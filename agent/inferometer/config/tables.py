"""Annotations: the kind of value that a Struct or a type annotation means."""

from __future__ import annotations

import functools
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from inferometer.config.kinds import Choice, Kind, Number, Switch, Text
from inferometer.config.shapes import Either, List, Map, Row, Table

_PLAIN: dict[type, Kind] = {str: Text(), float: Number(), int: Number(whole=True), bool: Switch()}


@functools.cache
def table(struct: type[Struct]) -> Table:
    """The keys of a Struct: types, ``Annotated`` kinds and texts, defaults; ``exactly_one`` is a ClassVar of it."""
    hints = get_type_hints(struct, include_extras=True)
    rows = {field.encode_name: _row(field, hints[field.name]) for field in msgspec.structs.fields(struct)}
    return Table(struct.__name__, struct.__doc__ or "", struct, rows, getattr(struct, "exactly_one", ()))


def kind_of(hint: Any) -> Kind:
    """The kind that an annotation means; a Kind among its ``Annotated`` extras decides alone."""
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((extra for extra in members[1:] if isinstance(extra, Kind)), None) or kind_of(members[0])
    if origin in {Union, UnionType}:
        kinds = tuple(kind_of(member) for member in members if member is not type(None))
        return kinds[0] if len(kinds) == 1 else Either(kinds)
    if origin is Literal:
        return Choice(members)
    if origin in {tuple, dict}:
        return List(kind_of(members[0])) if origin is tuple else Map(kind_of(members[1]))
    return _PLAIN[hint] if hint in _PLAIN else table(hint)


def _row(field: msgspec.structs.FieldInfo, hint: Any) -> Row:
    text = next((extra for extra in get_args(hint)[1:] if isinstance(extra, str)), "")
    factory = field.default_factory
    default = None if field.required else factory() if callable(factory) else field.default
    return Row(field.encode_name, field.name, kind_of(hint), text, field.required, default)
