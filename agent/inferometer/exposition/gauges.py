"""All single numbers of a snapshot, its structured parts (engines, GPUs, sources) included, as accounts."""

from __future__ import annotations

from inferometer.model import STATES, Account, EngineView, Gpu, Snapshot, SourceView

Numbers = dict[Account, float]


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
    key = (gpu.uuid,)
    found: Numbers = {("inferometer_gpu_up", key): float(gpu.up)}
    if gpu.name:
        found["inferometer_gpu_info", (gpu.uuid, gpu.name, "")] = 1.0
    readings = {
        "inferometer_gpu_power_watts": gpu.power_watts,
        "inferometer_gpu_energy_joules_total": gpu.energy_joules,
        "inferometer_gpu_utilization_ratio": gpu.utilization_ratio,
        "inferometer_gpu_memory_used_bytes": gpu.memory_used_bytes,
        "inferometer_gpu_memory_total_bytes": gpu.memory_total_bytes,
        "inferometer_gpu_temperature_celsius": gpu.temperature_celsius,
        "inferometer_gpu_power_limit_watts": gpu.power_limit_watts,
    }
    if gpu.up:
        found.update({(name, key): float(value) for name, value in readings.items() if value is not None})
    return found


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
