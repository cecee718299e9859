"""Lines over an axis as SVG, small, and readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from msgspec import Struct

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 40, 48
_COLOURS = (("#2a78d6", "#3987e5"), ("#c2571a", "#e07b3f"), ("#1f7a4d", "#3fa873"), ("#7a4fb5", "#a07ad6"))
"""For light and for dark pages."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #52514e } .title { font-size: 14px; fill: #0b0b0b }
.grid { stroke: #e1e0d9 } .axis { stroke: #898781 } path { fill: none; stroke-width: 2 }
"""
_DARK = "text { fill: #b5b4ae } .title { fill: #f2f1ec } .grid { stroke: #3a3936 } .axis { stroke: #7d7c77 }"


class Chart(Struct, frozen=True):
    """A chart: a title with the unit, what the axis below is, and lines by name."""

    title: str
    below: str
    lines: Mapping[str, Points]

    def svg(self) -> str:
        """The whole file."""
        across = _ticks(max(x for line in self.lines.values() for x, _ in line))
        up = _ticks(max(y for line in self.lines.values() for _, y in line))
        parts = [*_frame(across, up), *self._curves(across[-1], up[-1])]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}">\n<style>{_style(len(self.lines))}</style>\n'
            f'<text class="title" x="8" y="20">{escape(self.title)}</text>\n'
            f'<text x="{_x(0.5)}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(self.below)}</text>\n'
            + "\n".join(parts)
            + "\n</svg>\n"
        )

    def _curves(self, most_x: float, most_y: float) -> Iterator[str]:
        ends = {name: _y(points[-1][1] / most_y) for name, points in self.lines.items()}
        names = _apart(ends)
        for number, (name, points) in enumerate(self.lines.items()):
            places = [(_x(x / most_x), _y(y / most_y)) for x, y in points]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            yield f'<path class="line{number}" d="M{path}"/>'
            if len(points) <= 20:
                yield from (f'<circle class="dot{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
            x, y = places[-1][0] + 8, names[name] + 4
            yield f'<text class="dot{number}" x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>'


def _frame(across: Sequence[float], up: Sequence[float]) -> Iterator[str]:
    for value in up:
        y = _y(value / up[-1])
        yield f'<line class="{"grid" if value else "axis"}" x1="{_LEFT}" x2="{_x(1)}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>'
    for value in across:
        yield f'<text x="{_x(value / across[-1]):.1f}" y="{_y(0) + 18}" text-anchor="middle">{value:,g}</text>'


def _style(lines: int) -> str:
    light, dark = (
        " ".join(
            f".line{n} {{ stroke: {colours[shade]} }} .dot{n} {{ fill: {colours[shade]} }}"
            for n, colours in enumerate(_COLOURS[:lines])
        )
        for shade in (0, 1)
    )
    return f"{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {_DARK} {dark} }}\n"


def _ticks(most: float) -> list[float]:
    """From 0 in four to six round steps to at least ``most``."""
    rough = max(most, 1e-9) / 5
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * times for times in (1, 2, 2.5, 5, 10) if scale * times >= rough)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Where names are written beside the ends of their lines, at least a line of text apart."""
    places: dict[str, float] = {}
    lowest = -math.inf
    for name, y in sorted(ends.items(), key=lambda end: end[1]):
        lowest = places[name] = max(y, lowest + 15)
    return places


def _x(ratio: float) -> float:
    return _LEFT + ratio * (_WIDTH - _LEFT - _RIGHT)


def _y(ratio: float) -> float:
    return _HEIGHT - _BOTTOM - ratio * (_HEIGHT - _TOP - _BOTTOM)
