"""Joules of one interval into accounts: metered, the facility's overhead, carbon and water (formulas §8)."""

from __future__ import annotations

from inferometer.economics.policy import Policy
from inferometer.economics.prices import JOULES_PER_KWH
from inferometer.model import Account, Interval

_JOULES = "inferometer_energy_joules_total"


def accounts(interval: Interval, policy: Policy) -> dict[Account, float]:
    """What the interval adds. Without a reading there is no account: no reading is not a zero.

    ``overhead`` is (GPU + host) · (PUE - 1) where a PUE is configured; carbon is by the facility's kWh, water by IT's.
    """
    workload = interval.workload
    found: dict[Account, float] = {(_JOULES, (workload, *where)): joules for where, joules in interval.energy.items()}
    if not found:
        return found
    metered = ("inferometer_metered_gpu_seconds_total", (workload,))
    found[metered] = interval.metered_gpu_seconds
    if policy.pue is not None:
        for (_, state, _), joules in interval.energy.items():
            overhead = (_JOULES, (workload, "overhead", state, "estimated"))
            found[overhead] = found.get(overhead, 0.0) + joules * (policy.pue - 1)
    kwh = interval.joules() / JOULES_PER_KWH
    if policy.carbon_grams_per_kwh is not None:
        grams = kwh * (policy.pue or 1.0) * policy.carbon_grams_per_kwh
        found["inferometer_carbon_grams_total", (workload,)] = grams
    if policy.water_liters_per_kwh is not None:
        found["inferometer_water_liters_total", (workload,)] = kwh * policy.water_liters_per_kwh
    return found
