"""What the kubelet answers about devices, in protobuf (API v1): who holds which, and how many replicas there are.

Only strings in messages are wanted, for which the wire format is read here: no generated code, no further library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from inferometer.model import Pod

DRA_DRIVER = "gpu.nvidia.com"

_VENDOR = "nvidia.com/"  # gpu, gpu.shared, mig-1g.10gb and whatever a device plugin renames them to
_DEVICE = re.compile(r"((?:GPU-|MIG-|nvidia\d)[^:]*?)(?:(?:::|/vgpu)(\d+))?")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def holdings(listing: bytes) -> dict[str, tuple[Pod, ...]]:
    """The pods of each device, out of a ListPodResourcesResponse. ValueError when it is none.

    Replicas of one device that a pod holds several of are one holding: they are access, not shares.
    """
    pods: dict[str, dict[tuple[str, str], Pod]] = {}
    for resources in _inner(listing, 1):
        name, namespace = _text(resources, 1), _text(resources, 2)
        for container in _inner(resources, 3):
            pod = Pod(namespace, name, _text(container, 1))
            for device in (*_plugged(container, 2), *_claimed(container)):
                key, _ = _split(device)
                pods.setdefault(key, {}).setdefault((namespace, name), pod)
    return {device: tuple(holders.values()) for device, holders in pods.items()}


def replicas(allocatable: bytes) -> dict[str, int]:
    """Into how many replicas each shared device is cut, out of an AllocatableResourcesResponse. ValueError as above."""
    numbers: dict[str, set[str]] = {}
    for device in _plugged(allocatable, 1):
        key, number = _split(device)
        if number:
            numbers.setdefault(key, set()).add(number)
    return {device: len(found) for device, found in numbers.items()}


def _plugged(message: bytes, field: int) -> Iterator[str]:
    """Ids of NVIDIA devices that a device plugin gave out."""
    for devices in _inner(message, field):
        if _text(devices, 1).startswith(_VENDOR):
            yield from (device for device in map(_decoded, _inner(devices, 2)) if _DEVICE.fullmatch(device))


def _claimed(container: bytes) -> Iterator[str]:
    """Names of NVIDIA devices that were claimed through dynamic resource allocation."""
    for resource in _inner(container, 5):
        for claim in _inner(resource, 4):
            if _text(claim, 2) == DRA_DRIVER and (device := _text(claim, 4)):
                yield device


def _split(device: str) -> tuple[str, str]:
    """A device and the number of its replica: GPU-x::3, nvidia0/gi1/vgpu3; '' where it is not replicated."""
    match = _DEVICE.fullmatch(device)
    return (match[1], match[2] or "") if match else (device, "")


def _text(message: bytes, field: int) -> str:
    """A string field, of which the last one counts."""
    text = b""
    for found in _inner(message, field):
        text = found
    return _decoded(text)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8")


def _inner(message: bytes, field: int) -> Iterator[bytes]:
    """The strings or messages under a field's number. ValueError when the bytes are no message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        end = at
        if kind == _BYTES:
            length, at = _varint(message, at)
            end = at + length
        elif kind == _VARINT:
            _, end = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            end = at + (4 if kind == _FIXED32 else 8)
        if not number or (end == at and kind != _BYTES) or end > len(message):
            raise ValueError(f"no protobuf message at byte {at}")
        if number == field and kind == _BYTES:
            yield message[at:end]
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits and where the rest begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"no number at byte {at}")
