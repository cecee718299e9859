"""Pages of busy servers, one for each second, as large as real ones and moving as much."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

from inferometer.sources import recording
from msgspec import Struct
from prometheus_client.utils import floatToGoString

CAPTURED = Path(__file__).parents[1] / "tests" / "pages"
_SECONDS_BETWEEN = 30  # the two pages of the real vLLM were captured so far apart
_RISE_PER_SECOND = 1e-3  # of the other pages' counters
_MODEL = 'model_name="tiny"'
_INTEGERS = ("_bucket", "_count")

Page = Callable[[int], bytes]
"""From a second to the page that a server shows then."""


class Size(Struct, frozen=True):
    """Bytes and lines of a page, and how many of them are other ones a second later."""

    bytes: int
    lines: int
    changed: int

    def text(self) -> str:
        """As a sentence's part."""
        return f"{self.bytes / 1000:.0f} kB, {self.lines} lines, {self.changed} of them changing each second"


def vllm() -> Page:
    """Of vLLM 0.32 under load: what two captured pages differ in goes on at that pace."""
    earlier, later = (captured(f"vllm-0.32-closed-loop-a-00{number}").splitlines() for number in ("00", "30"))
    pairs = list(zip(earlier, later, strict=True))
    return lambda second: _page([_moved(*pair, second / _SECONDS_BETWEEN) for pair in pairs])


def risen(text: str) -> Page:
    """A captured page whose counters go on rising."""
    counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE))
    lines = [(line, _is_counter(line, counters)) for line in text.splitlines()]
    return lambda second: _page([_rise(line, second) if counts else line for line, counts in lines])


def recorded(folder: Path) -> Page:
    """The pages of a recording, in turn."""
    bodies = [reading.body for reading in recording.read(folder) if reading.kind == "metrics"]
    return lambda second: bodies[second % len(bodies)]


def captured(name: str) -> str:
    """One of the pages that the tests read."""
    return gzip.decompress((CAPTURED / f"{name}.prom.gz").read_bytes()).decode()


def models(count: int) -> Page:
    """Of a server with so many models: every series that has a model, once for each."""
    one = vllm()

    def page(second: int) -> bytes:
        lines = one(second).decode().splitlines()
        return _page([copy for line in lines for copy in _copies(line, count)])

    return page


def size(page: Page) -> Size:
    """How large the page is, and how much it moves."""
    first, second = page(10), page(11)
    changed = sum(a != b for a, b in zip(first.splitlines(), second.splitlines(), strict=False))
    return Size(len(first), len(first.splitlines()), changed)


KINDS: dict[str, Callable[[], Page]] = {
    "vllm": vllm,
    "sglang": lambda: risen(captured("sglang")),
    "dcgm": lambda: risen(captured("dcgm-exporter")),
}


def _text(value: float) -> str:
    """As prometheus_client writes it, which all these servers use."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _page(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _moved(earlier: str, later: str, share: float) -> str:
    """A line that goes on from one captured page as it did on the way to the other: counters stay counters."""
    series, _, end = later.rpartition(" ")
    begin = earlier.rpartition(" ")[2]
    if later.startswith("#") or begin == end:
        return later
    value = float(begin) + (float(end) - float(begin)) * share
    return f"{series} {_text(value if '_sum' in series else round(value))}"


def _copies(line: str, count: int) -> list[str]:
    """A line for each model; lines without a model once."""
    if _MODEL not in line:
        return [line]
    return [line.replace(_MODEL, f'model_name="model-{number:03d}"') for number in range(count)]


def _is_counter(line: str, counters: set[str]) -> bool:
    name = re.split(r"[{ ]", line, maxsplit=1)[0]
    return not line.startswith("#") and (name in counters or name.endswith(("_bucket", "_count", "_sum")))


def _rise(line: str, second: int) -> str:
    series, _, value = line.rpartition(" ")
    risen_to = float(value) * (1 + second * _RISE_PER_SECOND)
    whole = series.partition("{")[0].endswith(_INTEGERS)
    return f"{series} {_text(round(risen_to) if whole else risen_to)}"
