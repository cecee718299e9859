"""Energy, power and carbon."""

from __future__ import annotations

from inferometer.exposition.labels import (
    BOUNDARY,
    ENERGY_COMPONENT,
    ENERGY_METHOD,
    ENERGY_STATE,
    TOKENS,
    WINDOW,
    WORKLOAD,
)
from inferometer.exposition.metric import COUNTER, GAUGE, Metric, Subject

ENERGY = Subject(
    "Energy, power and carbon",
    "Components gpu and host with methods counter and samples are metered; overhead and estimated are computed.",
    (
        Metric(
            "inferometer_energy_joules_total",
            COUNTER,
            (WORKLOAD, ENERGY_COMPONENT, ENERGY_STATE, ENERGY_METHOD),
            "joules",
            "Energy used, by where it went, whether work was done and how it was measured.",
            "counter: increase of the meter; samples: trapezoid over power; overhead: (gpu + host) * (PUE - 1)",
        ),
        Metric(
            "inferometer_metered_gpu_seconds_total",
            COUNTER,
            (WORKLOAD,),
            "seconds",
            "GPU time held of which a meter, a counter or power samples, tells the energy.",
            "Σ seconds between readings of the meter * part of the GPU held",
        ),
        Metric(
            "inferometer_carbon_grams_total",
            COUNTER,
            (WORKLOAD,),
            "grams",
            "Greenhouse gas of the energy used, as CO₂ equivalent, location based.",
            "facility kWh * configured grams per kWh; only when configured",
        ),
        Metric(
            "inferometer_water_liters_total",
            COUNTER,
            (WORKLOAD,),
            "liters",
            "Water used on site for cooling.",
            "IT kWh * configured liters per kWh; only when configured",
        ),
        Metric(
            "inferometer_energy_per_token_joules",
            GAUGE,
            (WORKLOAD, TOKENS, BOUNDARY, WINDOW),
            "joules",
            "Energy per token over the window, inside a boundary: the GPUs, the IT equipment or the facility.",
            "Δ joules ÷ Δ tokens; it = gpu + host, facility = it + overhead",
        ),
        Metric(
            "inferometer_power_watts",
            GAUGE,
            (WORKLOAD, WINDOW),
            "watts",
            "Mean power of the workload's GPUs over the window.",
            "Δ joules{component=gpu} ÷ window",
        ),
        Metric(
            "inferometer_energy_coverage_ratio",
            GAUGE,
            (WORKLOAD, WINDOW),
            "ratio",
            "Share of the GPU time held in the window for which energy was metered.",
            "metered GPU-seconds ÷ GPU-seconds held",
        ),
    ),
)
