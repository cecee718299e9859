"""What a GPU-hour costs where prices are kept: SkyPilot's catalog of instances, and OpenCost's metrics page.

Whatever does not lead to one price is an error: of two prices none is the right one by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from inferometer.errors import SourceError
from inferometer.model import Page

NODE_PRICE = "node_gpu_hourly_cost"
"""OpenCost's gauge: money per hour of one GPU of the node, not of the node."""

_COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")
_SHOWN = 4


def catalog_price(path: Path, wanted: Mapping[str, str], *, spot: bool) -> float:
    """The price per GPU-hour of the rows whose columns are as wanted: the instance's over its GPUs. SourceError."""
    import csv  # noqa: PLC0415 - costs memory, and few have a catalog

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise SourceError("catalog", f"{path} has no column {missing[0]}; it is no SkyPilot catalog")
            found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    except OSError as error:
        raise SourceError("file", f"{path}: {error.strerror}; check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError("catalog", f"{path}: is no CSV file: {error}") from error
    column = "SpotPrice" if spot else "Price"
    return _one([price for row in found if (price := _per_gpu(row, column)) is not None], wanted, "region or instance")


def opencost_price(page: Page, wanted: Mapping[str, str]) -> float:
    """The price per GPU-hour of the nodes whose labels are as wanted; nodes at 0 have no GPU. SourceError."""
    if page.error:
        raise SourceError(page.error, page.detail)
    found = [
        value
        for series, value in page.series
        if series.name == NODE_PRICE and 0 < value < math.inf and wanted.items() <= dict(series.labels).items()
    ]
    return _one(found, wanted, "node or instance")


def _per_gpu(row: Mapping[str, str], column: str) -> float | None:
    """None for an instance without GPUs, and for one that is not to be had at such a price."""
    try:
        count, price = float(row["AcceleratorCount"]), float(row[column])
    except (TypeError, ValueError):
        return None
    per_gpu = price / count if count > 0 else 0.0
    return per_gpu if 0 < per_gpu < math.inf else None


def _one(prices: Iterable[float], wanted: Mapping[str, str], advice: str) -> float:
    distinct = sorted({float(f"{price:.9g}"): price for price in prices}.items())
    asked = ", ".join(f"{name}={value}" for name, value in wanted.items()) or "anything"
    if not distinct:
        raise SourceError("no_price", f"there is no price for {asked}")
    if len(distinct) > 1:
        some = ", ".join(f"{price:g}" for price, _ in distinct[:_SHOWN]) + (", …" if len(distinct) > _SHOWN else "")
        raise SourceError("several_prices", f"{asked} has {len(distinct)} prices ({some}); choose by {advice}")
    return distinct[0][1]
