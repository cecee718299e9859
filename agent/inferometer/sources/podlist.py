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
_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}

Fields = dict[int, list[bytes]]


def holdings(listing: bytes) -> dict[str, tuple[Pod, ...]]:
    """The pods of each device, out of a ListPodResourcesResponse. ValueError when it is none.

    Replicas of one device that a pod holds several of are one holding: they are access, not shares.
    """
    pods: dict[str, dict[tuple[str, str], Pod]] = {}
    for resources in _each(_fields(listing), 1):
        name, namespace = _text(resources, 1), _text(resources, 2)
        for container in _each(resources, 3):
            pod = Pod(namespace, name, _text(container, 1))
            for device in (*_plugged(container, 2), *_claimed(container)):
                key, _ = _split(device)
                pods.setdefault(key, {}).setdefault((namespace, name), pod)
    return {device: tuple(holders.values()) for device, holders in pods.items()}


def replicas(allocatable: bytes) -> dict[str, int]:
    """Into how many replicas each shared device is cut, out of an AllocatableResourcesResponse. ValueError as above."""
    numbers: dict[str, set[str]] = {}
    for device in _plugged(_fields(allocatable), 1):
        key, number = _split(device)
        if number:
            numbers.setdefault(key, set()).add(number)
    return {device: len(found) for device, found in numbers.items()}


def _plugged(message: Fields, field: int) -> Iterator[str]:
    """Ids of NVIDIA devices that a device plugin gave out."""
    for devices in _each(message, field):
        if _text(devices, 1).startswith(_VENDOR):
            ids = (text.decode("utf-8") for text in devices.get(2, ()))
            yield from (device for device in ids if _DEVICE.fullmatch(device))


def _claimed(container: Fields) -> Iterator[str]:
    """Names of NVIDIA devices that were claimed through dynamic resource allocation."""
    for resource in _each(container, 5):
        for claim in _each(resource, 4):
            if _text(claim, 2) == DRA_DRIVER and (device := _text(claim, 4)):
                yield device


def _split(device: str) -> tuple[str, str]:
    """A device and the number of its replica: GPU-x::3, nvidia0/gi1/vgpu3; '' where it is not replicated."""
    match = _DEVICE.fullmatch(device)
    return (match[1], match[2] or "") if match else (device, "")


def _text(message: Fields, field: int) -> str:
    """A string field, of which the last one counts."""
    found = message.get(field)
    return found[-1].decode("utf-8") if found else ""


def _each(message: Fields, field: int) -> Iterator[Fields]:
    """The messages in a field."""
    return map(_fields, message.get(field, ()))


def _fields(message: bytes) -> Fields:
    """The strings and messages of a message, by field number. ValueError when the bytes are none."""
    fields: Fields = {}
    at, whole = 0, len(message)
    while at < whole:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, at = _varint(message, at)
            fields.setdefault(number, []).append(message[at : at + length])
            at += length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            number = 0
        if not number or at > whole:
            raise ValueError(f"no protobuf message of {whole} bytes")
    return fields


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
