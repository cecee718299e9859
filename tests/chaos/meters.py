"""The GPUs of a scripted world: dcgm-exporter's page over exact meters, some of whose rows may be wrong."""

from __future__ import annotations

import random

_ROW = '{name}{{gpu="{index}",UUID="GPU-{index}",modelName="NVIDIA H100",DCGM_FI_DRIVER_VERSION="570"}} {value}\n'
BLANKS = ("9223372036854775794", "2147483632", "NaN", "-1", "1e30", "0x1p3", "")
"""What a row may have in the place of a number."""


class Meters:
    """``count`` GPUs that draw constant watts from ``start`` on. ``joules``: what all of them have used."""

    def __init__(self, count: int, start: float, rng: random.Random) -> None:
        self.watts = [100.0 + 50 * index for index in range(count)]
        self._start, self._zero, self._rng = start, [start] * count, rng

    def joules(self, now: float) -> float:
        """Used since the start."""
        return sum(self.watts) * (now - self._start)

    def reload(self, now: float) -> None:
        """The driver is loaded anew: its counters begin at zero."""
        self._zero = [now] * len(self.watts)

    def page(self, now: float, fault: str = "") -> bytes:
        """``fault``: blank (rows without a number), gone (GPUs that are not there), wrong (a step none can draw)."""
        text = ""
        for index, watts in enumerate(self.watts):
            if fault == "gone" and self._rng.random() < 0.5:
                continue
            values = {"DCGM_FI_DEV_POWER_USAGE": f"{watts}", "DCGM_FI_DEV_GPU_UTIL": "50"}
            energy = 1000.0 * watts * (now - self._zero[index])
            values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] = (
                f"{energy + (1e15 * self._rng.random() if fault == 'wrong' else 0.0)}"
            )
            if fault == "blank":
                values = {name: self._rng.choice((value, self._rng.choice(BLANKS))) for name, value in values.items()}
            text += "".join(_ROW.format(name=name, index=index, value=value) for name, value in values.items())
        return (text or "# nothing\n").encode()
