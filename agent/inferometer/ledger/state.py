"""What the ledger knows, and what one commit changes of it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from inferometer.model import Account, Histogram, engine_of


class Change(Struct):
    """New values of what one commit touches. An empty mark forgets an engine: its mark and its accounts.

    ``created``: of accounts that are new, and of histograms whose layout is. ``hours``: whole rows.
    """

    totals: dict[Account, float] = field(default_factory=dict)
    created: dict[Account, float] = field(default_factory=dict)
    histograms: dict[Account, Histogram] = field(default_factory=dict)
    marks: dict[str, bytes] = field(default_factory=dict)
    hours: dict[tuple[str, int], dict[Account, float]] = field(default_factory=dict)


class State(Struct):
    """Everything that is committed."""

    totals: dict[Account, float] = field(default_factory=dict)
    created: dict[Account, float] = field(default_factory=dict)
    histograms: dict[Account, Histogram] = field(default_factory=dict)
    marks: dict[str, bytes] = field(default_factory=dict)
    generation: int = 0

    def take(self, change: Change) -> list[Account]:
        """A change is committed, now or, where it is read back, once. Returns the accounts that it forgot."""
        self.totals |= change.totals
        self.created |= change.created
        self.histograms |= change.histograms
        self.marks |= change.marks
        return [account for name, mark in change.marks.items() if not mark for account in self._forget(name)]

    def _forget(self, name: str) -> Iterable[Account]:
        """An engine is gone for good."""
        gone = self._of_engine(name) if name else []
        for account in gone:
            for table in (self.totals, self.created, self.histograms):
                table.pop(account, None)
        self.marks.pop(name, None)
        return gone

    def _of_engine(self, name: str) -> list[Account]:
        """All accounts of an engine, or of a source of that name."""
        known = (account for table in (self.totals, self.histograms) for account in table)
        found = [account for account in known if (where := engine_of(account)) is not None and where[1] == name]
        resets: Account = ("inferometer_resets_total", (name,))
        return [*found, resets] if resets in self.totals else found
