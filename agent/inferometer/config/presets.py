"""Named service-level objectives: the limits of MLPerf Inference.

Source: mlcommons/inference_policies, inference_rules.adoc at ac93e89 (2026-07-23): the latency limits of the server
(conversational) and interactive scenarios; every limit holds at the 99th percentile.
"""

from __future__ import annotations

from msgspec import Struct

MLPERF_OBJECTIVE = 0.99


class Preset(Struct, frozen=True):
    """Limits in seconds; None is a latency that the preset does not limit."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None


PRESETS = {
    "mlperf-llama2-70b": Preset(2.0, 0.200),
    "mlperf-llama2-70b-interactive": Preset(0.450, 0.040),
    "mlperf-llama3.1-8b": Preset(2.0, 0.100),
    "mlperf-llama3.1-8b-interactive": Preset(0.500, 0.030),
    "mlperf-llama3.1-405b": Preset(6.0, 0.175),
    "mlperf-llama3.1-405b-interactive": Preset(4.5, 0.080),
    "mlperf-deepseek-r1": Preset(2.0, 0.080),
    "mlperf-deepseek-r1-interactive": Preset(1.5, 0.015),
    "mlperf-gpt-oss-120b": Preset(3.0, 0.080),
    "mlperf-gpt-oss-120b-interactive": Preset(2.0, 0.020),
    "mlperf-mixtral-8x7b": Preset(2.0, 0.200),
    "mlperf-qwen3-vl-235b": Preset(e2e=12.0),
}
