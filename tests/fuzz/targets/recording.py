"""A recording: an index and its files, read to the end or refused with file and line; nothing outside is opened."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from fuzz.draw import Draw
from fuzz.messages import READER
from inferometer.errors import RecordingError, SourceError
from inferometer.sources import recording
from inferometer.sources.otlp.decode import decode, from_protobuf

_folder = tempfile.TemporaryDirectory(dir="/dev/shm")
ROOT = Path(_folder.name)
HEAD = "\t".join(recording.HEADER)
FILES = ("pages/a.prom", "pages/b.prom.gz", "spans/a.bin", "gpus/a.json.gz", "pages/none", "../outside", "/etc/hostname", "pages", "link", ".", "a\0b", "pages//a.prom", "x" * 300)  # fmt: skip
TIMES = ("1.5", "2", "nan", "1e999", "-1", "", "1_0", "٣", "0x1")
DICTIONARY = (HEAD.encode(), b"\t", b"\n", b"metrics", b"otlp", b"nvml", b"200", b"pages/a.prom", b"\x1f\x8b\x08")
for _name in ("pages", "spans", "gpus"):
    (ROOT / _name).mkdir()
(ROOT / "link").symlink_to("/etc/hostname")


def seeds():
    """Decisions, and a raw index."""
    yield b"\1" + bytes(range(200))
    yield b"\0\x04x 1\n" + HEAD.encode() + b"\n1.5\ta\tmetrics\t200\tpages/a.prom\n2\ta\tmetrics\ttimeout\t\n"
    yield b"\1" + bytes([7, 1, 2, 1, 1, 1, 0, 2]) * 20


def check(data):
    """Rows have finite times and known kinds; a body that cannot be what it says is a RecordingError."""
    draw = Draw(data)
    kind = draw.byte()
    for name in FILES[: 1 + kind % 4]:
        (ROOT / name).write_bytes(draw.chunk(60))
    (ROOT / recording.INDEX).write_bytes(_index(draw).encode() if kind & 1 else draw.rest())
    try:
        rows = list(recording.read(ROOT))
        for row in rows:
            if not math.isfinite(row.at) or row.kind not in recording.KINDS or not row.source:
                raise AssertionError(row)
            if row.kind == "nvml":
                recording.gpu_reading(row)
            elif row.kind == "otlp":
                decode(from_protobuf(row.body), lambda _: READER, row.at)
    except (RecordingError, SourceError) as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError(str(error)) from error


def _index(draw):
    lines = [HEAD]
    for _ in range(draw.below(6)):
        fields = [
            draw.choose(TIMES),
            draw.text(4) or "a",
            draw.choose((*recording.KINDS, "x")),
            draw.choose(("200", "timeout", "")),
        ]
        lines.append("\t".join([*fields, draw.choose((*FILES, "", ""))]))
    return "\n".join(lines) + ("\n" if draw.byte() & 7 else "")
