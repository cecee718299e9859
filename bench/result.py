"""What was measured, kept as JSON: one file per part, from which ``python -m bench.report`` writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

RESULTS = Path(__file__).parent / "results"
_Kind = TypeVar("_Kind")


def keep(folder: Path | None, part: str, result: Any) -> None:
    """Write the result of a part; nothing without a folder."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(result))), indent=1)
        (folder / f"{part}.json").write_bytes(text + b"\n")


def kept(folder: Path, part: str, kind: type[_Kind]) -> _Kind | None:
    """The result of a part; None where it was never measured."""
    path = folder / f"{part}.json"
    return msgspec.json.decode(path.read_bytes(), type=kind) if path.exists() else None


def _rounded(value: Any) -> Any:
    """With six digits: no measurement here has more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(inner) for inner in value]
    return value
