"""Where a span stands on the agent's clock: its engine's clock may be wrong, and exports are late (design §7)."""

from __future__ import annotations

from msgspec import Struct

LATE_SECONDS = 60.0
SLACK_SECONDS = 1.0
_SET_AFTER_SECONDS = 600.0


class Skew(Struct, omit_defaults=True):
    """By how much an engine's clock is behind the agent's: between the least and the most that its spans allow.

    A span in time reaches the agent 0 to 60 s after its end. While spans agree with a clock that is right, it is taken
    as right to a second; otherwise only what they prove is known: in the worst case that a span ended in the minute
    before it came. ``late_since``: since when no span has been in time.
    """

    least: float = -LATE_SECONDS
    most: float = LATE_SECONDS
    late_since: float | None = None

    def see(self, ended: float, arrived: float) -> bool:
        """Take one span and say whether it can be placed. A late one cannot: its stratum may be closed.

        Spans cannot come before they end: then the engine's clock is ahead. Where none was in time for ten minutes
        it is behind.
        """
        most = arrived - ended
        least = most - LATE_SECONDS
        if least > self.most + SLACK_SECONDS:
            self.late_since = arrived if self.late_since is None else self.late_since
            if arrived - self.late_since < _SET_AFTER_SECONDS:
                return False
            self.least, self.most = least, most
        elif most < self.least - SLACK_SECONDS:
            self.least, self.most = least, most
        self.late_since = None
        self.least, self.most = max(self.least, least), min(self.most, most)
        return True

    def place(self, ended: float) -> tuple[float, float]:
        """Between which times on the agent's clock a span ended."""
        if self.least <= SLACK_SECONDS and self.most >= -SLACK_SECONDS:
            return ended - SLACK_SECONDS, ended + SLACK_SECONDS
        return ended + min(self.least, self.most), ended + max(self.least, self.most)
