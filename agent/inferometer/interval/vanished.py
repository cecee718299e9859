"""Requests whose clients left: they are in no outcome counter, so they are what the others leave over (design §7)."""

from __future__ import annotations

from msgspec import Struct, field

_CERTAIN_AFTER_SECONDS = 30.0


class Floor(Struct, omit_defaults=True):
    """The largest value that a noisy difference certainly has reached.

    The difference counts as it stands when the server is at rest; under load, where a request may be between two of the
    counters, only the smallest value of the last 30 s is certain. It never falls.

    ``recent``: the smallest value since a time, for each time after which it was another; so values ascend.
    """

    certain: float = 0.0
    recent: list[tuple[float, float]] = field(default_factory=list)

    def see(self, at: float, difference: float, *, at_rest: bool) -> None:
        """Take one reading of the difference."""
        since, recent, began = at - _CERTAIN_AFTER_SECONDS, self.recent, at
        while recent and recent[-1][1] >= difference:
            began, _ = recent.pop()
        recent.append((began, difference))
        while len(recent) > 1 and recent[1][0] <= since:
            del recent[0]
        if at_rest:
            self.certain = max(self.certain, difference)
        elif recent[0][0] <= since:
            self.certain = max(self.certain, recent[0][1])


class Vanished(Struct, omit_defaults=True):
    """Vanished requests of one model since its process started.

    ``streaming``: those that had a first token; ``known``: all; ``before``: those of before the agent's time.
    """

    streaming: Floor = field(default_factory=Floor)
    known: Floor = field(default_factory=Floor)
    before: float = 0.0
    posted: float = 0.0

    def see(self, at: float, by_token: float, by_call: float, *, at_rest: bool) -> float:
        """Take one page and return the newly certain requests.

        ``by_token``: first tokens without an end; ``by_call``: HTTP calls that ended without a finished request.
        """
        self.streaming.see(at, by_token, at_rest=at_rest)
        self.known.see(at, max(by_token, by_call), at_rest=at_rest)
        new = max(0.0, self.known.certain - self.before - self.posted)
        self.posted += new
        return new

    def start_here(self, difference: float) -> None:
        """What is missing on the baseline page went before the agent's time."""
        self.before = max(0.0, difference)
