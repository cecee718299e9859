"""All single numbers of a snapshot, its structured parts (engines, GPUs, sources) included, as accounts."""

from __future__ import annotations

from inferometer.model import STATES, Account, EngineView, Gpu, Snapshot, SourceView

Numbers = dict[Account, float]

_OF_DEVICES = {
    "power_watts": "power_watts",
    "energy_joules_total": "energy_joules",
    "utilization_ratio": "utilization_ratio",
    "temperature_celsius": "temperature_celsius",
    "memory_temperature_celsius": "memory_temperature_celsius",
    "power_limit_watts": "power_limit_watts",
    "ecc_errors_total": "ecc_errors",
}
"""Names of metrics of a whole GPU, without prefix, and where a Gpu has their values."""

_OF_INSTANCES = (
    "memory_used_bytes",
    "memory_total_bytes",
    "activity_ratio",
    "sm_active_ratio",
    "tensor_active_ratio",
    "dram_active_ratio",
)
"""Likewise of a GPU and of each of its MIG instances."""

_LABELLED = {
    ("clock_hertz", "sm"): "sm_clock_hertz",
    ("clock_hertz", "memory"): "memory_clock_hertz",
    ("pcie_bytes_total", "rx"): "pcie_rx_bytes",
    ("pcie_bytes_total", "tx"): "pcie_tx_bytes",
    ("nvlink_bytes_total", "rx"): "nvlink_rx_bytes",
    ("nvlink_bytes_total", "tx"): "nvlink_tx_bytes",
}
"""Likewise with one more label."""


def numbers(snapshot: Snapshot) -> Numbers:
    """Structured parts, then ready-made values, then totals; on the same account the later one holds."""
    merged: Numbers = {}
    for engine in snapshot.engines:
        merged.update(_engine(engine))
    for gpu in snapshot.gpus:
        merged.update(_gpu(gpu))
    for source in snapshot.sources:
        merged.update(_source(source))
    merged.update(snapshot.values)
    merged.update(snapshot.totals)
    return merged


def _engine(view: EngineView) -> Numbers:
    """Gauges of an engine that is down are old news and have no samples."""
    key = (view.workload, view.engine)
    found: Numbers = {("inferometer_engine_up", key): float(view.up)}
    for state in STATES:
        found["inferometer_engine_state", (*key, state)] = float(view.state == state)
    if view.kind:
        found["inferometer_engine_info", (*key, view.kind, view.version)] = 1.0
    for signal in view.missing:
        found["inferometer_signal_missing", (*key, signal)] = 1.0
    for (signal, model), value in view.gauges.items() if view.up else ():
        if signal in {"running", "waiting"}:
            found["inferometer_engine_requests", (*key, model, signal)] = value
        elif signal == "kv_cache":
            found["inferometer_engine_kv_cache_ratio", (*key, model)] = value
    return found


def _gpu(gpu: Gpu) -> Numbers:
    """A reading that the device does not give, or of a GPU that is down, has no sample."""
    found: Numbers = {("inferometer_gpu_up", (gpu.uuid,)): float(gpu.up)}
    if gpu.name:
        found["inferometer_gpu_info", (gpu.uuid, gpu.name, gpu.driver, gpu.energy_scope)] = 1.0
    if not gpu.up:
        return found
    values: dict[Account, float | None] = {
        (f"inferometer_gpu_{name}", (gpu.uuid,)): getattr(gpu, attribute) for name, attribute in _OF_DEVICES.items()
    }
    for name in _OF_INSTANCES:
        values[f"inferometer_gpu_{name}", (gpu.uuid, "")] = getattr(gpu, name)
        for instance in gpu.instances:
            values[f"inferometer_gpu_{name}", (gpu.uuid, instance.uuid)] = getattr(instance, name)
    for (name, *labels), attribute in _LABELLED.items():
        values[f"inferometer_gpu_{name}", (gpu.uuid, *labels)] = getattr(gpu, attribute)
    for reason, seconds in gpu.throttle_seconds.items():
        values["inferometer_gpu_throttle_seconds_total", (gpu.uuid, reason)] = seconds
    for xid, count in gpu.xids.items():
        values["inferometer_gpu_xid_errors_total", (gpu.uuid, xid)] = count
    return found | {account: float(value) for account, value in values.items() if value is not None}


def _source(view: SourceView) -> Numbers:
    """A source that was never read has neither a duration nor a time of success."""
    key = (view.source,)
    found: Numbers = {("inferometer_source_up", key): float(view.up)}
    if view.read_seconds > 0:
        found["inferometer_source_read_seconds", key] = view.read_seconds
    if view.last_success > 0:
        found["inferometer_source_last_success_timestamp_seconds", key] = view.last_success
    for reason, count in view.errors.items():
        found["inferometer_source_errors_total", (view.source, reason)] = float(count)
    return found
