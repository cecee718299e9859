"""Which of a signal's names counts, where an engine had several over its versions."""

from __future__ import annotations

from collections.abc import Mapping

_MISSED_PAGES = 10


class Ranks:
    """By signal the rank of the name that the engine has; 0 is the newest.

    That a page leaves out a name is no reason to read an older one: only after ten pages in a row that had none else.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}

    def known(self, signal: str) -> int | None:
        """The rank that counts; None before the signal was seen."""
        return self._known[signal][0] if signal in self._known else None

    def see(self, page: Mapping[str, int]) -> dict[str, int]:
        """The ranks that count on a page, to be asked once for each. ``page``: by signal its newest rank there."""
        for signal, newest in page.items():
            rank, missed = self._known.get(signal, (newest, 0))
            missed = missed + 1 if newest > rank else 0
            if newest < rank or missed > _MISSED_PAGES:
                rank, missed = newest, 0
            self._known[signal] = rank, missed
        return self.of(page)

    def of(self, page: Mapping[str, int]) -> dict[str, int]:
        """The same for a part of a page, which is none that counts."""
        return {signal: self._known.get(signal, (newest, 0))[0] for signal, newest in page.items()}
