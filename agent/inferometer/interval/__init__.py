"""From readings to intervals: counter resets, gaps, strata, states of time. Pure."""

from inferometer.interval.meter import Meter
from inferometer.interval.watch import Watch, Watched

__all__ = ["Meter", "Watch", "Watched"]
