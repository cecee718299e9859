"""Recordings: a folder with an index of readings and the bodies that were read (design §8)."""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferometer.errors import RecordingError, SourceError
from inferometer.model import GpuReading
from inferometer.sources.inflate import inflate

INDEX = "index.tsv"
HEADER = ("at", "source", "kind", "status", "file")
KINDS = ("metrics", "otlp", "nvml")
OK = "200"  # the status of a reading that succeeded, of whatever kind
MAX_BODY_BYTES = 33_554_432
_MAX_LINE_BYTES = 8_192
_ABSURD = 1e15  # joules, and watts, of any GPU
_FOLDERS = {"metrics": ("pages", ".prom.gz"), "otlp": ("spans", ".bin"), "nvml": ("gpus", ".json.gz")}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Row(Struct, frozen=True):
    """One recorded reading: ``at`` in unix seconds, HTTP status or error name, body decompressed (b'' on failure)."""

    at: float
    source: str
    kind: str
    status: str
    body: bytes


def read(folder: str | Path) -> Iterator[Row]:
    """The rows in the order of the index. RecordingError names file, line and remedy; nothing outside is opened."""
    root = Path(folder)
    index = root / INDEX
    try:
        with _open(index, str(index), "give the folder that holds it") as file:
            header = file.readline(_MAX_LINE_BYTES).decode("utf-8", "replace").rstrip("\r\n").split("\t")
            if tuple(header) != HEADER:
                raise RecordingError(f"{index}:1: the header must be {' '.join(HEADER)}, with tabs between")
            number = 1
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if line.strip():
                    yield _row(root, line, f"{index}:{number}")
    except OSError as error:
        raise RecordingError(f"{index}: {error.strerror}; check the disk and the permissions") from error


def _row(root: Path, line: bytes, where: str) -> Row:
    if not line.endswith(b"\n"):
        raise RecordingError(f"{where}: the line is cut off; delete it")
    fields = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    if len(fields) != len(HEADER):
        raise RecordingError(f"{where}: {len(fields)} fields where {len(HEADER)} belong; separate them with tabs")
    at, source, kind, status, name = fields
    if kind not in KINDS:
        raise RecordingError(f"{where}: kind {kind!r} is unknown; write {' or '.join(KINDS)}")
    if not source:
        raise RecordingError(f"{where}: the source is empty; name the engine")
    return Row(_seconds(at, where), source, kind, status, _body(root, name, where) if name else b"")


def _seconds(text: str, where: str) -> float:
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise RecordingError(f"{where}: {text!r} is no time; write unix seconds such as 1795398391.095")
    return at


def _body(root: Path, name: str, where: str) -> bytes:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name:
        raise RecordingError(f"{where}: {name!r} leaves the recording; name a file inside it")
    path = root
    for part in parts.parts:
        path /= part
        if path.is_symlink():
            raise RecordingError(f"{where}: {path} is a symbolic link; replace it by the file itself")
    with _open(path, where, "restore it or delete the line") as file:
        body = file.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise RecordingError(f"{where}: {path} is larger than {MAX_BODY_BYTES} bytes; delete the line")
    try:
        return inflate(body, "gzip" if name.endswith(".gz") else "", MAX_BODY_BYTES)
    except SourceError as error:
        raise RecordingError(f"{where}: {path}: {error}; restore it or delete the line") from error


def _open(path: Path, where: str, remedy: str) -> BinaryIO:
    """An ordinary file; a link, folder or pipe under that name is refused rather than followed or waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RecordingError(f"{where}: {path} cannot be opened ({error.strerror}); {remedy}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecordingError(f"{where}: {path} is no file; {remedy}")
    return os.fdopen(descriptor, "rb")


def gpu_body(reading: GpuReading) -> bytes:
    """The body of a row of kind nvml: JSON, b'' where the reading failed. ``reading.at`` in unix seconds."""
    return b"" if reading.error else msgspec.json.encode(reading)


def gpu_reading(row: Row) -> GpuReading:
    """The reading that a row of kind nvml holds, at the row's time; RecordingError when its body is none."""
    if row.status != OK or not row.body:
        return GpuReading(row.source, row.at, row.status)
    where = f"the row of {row.source} at {row.at:.6f}"
    try:
        reading = msgspec.json.decode(row.body, type=GpuReading)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{where}: its body is no reading of GPUs ({error}); delete the line") from error
    meters = [value for gpu in reading.gpus for value in (gpu.power_watts, gpu.energy_joules) if value is not None]
    if not all(0 <= value < _ABSURD for value in meters):
        raise RecordingError(f"{where}: no meter of a GPU shows that much; delete the line")
    return replace(reading, at=row.at)


class Writer:
    """Makes a recording in ``folder``, which may exist but may not hold one; a row is on the index once its body is."""

    def __init__(self, folder: str | Path) -> None:
        self._root = Path(folder)
        self._rows = 0
        index = self._root / INDEX
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._index = os.open(index, flags, 0o644)
        except OSError as error:
            if error.errno != errno.EEXIST or not self._root.is_dir():
                raise RecordingError(f"{self._root}: {error.strerror}; choose a folder that can be written") from error
            raise RecordingError(f"{index}: there is a recording already; choose another folder") from error
        self._append(HEADER)

    def __enter__(self) -> Self:
        """Close at the end of the with block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whatever happened."""
        self.close()

    def write(self, at: float, source: str, kind: str, status: str, body: bytes) -> None:
        """Append one reading. RecordingError when the disk refuses, or a field would not survive the index."""
        index = self._root / INDEX
        if kind not in KINDS:
            raise RecordingError(f"{index}: kind {kind!r} is unknown; write {' or '.join(KINDS)}")
        if not source or not (source + status).isprintable():
            raise RecordingError(f"{index}: {source!r} {status!r} cannot stand in a recording; rename the source")
        name = self._store(source, kind, body) if body else ""
        self._append((f"{at:.6f}", source, kind, status, name))
        self._rows += 1

    def close(self) -> None:
        """Finish; the recording can be read at any time, closed or not."""
        if self._index >= 0:
            os.close(self._index)
            self._index = -1

    def _store(self, source: str, kind: str, body: bytes) -> str:
        folder, ending = _FOLDERS[kind]
        name = f"{folder}/{_UNSAFE.sub('_', source)[:80]}-{self._rows:06d}{ending}"
        try:
            (self._root / folder).mkdir(exist_ok=True)
            with (self._root / name).open("xb") as file:
                file.write(gzip.compress(body, mtime=0) if ending.endswith(".gz") else body)
        except OSError as error:
            raise RecordingError(
                f"{self._root / name}: {error.strerror}; make room or choose another folder"
            ) from error
        return name

    def _append(self, fields: tuple[str, ...]) -> None:
        """One write to a file opened for appending, so that no reader sees half a line."""
        try:
            os.write(self._index, ("\t".join(fields) + "\n").encode())
        except OSError as error:
            raise RecordingError(f"{self._root / INDEX}: {error.strerror}; make room on the disk") from error
