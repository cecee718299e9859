"""What wakes somebody up: alerts on money, energy, engines, GPUs and the agent itself."""

from __future__ import annotations

from inferometer.app.rules.shape import PLACE, Alert, Group

ECONOMICS, ENERGY, FLEET, AGENT = (
    "inferometer-economics",
    "inferometer-energy",
    "inferometer-fleet",
    "inferometer-agent",
)
_WHO = "{{ $labels.workload }}"
_RATIO = "{{ $value | humanizePercentage }}"
_TRAFFIC = f"on ({PLACE}) workload:inferometer_tokens:rate6h > 1"
"""A token per second: below that a ratio says more about chance than about the workload."""

_HARDWARE_XIDS = "48|62|63|64|74|79|92|94|95|119|120|140|143"
"""XIDs that mean the GPU, its memory or its links; the others are mostly faults of the program."""

_MONEY = (
    Alert(
        "InferometerCostPerTokenRegressed",
        "warning",
        "30m",
        "workload:inferometer_cost_per_million_tokens:ratio_rate6h\n"
        "> 1.3 * (workload:inferometer_cost_per_million_tokens:ratio_rate6h offset 7d)\n"
        f"and {_TRAFFIC}",
        f"{_WHO}: a token costs more than 1.3 times what it cost a week ago",
        "A million tokens cost {{ $value | humanize }} {{ $labels.currency }} over the last six hours.",
        ECONOMICS,
    ),
    Alert(
        "InferometerIdleSpend",
        "warning",
        "1h",
        "workload:inferometer_idle_cost:ratio_rate1h > 0.5\n"
        f'and on ({PLACE}, currency) 3600 * workload_state:inferometer_cost:rate1h{{state="idle"}} > 1',
        f"{_WHO}: more than half of the money is spent on idle GPUs",
        f"{_RATIO} of the last hour's cost paid for GPUs that did nothing.",
        ECONOMICS,
    ),
    Alert(
        "InferometerBudgetForecastExceeded",
        "warning",
        "1h",
        "inferometer_budget_forecast > inferometer_budget_amount\n"
        "and inferometer_budget_spent <= inferometer_budget_amount",
        f"{_WHO}: the budget will not last to the end of its period",
        "At the present rate the period will have cost {{ $value | humanize }} {{ $labels.currency }}.",
        ECONOMICS,
    ),
    Alert(
        "InferometerBudgetExceeded",
        "critical",
        "5m",
        "inferometer_budget_spent > inferometer_budget_amount",
        f"{_WHO}: the budget of this period is spent",
        "{{ $value | humanize }} {{ $labels.currency }} have been spent in this period, more than its budget.",
        ECONOMICS,
    ),
    Alert(
        "InferometerPriceMissing",
        "warning",
        "15m",
        "inferometer_price_missing == 1",
        f"{_WHO}: no price is configured, so there are no costs",
        "Tokens and joules are counted, money is not.",
        ECONOMICS,
    ),
    Alert(
        "InferometerCostStale",
        "warning",
        "10m",
        f"sum by ({PLACE}) (rate(inferometer_gpu_seconds_total[10m])) > 0\n"
        f"and on ({PLACE}) sum by ({PLACE}) (rate(inferometer_cost_total[10m])) == 0\n"
        f"and on ({PLACE}) inferometer_gpu_hourly_price > 0",
        f"{_WHO}: GPU time is held at a price, and no money is counted",
        "{{ $value | humanize }} GPUs are held; the cost has not moved for ten minutes.",
        ECONOMICS,
    ),
)
_POWER = (
    Alert(
        "InferometerEnergyPerTokenRegressed",
        "warning",
        "30m",
        "workload:inferometer_energy_per_output_token_joules:ratio_rate6h\n"
        "> 1.3 * (workload:inferometer_energy_per_output_token_joules:ratio_rate6h offset 7d)\n"
        f"and {_TRAFFIC}",
        f"{_WHO}: an output token takes more than 1.3 times the energy of a week ago",
        "{{ $value | humanize }} J per output token over the last six hours.",
        ENERGY,
    ),
    Alert(
        "InferometerEnergyMeterStopped",
        "warning",
        "10m",
        f"sum by ({PLACE}) (rate(inferometer_energy_joules_total[10m])) == 0\n"
        f"and on ({PLACE}) sum by ({PLACE}) (rate(inferometer_gpu_seconds_total[10m])) > 0",
        f"{_WHO}: GPUs are held and their energy is not metered any more",
        "The energy counter has not moved for ten minutes.",
        ENERGY,
    ),
    Alert(
        "InferometerGpuXid",
        "critical",
        "0s",
        f'increase(inferometer_gpu_xid_errors_total{{xid=~"{_HARDWARE_XIDS}"}}[15m]) > 0\n'
        f'or (inferometer_gpu_xid_errors_total{{xid=~"{_HARDWARE_XIDS}"}} > 0 '
        f'unless inferometer_gpu_xid_errors_total{{xid=~"{_HARDWARE_XIDS}"}} offset 15m)',
        "GPU {{ $labels.gpu }}: the driver reported XID {{ $labels.xid }}",
        "This XID means the GPU, its memory or its links rather than the program.",
        ENERGY,
    ),
    Alert(
        "InferometerGpuThrottled",
        "warning",
        "15m",
        "max by (cluster, namespace, instance, gpu) "
        '(rate(inferometer_gpu_throttle_seconds_total{reason!~"low_utilization|gpu_idle"}[10m])) > 0.1',
        "GPU {{ $labels.gpu }}: its clocks are held down",
        f"{_RATIO} of the last ten minutes it ran slower than it could.",
        ENERGY,
    ),
)
_ENGINES = (
    Alert(
        "InferometerWorkloadDown",
        "critical",
        "2m",
        f"max by ({PLACE}) (inferometer_engine_up) == 0",
        f"{_WHO}: none of its engines answers",
        "No metrics page of this workload can be read; its GPUs are held and paid for.",
        FLEET,
    ),
    Alert(
        "InferometerEngineStalled",
        "critical",
        "1m",
        'inferometer_engine_state{state="stalled"} == 1',
        f"{_WHO}: engine {{{{ $labels.engine }}}} is stuck",
        "Requests wait in it and nothing moves; its page still answers.",
        FLEET,
    ),
    Alert(
        "InferometerEngineMetricsMissing",
        "warning",
        "15m",
        f"sum by ({PLACE}, engine, signal) (inferometer_signal_missing) > 0",
        f"{_WHO}: the page of {{{{ $labels.engine }}}} has no {{{{ $labels.signal }}}}",
        "A metric that this kind of engine ought to have is not there; most often it was renamed in an upgrade.",
        FLEET,
    ),
    Alert(
        "InferometerEngineCountedTwice",
        "warning",
        "10m",
        "count by (cluster, namespace, engine) (group by (cluster, namespace, engine, job, instance) "
        '(inferometer_engine_up{engine!~"(127\\\\.|localhost|\\\\[::1\\\\]).*"})) > 1',
        "Engine {{ $labels.engine }} is counted by {{ $value }} agents",
        "Its tokens, money and energy appear more than once in every sum.",
        FLEET,
    ),
    Alert(
        "InferometerEngineRestarts",
        "warning",
        "0s",
        "increase(inferometer_resets_total[1h]) > 3",
        "{{ $labels.source }} restarts again and again",
        "{{ $value | humanize }} restarts in the last hour.",
        FLEET,
    ),
    Alert(
        "InferometerClientsVanishing",
        "warning",
        "30m",
        f"workload:inferometer_vanished:ratio_rate1h > 0.05\n"
        f"and on ({PLACE}) 3600 * workload:inferometer_requests:rate1h > 20",
        f"{_WHO}: clients leave before they are answered",
        f"{_RATIO} of the last hour's requests vanished: no outcome counter of the engine knows them.",
        "inferometer-slo",
    ),
    Alert(
        "InferometerTokensWasted",
        "warning",
        "30m",
        f"workload:inferometer_wasted:ratio_rate1h > 0.1 and on ({PLACE}) workload:inferometer_tokens:rate1h > 1",
        f"{_WHO}: tokens are generated that nobody receives",
        f"At least {_RATIO} of the last hour's output tokens were never received.",
        "inferometer-slo",
    ),
)
_SELF = (
    Alert(
        "InferometerAgentDown",
        "critical",
        "2m",
        "up == 0 and on (job, instance) group by (job, instance) (last_over_time(inferometer_build_info[1d]))",
        "The agent {{ $labels.instance }} does not answer",
        "Counting goes on from the engines' counters when it is back; what nobody can know will be unaccounted.",
        AGENT,
    ),
    Alert(
        "InferometerAgentAbsent",
        "critical",
        "5m",
        "absent(inferometer_build_info)",
        "Prometheus sees no agent at all",
        "Either none runs, or none is scraped.",
        AGENT,
    ),
    Alert(
        "InferometerSourceDown",
        "warning",
        "5m",
        "inferometer_source_up == 0",
        "{{ $labels.source }} cannot be read",
        "The agent {{ $labels.instance }} has had no reading of it for five minutes.",
        AGENT,
    ),
    Alert(
        "InferometerSettlementStale",
        "critical",
        "1m",
        "time() - inferometer_settled_until_timestamp_seconds > 300",
        f"{_WHO}: nothing has been settled for {{{{ $value | humanizeDuration }}}}",
        "The page answers with old totals: the ledger cannot be written, or the agent is stuck.",
        AGENT,
    ),
    Alert(
        "InferometerSeriesLimited",
        "warning",
        "0s",
        "increase(inferometer_series_dropped_total[15m]) > 0",
        "The agent {{ $labels.instance }} leaves series out: limits.{{ $labels.limit }} is reached",
        "{{ $value | humanize }} times a series was left out of a reading in the last 15 minutes; sums are too small.",
        AGENT,
    ),
    Alert(
        "InferometerConfigReloadFailed",
        "warning",
        "5m",
        "inferometer_config_last_reload_successful == 0 or inferometer_web_config_last_reload_successful == 0",
        "The agent {{ $labels.instance }} refused its newest configuration",
        "It goes on with the one before: prices, SLOs and budgets, or certificates and passwords, may be out of date.",
        AGENT,
    ),
    Alert(
        "InferometerEventLoopLag",
        "warning",
        "10m",
        "min_over_time(inferometer_event_loop_lag_seconds[5m]) > 0.5",
        "The agent {{ $labels.instance }} is late",
        "Its ticks have come {{ $value | humanizeDuration }} late: it has too little CPU for what it reads.",
        AGENT,
    ),
)


def groups() -> list[Group]:
    """Every alert that needs no objective or budget of the user's."""
    subjects = (("economics", _MONEY), ("energy", _POWER), ("engines", _ENGINES), ("agent", _SELF))
    return [Group(f"inferometer-{name}-alerts", "30s", alerts) for name, alerts in subjects]
