"""From readings to intervals: counter resets, gaps, strata, states of time. Pure."""

from inferometer.interval.joules import Assumed
from inferometer.interval.meter import Meter
from inferometer.interval.room import Room
from inferometer.interval.watch import Hold, Watch, Watched

__all__ = ["Assumed", "Hold", "Meter", "Room", "Watch", "Watched"]
