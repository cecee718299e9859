"""The shape of the package: who may import whom, what the pure parts may touch, and how large things may grow."""

from __future__ import annotations

import ast
import graphlib
import itertools
import statistics
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
AGENT = ROOT / "agent"
OURS = "inferometer"
EVERY_PART = object()

MAY_IMPORT = {
    "": set(),  # inferometer/__init__.py: the version and nothing else
    "__main__": {"cli"},
    "model": set(),
    "errors": set(),
    "log": set(),
    "composed": set(),
    "pipeline": set(),  # its stages are arguments
    "interval": {"model"},
    "economics": {"model"},
    "adapters": {"model", "errors", "composed"},
    "ledger": {"model", "errors"},
    "sources": {"model", "errors", "log"},
    "exposition": {"model"},
    "config": {"errors", "model", "composed", "economics.prices", "economics.budget"},
    "web": {"config", "errors"},
    "sim": set(),
    "cli": {"", "app", "config", "sim", "errors", "log"},
    "app": EVERY_PART,
}
"""By part, the other parts and modules of ours that it may import; a part may always import its own modules."""

PURE = {"interval", "economics"}
PURE_IMPORTS = {
    "__future__", "bisect", "collections", "datetime", "enum", "functools", "itertools", "math", "msgspec", "operator",
    "statistics", "typing",
}  # fmt: skip
"""All that a pure part may import from outside: nothing that reads, writes, waits or asks for the time."""

IMPURE_CALLS = {"open", "print", "input", "breakpoint", "exec", "eval", "now", "today", "utcnow"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "base", "manager", "managers"}
LONGEST_FILE, MEDIAN_FILE = 400, 150
LONGEST_FUNCTION, P90_FUNCTION, MEDIAN_FUNCTION = 60, 30, 9
MOST_PARAMETERS = 6


class Module(NamedTuple):
    """A module by its dotted name; ``package`` when its file is an ``__init__.py``."""

    name: str
    package: bool
    source: str

    @property
    def part(self) -> str:
        return self.name.split(".")[1] if "." in self.name else ""


def modules(root=AGENT):
    """Every module under a source folder."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if package else parts)
        found.append(Module(name, package, path.read_text(encoding="utf-8")))
    return found


def imports(module, known):
    """Absolute names of all that a module imports, wherever in it the import stands.

    ``known``: the names of all our modules, to tell ``from package import module`` from ``from module import name``.
    """
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            name = node.args[0] if node.args else None
            yield name.value if isinstance(name, ast.Constant) else "(computed)"


def _absolute(module, node):
    if not node.level:
        return node.module
    package = module.name.split(".") if module.package else module.name.split(".")[:-1]
    home = package[: len(package) - node.level + 1]
    return ".".join([*home, node.module] if node.module else home)


def _called(call):
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def is_ours(name):
    return name == OURS or name.startswith(f"{OURS}.")


def may(module, target):
    """Whether the table lets a module import one of our modules."""
    allowed = MAY_IMPORT.get(module.part, set())
    inner = target.removeprefix(OURS).removeprefix(".")
    if allowed is EVERY_PART or inner.split(".")[0] == module.part:
        return True
    return any(inner == name or (name and inner.startswith(f"{name}.")) for name in allowed)


def faults(package):
    """What is wrong with a list of modules, one sentence each."""
    known = {module.name for module in package}
    for module in package:
        if module.part not in MAY_IMPORT:
            yield f"{module.name}: no row in MAY_IMPORT says what this part may import"
        if BANNED_NAMES & set(module.name.rpartition(".")[2].split("_")):
            yield f"{module.name}: name the module after what it holds"
        targets = set(imports(module, known))
        yield from _forbidden(module, targets)
        yield from _impure(module)
        yield from _writers(module, targets)
    yield from _cycles(package, known)


def _forbidden(module, targets):
    for target in sorted(targets):
        root = target.split(".")[0]
        if is_ours(target):
            if not may(module, target):
                yield f"{module.name}: must not import {target}"
        elif module.part in PURE and root not in PURE_IMPORTS:
            yield f"{module.name}: is pure and must not import {target}"
        if root in {"agent", "tests", "bench"} or target == "(computed)":
            yield f"{module.name}: must not import {target}"
        if root == "pynvml" and module.name != f"{OURS}.sources.nvml.library":
            yield f"{module.name}: only sources/nvml/library.py imports pynvml"


def _impure(module):
    if module.part in PURE:
        calls = [node for node in ast.walk(ast.parse(module.source)) if isinstance(node, ast.Call)]
        yield from (
            f"{module.name}: is pure and must not call {_called(c)}" for c in calls if _called(c) in IMPURE_CALLS
        )


def _writers(module, targets):
    """Whoever opens SQLite outside the ledger opens it by URI, read-only."""
    if "sqlite3" not in targets or module.part == "ledger":
        return
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.ImportFrom) and node.module == "sqlite3":
            yield f"{module.name}: import sqlite3 whole, so that its connections can be seen"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sqlite3.connect":
            read_only = any(keyword.arg == "uri" for keyword in node.keywords) and "mode=ro" in ast.unparse(
                node.args[0]
            )
            if not read_only:
                yield f"{module.name}: only the ledger opens SQLite for writing"


def _cycles(package, known):
    """One sentence for the first cycle, the packages that an import runs through included."""
    graph = {}
    for module in package:
        home = set(_and_parents(module.name))
        targets = {target for target in imports(module, known) if is_ours(target)}
        through = {parent for target in targets for parent in _and_parents(target)}
        graph[module.name] = (targets | (through - home)) & known - {module.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield f"import cycle: {' → '.join(reversed(error.args[1]))}"


def _and_parents(name):
    return itertools.accumulate(name.split("."), "{}.{}".format)


# -- the package ----------------------------------------------------------------------------------


def functions(package):
    """Every function with its module's name, nested ones and methods included."""
    for module in package:
        for node in ast.walk(ast.parse(module.source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield module.name, node


def length(function):
    """Lines from ``def`` to the end, docstring included and decorators not."""
    return function.end_lineno - function.lineno + 1


def parameters(function):
    """How many things a caller has to know about."""
    spec = function.args
    listed = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    stars = [argument for argument in (spec.vararg, spec.kwarg) if argument]
    return len([name for name in listed if name not in {"self", "cls"}]) + len(stars)


def p90(values):
    return sorted(values)[int(0.9 * len(values))]


def test_imports_follow_the_table():
    """Parts know only the parts before them, the pure ones no outside world, and nobody in a circle."""
    assert list(faults(modules())) == []


def test_every_row_of_the_table_is_a_part():
    assert set(MAY_IMPORT) == {module.part for module in modules()}


def test_the_source_folder_is_no_package():
    """`import agent` must never be a way to reach the code: the name is anybody's."""
    assert not (AGENT / "__init__.py").exists()
    assert sorted(path.parent.name for path in AGENT.glob("*/__init__.py")) == [OURS]


def test_files_stay_small():
    lines = {module.name: len(module.source.splitlines()) for module in modules()}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}
    assert statistics.median(lines.values()) <= MEDIAN_FILE


def test_functions_stay_small():
    lengths = {(name, node.name, node.lineno): length(node) for name, node in functions(modules())}
    assert {where: count for where, count in lengths.items() if count > LONGEST_FUNCTION} == {}
    assert p90(lengths.values()) <= P90_FUNCTION
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_functions_take_few_parameters():
    counts = {(name, node.name): parameters(node) for name, node in functions(modules())}
    assert {where: count for where, count in counts.items() if count > MOST_PARAMETERS} == {}


# -- the checker ----------------------------------------------------------------------------------

SMALL_PACKAGE = {
    "inferometer": "",
    "inferometer.model": "from collections.abc import Mapping",
    "inferometer.errors": "",
    "inferometer.interval": "from inferometer.interval.meter import Meter",
    "inferometer.interval.meter": "from datetime import UTC\nfrom inferometer.model import Batch",
    "inferometer.sources": "import asyncio",
    "inferometer.sources.nvml": "from inferometer.sources.nvml.library import REASONS",
    "inferometer.sources.nvml.library": "def f():\n    import pynvml",
    "inferometer.ledger": "import sqlite3\nsqlite3.connect('x')",
    "inferometer.economics": "from .prices import hourly",
    "inferometer.economics.prices": "from ..model import Interval",
    "inferometer.config": "from inferometer.economics import prices\nfrom inferometer.errors import ConfigError",
    "inferometer.app": "from inferometer import ledger, sources",
    "inferometer.cli": "from inferometer import __version__, config\ndef f():\n    from inferometer.app import run",
}
PACKAGES = {
    "inferometer", "inferometer.interval", "inferometer.sources", "inferometer.sources.nvml", "inferometer.economics",
}  # fmt: skip

PLANTED = [
    ("inferometer.model", "from inferometer.errors import LedgerError", "must not import inferometer.errors"),
    ("inferometer.model", "from .errors import LedgerError", "must not import inferometer.errors"),
    ("inferometer.interval.meter", "import inferometer.ledger", "must not import inferometer.ledger"),
    ("inferometer.interval.meter", "def f():\n    from .. import ledger", "must not import inferometer.ledger"),
    (
        "inferometer.interval.meter",
        "if TYPE_CHECKING:\n    from ..config import C",
        "must not import inferometer.config",
    ),
    ("inferometer.interval.meter", "import importlib\nimportlib.import_module('inferometer.app')", "inferometer.app"),
    ("inferometer.economics.prices", "import asyncio", "is pure and must not import asyncio"),
    ("inferometer.economics.prices", "def f():\n    import os.path", "is pure and must not import os.path"),
    ("inferometer.economics.prices", "from pathlib import Path", "is pure and must not import pathlib"),
    ("inferometer.economics.prices", "import time", "is pure and must not import time"),
    ("inferometer.economics.prices", "def f():\n    return open('x')", "must not call open"),
    ("inferometer.economics.prices", "from datetime import datetime\nnow = datetime.now()", "must not call now"),
    ("inferometer.sources", "from inferometer.ledger import Ledger", "must not import inferometer.ledger"),
    ("inferometer.config", "from inferometer.economics import settle", "must not import inferometer.economics"),
    (
        "inferometer.config",
        "from inferometer.economics.ratios import x",
        "must not import inferometer.economics.ratios",
    ),
    ("inferometer.cli", "from inferometer.ledger import hours", "must not import inferometer.ledger"),
    ("inferometer.cli", "import agent", "must not import agent"),
    ("inferometer.app", "import pynvml", "only sources/nvml/library.py imports pynvml"),
    ("inferometer.sources.nvml", "import pynvml", "only sources/nvml/library.py imports pynvml"),
    ("inferometer.app", "import sqlite3\nsqlite3.connect('x')", "only the ledger opens SQLite for writing"),
    ("inferometer.app", "import sqlite3\nsqlite3.connect('file:x?mode=rw', uri=True)", "opens SQLite for writing"),
    ("inferometer.app", "from sqlite3 import connect", "import sqlite3 whole"),
    ("inferometer.app", "import importlib\nimportlib.import_module(name)", "must not import (computed)"),
    ("inferometer.economics.prices", "from inferometer.economics import hourly", "import cycle"),
    ("inferometer.sources.nvml", "def f():\n    from .. import SourceStats, nvml2", None),
    ("inferometer.app", "import sqlite3\nsqlite3.connect(f'file:{x}?mode=ro', uri=True)", None),
    ("inferometer.string_utils", "", "name the module after what it holds"),
    ("inferometer.base", "", "no row in MAY_IMPORT"),
]


def small(changes):
    sources = SMALL_PACKAGE | changes
    return [Module(name, name in PACKAGES, source) for name, source in sources.items()]


def test_the_checker_accepts_a_tidy_package():
    assert list(faults(small({}))) == []


@pytest.mark.parametrize(("name", "source", "fault"), PLANTED)
def test_the_checker_sees_a_planted_fault(name, source, fault):
    """A rule that nothing can break checks nothing."""
    found = list(faults(small({name: source})))
    if fault is None:
        assert found == []
    else:
        assert any(line.startswith((f"{name}:", "import cycle:")) and fault in line for line in found), found


def test_the_measures_count_what_they_say():
    source = "@wraps\ndef f(self, a, /, b, *c, d=1, **e):\n    '''Doc.'''\n    def g(): pass\n    return g\n"
    (_, outer), (_, inner) = functions([Module("x", package=False, source=source)])
    assert (length(outer), parameters(outer)) == (4, 5)
    assert (length(inner), parameters(inner)) == (1, 0)
    assert p90(range(1, 11)) == 10
