"""What is missing for numbers that people expect, each with the way to have it."""

from __future__ import annotations

from inferometer.config import Config, Workload


def hints(workload: Workload, held: float) -> list[str]:
    """Sentences about one workload that holds so many GPUs."""
    name, found = workload.name, []
    if workload.price is None:
        found.append("no price configured, so no cost: add --price.gpu-hour 2.50 or prices.default")
        if workload.budget is not None:
            found.append("a budget needs a price to know what is spent: add --price.gpu-hour 2.50 or prices.default")
    given = sum(engine.gpus or 0 for engine in workload.engines)
    if held == 0 and workload.gpus != "none" and not given:
        found.append("no GPU found, so no GPU time and no cost: add --gpus N to count N GPUs as held")
    told = given > 0 and all(engine.gpus for engine in workload.engines)
    if told and isinstance(workload.gpus, int) and given != workload.gpus:
        found.append(f"its engines hold {given} GPUs, its key gpus says {workload.gpus}: the engines' are charged")
    if not workload.slo.thresholds and not workload.slo.models:
        found.append("no SLO configured, so no goodput: add --slo.ttft 500ms --slo.tpot 50ms --slo.e2e 10s")
    return [f"{name}: {hint}" for hint in [*found, *_roles(workload)]]


def _roles(workload: Workload) -> list[str]:
    """Disaggregated serving of which a page is missing."""
    roles = {engine.role for engine in workload.engines}
    if "frontend" in roles or roles <= {"both"}:
        return []
    found = []
    if roles == {"decode"}:
        found.append("decode pages count no input tokens: add the prefill engines or the frontend")
    if roles == {"prefill"}:
        found.append("prefill pages count no output and no requests: add the decode engines or the frontend")
    if "decode" in roles and workload.slo.ttft is not None:
        found.append("decode pages may measure TTFT without the prefill before it: a page with role: frontend has all")
    return found


def spans(settings: Config) -> list[str]:
    """Engines whose spans cannot be told apart."""
    engines = [engine for workload in settings.workloads for engine in workload.engines if engine.role != "frontend"]
    if settings.otlp is None or len(engines) <= 1 or any(engine.spans for engine in engines):
        return []
    if len(settings.workloads) > 1:
        return [
            "otlp: no engine says which spans are its own, so none is counted: add spans: {service.name: …} to each"
        ]
    return ["otlp: the spans of several engines count as the first one's: add spans: {service.name: …} to each"]
