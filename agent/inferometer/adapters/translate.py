"""One engine's pages in engine-neutral words, as its adapter says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from inferometer.adapters.language import Adapter
from inferometer.adapters.models import Models
from inferometer.adapters.program import Program
from inferometer.adapters.ranks import Ranks
from inferometer.adapters.tenants import Tenants
from inferometer.adapters.uses import Uses
from inferometer.model import EngineSignal, Layout, Page

_ABSURD = 2.0**53  # from here on a counter cannot count by one


class Translator:
    """Turns the pages of one engine into signals. Not for several engines: it remembers the layout of the page.

    ``adapters``: the candidates; with more than one the page itself shows which it is. ``tenants``: who asked.
    ``models``: what models are called; shared by the engines of a workload.
    """

    def __init__(
        self,
        engine: str,
        adapters: Sequence[Adapter],
        tenants: Tenants | None = None,
        models: Models | None = None,
    ) -> None:
        self.engine = engine
        self.adapters = adapters
        self.tenants = tenants
        self.models = models if models is not None else Models()
        self._program: Program | None = None
        self._part: Program | None = None
        self._uses: Uses | None = None
        self._ranks = Ranks()

    def made_as(self, other: Translator) -> bool:
        """Whether both do the same with the pages of the same engine."""
        ours, theirs = (one.tenants.settings if one.tenants is not None else None for one in (self, other))
        return self.adapters == other.adapters and ours == theirs and self.models is other.models

    def __call__(self, page: Page) -> EngineSignal:
        """The signal of a page; ``error`` says why there is none."""
        if page.error:
            return EngineSignal(self.engine, page.at, page.error, page.detail)
        program = self._program
        if program is None or (page.layout is not program.layout and page.layout != program.layout):
            found = self._recognised(program, page)
            if len(found) != 1:
                return self._unrecognised(page, found)
            program = self._program = self._compiled(found[0], page.layout)
        elif self._is_old(program):
            program = self._program = self._compiled(program.adapter, page.layout)
        if sum(page.values) < _ABSURD and min(page.values, default=0.0) >= 0 and not program.contradicted(page.values):
            return program.run(self.engine, page.at, page.values)
        return self._in_part(program, page)

    def _in_part(self, whole: Program, page: Page) -> EngineSignal:
        """NaN, infinities and garbage are no reading, nor is what a page shows twice with two values."""
        doubtful = whole.contradicted(page.values)
        sane = [r for at, r in enumerate(page.series) if 0 <= r[1] < _ABSURD and at not in doubtful]
        layout = tuple(series for series, _ in sane)
        part = self._part
        if part is None or part.layout != layout:
            part = self._part = Program(whole.adapter, layout, self._uses_of(whole.adapter), self._ranks, part=True)
        signal = part.run(self.engine, page.at, tuple(value for _, value in sane))
        if part.creations < whole.creations and not whole.knows_start:
            return replace(signal, created=None)  # the earliest may be one of those that are left out
        return signal

    def _is_old(self, program: Program) -> bool:
        """Whether other names of its signals count by now. To be asked once a page: pages are counted."""
        return program.waits and self._ranks.see(program.newest) != program.best

    def _compiled(self, adapter: Adapter, layout: Layout) -> Program:
        uses, self._part = self._uses_of(adapter), None
        return Program(adapter, layout, uses, self._ranks)

    def _uses_of(self, adapter: Adapter) -> Uses:
        if self._uses is None or self._uses.adapter is not adapter:
            self._uses, self._ranks = Uses(adapter, self.tenants, self.models), Ranks()
        return self._uses

    def _recognised(self, before: Program | None, page: Page) -> list[Adapter]:
        """What it was before it still is while it shows, unless an engine yields to others that may show only now."""
        if before is not None and not before.adapter.detect.yields_to and matches(before.adapter, page):
            return [before.adapter]
        return recognised(self.adapters, page)

    def _unrecognised(self, page: Page, found: list[Adapter]) -> EngineSignal:
        if found:
            fits = ", ".join(adapter.engine for adapter in found)
            return EngineSignal(self.engine, page.at, "ambiguous_engine", f"{fits} all fit this page; set engine:")
        names = ", ".join(dict.fromkeys(series.name for series in page.layout[:3])) or "nothing of any known engine"
        detail = f"no known engine has this page ({names}); see: inferometer explain URL"
        return EngineSignal(self.engine, page.at, "unknown_engine", detail)


def matches(adapter: Adapter, page: Page) -> bool:
    """Whether the page shows this engine, among others perhaps."""
    return any(adapter.detect.shown_by(series) for series in page.layout)


def recognised(adapters: Iterable[Adapter], page: Page) -> list[Adapter]:
    """The engines that the page is of: one, or none, or several that it cannot tell apart."""
    shown = [adapter for adapter in adapters if matches(adapter, page)]
    names = {adapter.engine for adapter in shown}
    return [adapter for adapter in shown if names.isdisjoint(adapter.detect.yields_to)]
