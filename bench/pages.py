"""Pages of a busy vLLM server, one for each second, as large as real ones and moving as much."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from inferometer.sources import recording

_CAPTURED = Path(__file__).parents[1] / "tests" / "pages"
_EARLIER = _CAPTURED / "vllm-0.32-closed-loop-a-0000.prom.gz"
_LATER = _CAPTURED / "vllm-0.32-closed-loop-a-0030.prom.gz"
_SECONDS_BETWEEN = 30
_PAGES_PER_ENGINE = 7  # engines are so many pages apart


class Pages:
    """The page of any engine at any second; ``folder``: a recording, read in turn, instead of made pages."""

    def __init__(self, folder: Path | None = None) -> None:
        self._recorded = [] if folder is None else [r.body for r in recording.read(folder) if r.kind == "metrics"]
        self._earlier, self._later = (gzip.decompress(path.read_bytes()).decode() for path in (_EARLIER, _LATER))
        self.page = lru_cache(4096)(self._page)

    def at(self, second: int, engine: int) -> bytes:
        """The page of an engine at a second."""
        return self.page(second + _PAGES_PER_ENGINE * engine)

    def size(self) -> tuple[int, int, int]:
        """Bytes and lines of a page, and how many lines the next one changes."""
        first, second = self.at(10, 0), self.at(11, 0)
        changed = sum(a != b for a, b in zip(first.splitlines(), second.splitlines(), strict=False))
        return len(first), len(first.splitlines()), changed

    def _page(self, number: int) -> bytes:
        if self._recorded:
            return self._recorded[number % len(self._recorded)]
        lines = zip(self._earlier.splitlines(), self._later.splitlines(), strict=True)
        return ("\n".join(_moved(*pair, number / _SECONDS_BETWEEN) for pair in lines) + "\n").encode()


def _moved(earlier: str, later: str, share: float) -> str:
    """A line that goes on from one captured page as it did on the way to the other: counters stay counters."""
    series, _, end = later.rpartition(" ")
    begin = earlier.rpartition(" ")[2]
    if later.startswith("#") or begin == end:
        return later
    value = float(begin) + (float(end) - float(begin)) * share
    return f"{series} {value if '_sum' in series else round(value)!r}"
