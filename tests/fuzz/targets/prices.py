"""Prices from a SkyPilot catalog and from OpenCost: one price that is a positive number, or a SourceError."""

from __future__ import annotations

import math
from pathlib import Path

from fuzz.draw import Draw
from fuzz.memory import MemoryFile
from inferometer.errors import SourceError
from inferometer.model import Page
from inferometer.sources.gpu_prices import NODE_PRICE, catalog_price, opencost_price
from inferometer.sources.page import PageParser

_file = MemoryFile()
HEAD = "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n"
DICTIONARY = (
    *tuple(HEAD.strip().encode().split(b",")),
    b"p5.48xlarge", b"H100", b"8.0", b"98.32", b"us-east-1", b'"', b",,", b"nan", b"inf", b"1e-320", b"\0", b"\r", b"\xff",
    NODE_PRICE.encode(), b'{node="n",instance_type="p5.48xlarge",region="us-east-1"} 2.5\n',
)  # fmt: skip


def seeds():
    """A catalog, a page."""
    yield b"\0" + HEAD.encode() + b"p5.48xlarge,H100,8.0,98.32,40.1,us-east-1\na,,,1,,x\n"
    yield b"\1" + f'{NODE_PRICE}{{node="n",region="r"}} 2.5\n'.encode()
    yield b"\2" + bytes(range(60))


def check(data):
    """Whatever is read is above zero and finite."""
    draw = Draw(data)
    kind = draw.byte() % 3
    body = _rows(draw) if kind == 2 else draw.rest()
    try:
        if kind == 1:
            page = PageParser({NODE_PRICE}).parse(body)
            price = opencost_price(Page("opencost", 0.0, layout=page.layout, values=page.values), {})
        else:
            _file.write(body)
            price = catalog_price(Path(_file.path), {"AcceleratorName": "H100"}, spot=bool(len(data) & 1))
    except SourceError:
        return
    if not 0 < price < math.inf:
        raise AssertionError(price)


def _rows(draw):
    rows = "".join(
        f"{draw.text(5)},H100,{draw.number()},{draw.number()},{draw.number()},{draw.text(5)}\n"
        for _ in range(draw.below(4))
    )
    return (HEAD + rows).encode("utf-8", "replace")
