"""NVIDIA's driver through NVML: every signal of every GPU, with what a driver lacks, loses or hangs on contained."""

from __future__ import annotations

from inferometer.sources.nvml.driver import SOURCE, Nvml
from inferometer.sources.nvml.library import REASONS
from inferometer.sources.nvml.source import NvmlSource

__all__ = ["REASONS", "SOURCE", "Nvml", "NvmlSource"]
