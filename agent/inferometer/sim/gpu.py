"""Simulated GPUs: one card each, a pure function of its clock and its load."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass

IDLE_WATTS, FULL_WATTS = 72.0, 700.0
MEMORY_BYTES = 81559 * 2**20
_USED_AWAKE = 0.9  # a server takes its share of the memory at start and keeps it
_IDLE_CELSIUS, _FULL_CELSIUS, _WARM_SECONDS = 31.0, 74.0, 20.0
_TICKS_PER_SECOND = 10
_CAPPED_LOAD = 0.97  # from here on power is at its limit
_IDLE_MEGAHERTZ, _CAPPED_MEGAHERTZ, _FULL_MEGAHERTZ = 345, 1755, 1980
MEMORY_MEGAHERTZ = 2619


@dataclass(frozen=True)
class Reading:
    """What a card shows at one instant. Energy is the integral of power up to the last tick of 100 ms.

    ``busy_seconds``: the integral of the load; ``capped_seconds``: the time at which power was at its limit.
    """

    at: float
    power_watts: float
    energy_joules: float
    load: float
    celsius: float
    busy_seconds: float
    capped_seconds: float

    @property
    def clock_megahertz(self) -> int:
        """Of the multiprocessors: up when there is work, and a little down again at the power limit."""
        if not self.load:
            return _IDLE_MEGAHERTZ
        return _CAPPED_MEGAHERTZ if self.load >= _CAPPED_LOAD else _FULL_MEGAHERTZ


class Card:
    """One GPU. Its load holds from one look at ``load`` to the next, and energy is the exact integral of that.

    ``clock`` gives seconds, ``load`` a number in 0..1. Faults: ``lost`` and ``meters_energy``.
    """

    name = "NVIDIA H100 80GB HBM3"

    def __init__(self, index: int, clock: Callable[[], float], load: Callable[[], float]) -> None:
        self.index = index
        self.uuid = f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'simulated gpu {index}')}"
        self.lost = False
        self.meters_energy = True
        self._clock, self._load_now = clock, load
        self._origin = self._at = clock()
        self._load = load()
        self._joules = self._shown_joules = 0.0
        self._busy_seconds = self._capped_seconds = 0.0
        self._celsius = _IDLE_CELSIUS

    def read(self) -> Reading:
        """Carry the card to the clock's time, look at the load, and show what it is."""
        now = self._clock()
        watts = self._watts()
        tick = self._origin + math.floor((now - self._origin) * _TICKS_PER_SECOND + 1e-9) / _TICKS_PER_SECOND
        if tick > self._at:
            self._shown_joules = self._joules + watts * (tick - self._at)
        self._joules += watts * (now - self._at)
        self._busy_seconds += self._load * (now - self._at)
        self._capped_seconds += (self._load >= _CAPPED_LOAD) * (now - self._at)
        target = _IDLE_CELSIUS + (_FULL_CELSIUS - _IDLE_CELSIUS) * self._load
        self._celsius = target + (self._celsius - target) * math.exp(-(now - self._at) / _WARM_SECONDS)
        self._at, self._load = now, min(1.0, max(0.0, self._load_now()))
        return Reading(
            at=now,
            power_watts=self._watts(),
            energy_joules=self._shown_joules,
            load=self._load,
            celsius=self._celsius,
            busy_seconds=self._busy_seconds,
            capped_seconds=self._capped_seconds,
        )

    def reset_energy(self) -> None:
        """The driver was reloaded: the energy counter starts at 0."""
        self.read()
        self._joules = self._shown_joules = 0.0

    @property
    def used_bytes(self) -> int:
        """Device memory in use."""
        return int(MEMORY_BYTES * _USED_AWAKE)

    def _watts(self) -> float:
        return IDLE_WATTS + (FULL_WATTS - IDLE_WATTS) * self._load
