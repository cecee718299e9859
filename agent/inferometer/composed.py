"""YAML as nodes that are no more than they look: a few lines of aliases may stand for billions of values."""

from __future__ import annotations

from typing import Any

import yaml

_FREE_NODES = 10_000
_MOST_REPEATS = 10
_FAST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooManyError(yaml.YAMLError):
    """With every alias written out, there would be more values than any file has use for."""

    def __init__(self) -> None:
        super().__init__("its aliases, written out, are far more than the file itself")


def compose(text: str) -> yaml.Node | None:
    """The root of one document; None of an empty one. Raises yaml.YAMLError; RecursionError where it is too deep."""
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=_FAST)
    except yaml.YAMLError:  # read again, slowly: the C parser's sentences differ from release to release
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    known: dict[int, int] = {}
    if root is not None and _size(root, known) > max(_FREE_NODES, _MOST_REPEATS * len(known)):
        raise TooManyError
    return root


def construct(text: str) -> Any:
    """The document as Python has it, plain types only. Raises ValueError that says what is wrong with the text."""
    try:
        root = compose(text)
        return None if root is None else yaml.constructor.SafeConstructor().construct_document(root)
    except RecursionError:
        raise ValueError("it is nested too deeply; make it flatter") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (
        Exception
    ) as error:  # a date that is none, a number without digits: the library raises what its code runs into
        raise ValueError(f"a value is not what its tag says ({error})") from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes below and at ``node``, each as often as an alias repeats it; what contains itself counts once."""
    if id(node) not in known:
        known[id(node)] = 1
        if isinstance(node, yaml.ScalarNode):
            return 1
        inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_size(part, known) for part in inside)
    return known[id(node)]
