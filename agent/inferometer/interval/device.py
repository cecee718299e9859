"""One device's meters: its energy counter, its power samples, and how they agree (formulas §8)."""

from __future__ import annotations

from msgspec import Struct, field

_IMPLAUSIBLE_WATTS = 100_000.0
_COMPARED_SECONDS = 60.0
_LAG_SECONDS = 60.0  # twice the interval of dcgm-exporter
_REST_SECONDS = 2.0  # power is an average of the last second


class Stretch(Struct, frozen=True):
    """Joules of a device over the seconds that end with this reading. ``method``: counter, samples or estimated."""

    seconds: float
    joules: float
    method: str


class Counter(Struct):
    """An energy counter at the last reading that it moved at: a page that is shown twice is no time without power.

    ``odd``: a value, and its time, that no device can have come to since: it counts once the next one goes on from it.
    """

    joules: float
    at: float
    odd: tuple[float, float] | None = None

    def read(self, at: float, joules: float, wraps_at: float = 0.0) -> Stretch | None:
        """What it gained since it last moved; None while it stands.

        A counter that fell was reset, and what it shows is a lower bound; one that wraps goes on past ``wraps_at``.
        A step that no device can draw is a meter gone wrong: it counts for nothing. Where the clock was set back while
        the agent was away, nobody knows how long the step took, and it is believed.
        """
        gained = joules - self.joules
        if gained == 0:
            self.odd = None
            return None
        if gained < 0:
            gained = gained + wraps_at if wraps_at else joules
        unknown, seconds = at < self.at, max(0.0, at - self.at)
        if not unknown and not _is_plausible(gained, seconds):
            if self.odd is None or not _is_plausible(joules - self.odd[0], at - self.odd[1]):
                self.odd = (joules, at)
                return None
            gained, seconds = joules - self.odd[0], at - self.odd[1]
        self.joules, self.at, self.odd = joules, at, None
        return Stretch(seconds, gained, "counter")

    def shift(self, seconds: float) -> None:
        """Move all times to another clock."""
        self.at += seconds
        if self.odd is not None:
            self.odd = (self.odd[0], self.odd[1] + seconds)


def _is_plausible(gained: float, seconds: float) -> bool:
    """Whether a device, or all of a host, may have drawn so much."""
    return 0 <= gained <= _IMPLAUSIBLE_WATTS * (seconds + 1)


class Samples(Struct):
    """Power at the last reading, to be integrated by trapezoids."""

    watts: float
    at: float

    def read(self, at: float, watts: float, longest_seconds: float) -> Stretch:
        """The energy between two samples; over more than ``longest_seconds`` it is an estimate (formulas G10b)."""
        seconds = max(0.0, at - self.at)
        joules = (self.watts + watts) / 2 * seconds
        self.watts, self.at = watts, at
        return Stretch(seconds, joules, "samples" if seconds <= longest_seconds else "estimated")


class Floor(Struct):
    """The lowest power seen while the device had nothing to do; None before. It never rises."""

    watts: float | None = None
    resting_since: float | None = None

    def see(self, at: float, watts: float, *, resting: bool) -> None:
        """Take one power reading. What was drawn before the rest settled tells nothing."""
        if not resting:
            self.resting_since = None
        elif self.resting_since is None:
            self.resting_since = at
        elif at - self.resting_since >= _REST_SECONDS:
            self.watts = watts if self.watts is None else min(self.watts, watts)

    def split(self, stretch: Stretch) -> dict[str, float]:
        """Joules by state: idle is the floor over the time (formulas §8), all of it unknown before there is one."""
        if self.watts is None:
            return {"unknown": stretch.joules}
        idle = min(stretch.joules, self.watts * stretch.seconds)
        return {"idle": idle, "active": stretch.joules - idle}


class Agreement(Struct):
    """The counter beside the samples, over a minute of the counter's time at least."""

    counted: float = 0.0
    sampled: float = 0.0
    seconds: float = 0.0
    waiting: float = 0.0
    ratio: float | None = None

    def sample(self, stretch: Stretch) -> None:
        """Take a trapezoid; a gap in the samples says nothing, so that both begin anew."""
        self.waiting += stretch.joules
        if stretch.method == "estimated":
            self.counted = self.sampled = self.seconds = self.waiting = 0.0

    def count(self, stretch: Stretch) -> None:
        """Take the counter's step over the samples that came since its last."""
        if self.waiting <= 0:
            return
        self.counted += stretch.joules
        self.sampled += self.waiting
        self.seconds += stretch.seconds
        self.waiting = 0.0
        if self.seconds >= _COMPARED_SECONDS:
            self.ratio = self.counted / self.sampled
            self.counted = self.sampled = self.seconds = 0.0


class Device(Struct):
    """All that is remembered of one GPU's energy. ``source``: whose readings count; its other sources' do not."""

    source: str
    heard_at: float
    counter: Counter | None = None
    samples: Samples | None = None
    floor: Floor = field(default_factory=Floor)
    agreement: Agreement = field(default_factory=Agreement)
    taken_over_at: float | None = None
    counted_at: float = 0.0
    resets: int = 0

    def read(self, at: float, joules: float | None, watts: float | None, longest_seconds: float) -> Stretch | None:
        """One reading: the counter where there ever was one, else the samples (formulas §8)."""
        sampled = self._sampled(at, watts, longest_seconds) if watts is not None else None
        if joules is None:
            return self._uncounted(at, sampled)
        self.counted_at = at
        if self.counter is None:
            self.counter = Counter(joules, at)
            return sampled
        return self._counted(at, joules, self.counter)

    def _uncounted(self, at: float, sampled: Stretch | None) -> Stretch | None:
        """Without a counter the samples count; one that only failed is waited for, since it knows what it missed."""
        if self.counter is not None and at - self.counted_at > _LAG_SECONDS and sampled is not None:
            self.counter = None
            return None
        return sampled if self.counter is None else None

    def _sampled(self, at: float, watts: float, longest_seconds: float) -> Stretch | None:
        if self.samples is None:
            self.samples = Samples(watts, at)
            return None
        stretch = self.samples.read(at, watts, longest_seconds)
        self.agreement.sample(stretch)
        return stretch

    def _counted(self, at: float, joules: float, counter: Counter) -> Stretch | None:
        if self._lags(at, joules, counter):
            return None
        fell = joules < counter.joules
        stretch = counter.read(at, joules)
        if stretch is not None:
            self.resets += fell
            self.agreement.count(stretch)
        return stretch

    def _lags(self, at: float, joules: float, counter: Counter) -> bool:
        """Whether another source has just taken over that shows an older value of the same counter."""
        if self.taken_over_at is None:
            return False
        if joules >= counter.joules:
            self.taken_over_at = None
            return False
        if at - self.taken_over_at > _LAG_SECONDS:  # it is no lag but a reset that nobody saw
            self.counter, self.taken_over_at = Counter(joules, at), None
        return True

    def shift(self, seconds: float) -> None:
        """Move all times to another clock."""
        self.heard_at += seconds
        self.counted_at += seconds
        if self.counter is not None:
            self.counter.shift(seconds)
        if self.samples is not None:
            self.samples.at += seconds
        if self.taken_over_at is not None:
            self.taken_over_at += seconds
        self.floor.resting_since = None
