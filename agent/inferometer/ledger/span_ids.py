"""Which spans were taken lately, so that one that is exported again counts once, before and after a restart."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from hashlib import blake2b

from inferometer.model import SPAN_MEMORY_SECONDS

_MINUTE = 60
_BYTES = 8  # of a span: of a million, two are taken for one another once in 37 million times
_NONE: array[int] = array("Q")


class SpanIds:
    """The spans of the last ten minutes, whole minutes at least, by the minute in which they were taken.

    ``clock``: seconds; unix time at the start, and steady since: ids must not be forgotten because a clock was set.
    Past minutes are sorted arrays of 8 bytes a span: a set of as many ids would be ten times as large.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._recent: set[int] = set()
        self._recent_minute = 0
        self._past: dict[int, array[int]] = {}
        self._waiting = array("Q")

    def take(self, span: bytes) -> bool:
        """Whether this span (its trace's id and its own) is new; it is not the next time, and waits for the ledger."""
        self._turn()
        known = int.from_bytes(blake2b(span, digest_size=_BYTES).digest(), "little")
        if known in self._recent or any(_has(ids, known) for ids in self._past.values()):
            return False
        self._recent.add(known)
        self._waiting.append(known)
        return True

    @property
    def pending(self) -> bool:
        """Whether there are ids that no commit has yet."""
        return len(self._waiting) > 0

    def waiting(self) -> bytes:
        """The ids that no commit has yet."""
        return self._waiting.tobytes()

    def remembered(self) -> bytes:
        """All ids that are known, those that wait apart."""
        waiting = set(self._waiting)
        past = array("Q", (known for ids in self._past.values() for known in ids))
        return (past + array("Q", (known for known in self._recent if known not in waiting))).tobytes()

    def committed(self, ids: bytes) -> None:
        """These, which ``waiting`` gave, are on the disk."""
        del self._waiting[: len(ids) // _BYTES]

    def load(self, rows: Iterable[tuple[int, bytes]]) -> int:
        """Remember what was committed, by minute: the newest counts as taken now. Returns how many minutes that adds.

        The agent was away for a time that only the wall clock knows, and that may have been set.
        """
        known = [(minute, ids) for minute, ids in rows if len(ids) % _BYTES == 0]
        shift = self.minute() - max((minute for minute, _ in known), default=self.minute())
        for minute, ids in known:
            if minute + shift >= self.oldest():
                self._past.setdefault(minute + shift, array("Q")).frombytes(ids)
        self._past = {minute: array("Q", sorted(ids)) for minute, ids in self._past.items()}
        return shift

    def minute(self) -> int:
        """The minute that it is."""
        return int(self._clock() // _MINUTE)

    def oldest(self) -> int:
        """The first minute that is remembered."""
        return self.minute() - int(SPAN_MEMORY_SECONDS // _MINUTE)

    def _turn(self) -> None:
        """With a new minute put the last one's ids away, and forget those of the oldest."""
        minute = self.minute()
        if minute == self._recent_minute:
            return
        merged = array("Q", sorted([*self._recent, *self._past.get(self._recent_minute, _NONE)]))
        self._past[self._recent_minute] = merged
        self._past = {past: ids for past, ids in self._past.items() if past >= self.oldest() and ids}
        self._recent, self._recent_minute = set(), minute


def _has(ids: array[int], known: int) -> bool:
    at = bisect_left(ids, known)
    return at < len(ids) and ids[at] == known
