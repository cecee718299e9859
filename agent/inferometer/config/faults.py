"""Faults: all that is wrong with a configuration, each as one sentence that names its place."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inferometer.config.node import Origin, Path

_PLAIN_KEY = re.compile(r"[\w-]+")
_LONGEST_KEY = 60


class Faults:
    """Collects faults and knows where every path was written."""

    def __init__(self, name: str) -> None:
        """``name``: the file, or what stands for it where there is none."""
        self._origins: dict[Path, Origin] = {(): Origin(name)}
        self._found: list[tuple[Origin, Path, str]] = []
        self.references: dict[Path, str] = {}

    def place(self, path: Path, origin: Origin) -> None:
        """Remember where ``path`` was written."""
        self._origins[path] = origin

    def refer(self, path: Path, written: str) -> None:
        """Remember a value as it was written, before variables were filled in."""
        self.references[path] = written

    def add(self, path: Path, text: str) -> None:
        """Note a fault at ``path``; a path that nobody wrote is reported where its nearest parent was."""
        written = path
        while written not in self._origins:
            written = written[:-1]
        self._found.append((self._origins[written], path, text))

    def add_at(self, origin: Origin, text: str) -> None:
        """Note a fault that belongs to a line, a flag or a variable as a whole."""
        self._found.append((origin, (), text))

    def written(self, path: Path) -> bool:
        """Whether somebody wrote ``path``, well or badly."""
        return path in self._origins

    def clean(self, path: Path) -> bool:
        """Whether no fault is known at ``path`` or below it."""
        return not any(found[: len(path)] == path for _, found, _ in self._found if found)

    def sentences(self) -> list[str]:
        """Every fault once, in the order of the lines; those of variables and flags come last."""
        ordered = sorted(self._found, key=lambda fault: (_is_setting(fault[0]), fault[0].line))
        return list(dict.fromkeys(_sentence(*fault) for fault in ordered))


def near(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    import difflib  # noqa: PLC0415 - only for what is wrong

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)), "")


def dotted(path: Path) -> str:
    """A path as people write it: ``workloads[0].engines[1].url``."""
    text = "".join(_step(step) for step in path)
    return text.removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    step = step if len(step) <= _LONGEST_KEY else step[: _LONGEST_KEY - 3] + "..."
    return f".{step}" if _PLAIN_KEY.fullmatch(step) else f'["{step}"]'


def _is_setting(origin: Origin) -> bool:
    return origin.name.startswith(("--", "INFEROMETER_"))


def _sentence(origin: Origin, path: Path, text: str) -> str:
    if _is_setting(origin):
        return _printable(f"{origin.name}: {text}")
    line = f":{origin.line}" if origin.line else ""
    where = f" {dotted(path)}:" if path else ""
    return _printable(f"{origin.name}{line}:{where} {text}")


def _printable(sentence: str) -> str:
    """On one line, and without what would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence)
