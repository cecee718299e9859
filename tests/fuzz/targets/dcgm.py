"""Pages of dcgm-exporter one after the other: parsed, read as GPUs, and their joules shared out."""

from __future__ import annotations

import math

from fuzz.draw import Draw
from inferometer import adapters
from inferometer.interval import Hold, Meter, Watch
from inferometer.model import Batch, Page
from inferometer.sources.page import PageParser

ADAPTER = adapters.dcgm()
NAMES = (*sorted(ADAPTER.wanted), "DCGM_FI_DEV_GPU_TEMP", "x")
LABELS = ("gpu", "UUID", "device", "modelName", "GPU_I_ID", "GPU_I_PROFILE", "pod", "namespace", "container", "exported_pod", "xid", "err_code", "DCGM_FI_DRIVER_VERSION")  # fmt: skip
VALUES = ("0", "1", "GPU-0", "GPU-1", "1g.10gb", "7", "NVIDIA H100 80GB HBM3", "٣", "²", "a", "")


def seeds():
    """Decisions of all kinds."""
    yield bytes(range(256))
    yield bytes([0, 40, 1, 2, 2, 1, 2, 2, 3] * 40)


def check(data):
    """Readings with finite numbers only; joules are never negative."""
    draw, devices = Draw(data), adapters.Devices(ADAPTER)
    parser = PageParser(devices.wanted)
    watch = Watch("w", (), gpus=1.0, holds=(Hold("GPU-0", 1.0), Hold("GPU-1", 0.5)))
    meter, at, given = Meter((watch,), 5.0), 1000.0, []
    for _ in range(8):
        if not draw.more:
            break
        at += draw.below(60)
        page = parser.parse(_page(draw).encode())
        reading = devices(Page("dcgm", at, "", page.layout, page.values, page.malformed))
        for gpu in reading.gpus:
            _sound(gpu)
        meter.add(Batch(at, at), [reading])
        given += meter.due(at)
    for interval in (*given, *meter.finish(at + 1)):
        if any(not 0 <= joules < math.inf for joules in interval.energy.values()):
            raise AssertionError(interval)


def _page(draw):
    lines = []
    for _ in range(draw.below(12)):
        labels = [f'{draw.choose(LABELS)}="{draw.choose(VALUES)}"' for _ in range(draw.below(4))]
        labels.append(f'UUID="GPU-{draw.byte() & 1}"')
        lines.append(f"{draw.choose(NAMES)}{{{','.join(dict.fromkeys(labels))}}} {draw.number()}\n")
    return "".join(lines)


def _sound(gpu):
    for name in gpu.__struct_fields__:
        value = getattr(gpu, name)
        for one in value.values() if isinstance(value, dict) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise AssertionError((name, gpu))
