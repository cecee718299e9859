"""How often an exporter that reads at its own pace has something new to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

_GAPS = 5


class Freshness:
    """Tells values that were read anew from values that were only shown again, by their changes."""

    def __init__(self) -> None:
        self._values: Hashable = None
        self._changes = 0
        self._changed_at = 0.0
        self._gaps: deque[float] = deque(maxlen=_GAPS)

    @property
    def refresh_seconds(self) -> float | None:
        """Time from change to change, as far as the pace of our own readings shows it; None until it is known."""
        return sorted(self._gaps)[len(self._gaps) // 2] if self._gaps else None

    def age(self, at: float, values: Hashable) -> float:
        """Seconds for which these values, read at ``at``, have been the same."""
        if values != self._values:
            if self._changes > 1:  # the first values had been there for nobody knows how long
                self._gaps.append(at - self._changed_at)
            self._values, self._changed_at = values, at
            self._changes += 1
        return at - self._changed_at
