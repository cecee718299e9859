"""What the kubelet answers about devices, in protobuf."""

from __future__ import annotations

from fuzz.draw import Draw
from inferometer.sources.podlist import holdings, replicas

LENGTH = 256
DICTIONARY = (
    b"nvidia.com/gpu",
    b"gpu.nvidia.com",
    b"GPU-1",
    b"MIG-1",
    b"nvidia0/gi1/vgpu3",
    b"::7",
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\xff" * 10,
)


def seeds():
    """An answer that was built, one that is raw."""
    yield bytes([1]) + bytes(range(1, 120))
    yield bytes([0]) + _field(1, _field(1, b"pod") + _field(2, b"ns") + _field(3, _container(b"GPU-1::2")))


def check(data):
    """ValueError is the only refusal; every pod that is found was named."""
    draw = Draw(data)
    body = _built(draw) if draw.byte() & 1 else draw.rest()
    for read in (holdings, replicas):
        try:
            found = read(body)
        except ValueError:
            continue
        for device, held in found.items():
            if not isinstance(device, str) or not (held if isinstance(held, tuple) else held > 0):
                raise AssertionError(found)


def _built(draw):
    out = b""
    while draw.more and len(out) < 4096:
        inner = draw.chunk(30) if draw.byte() & 1 else _container(draw.choose(DICTIONARY) + draw.chunk(8))
        pod = _field(1, draw.chunk(8)) + _field(2, draw.chunk(8)) + _field(draw.below(5), inner)
        out += _field(1 + draw.below(2), pod)
    return out


def _container(device):
    claim = _field(2, b"gpu.nvidia.com") + _field(4, device)
    return _field(1, b"c") + _field(2, _field(1, b"nvidia.com/gpu") + _field(2, device)) + _field(5, _field(4, claim))


def _field(number, body):
    size, head = len(body), b""
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + body
