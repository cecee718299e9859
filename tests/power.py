"""What a disk may hold after the power went: every image that the log of disk.c allows, one drawn at a time.

What was synced is there. Of everything since, any part may be missing: writes are lost whole, torn at the edges of
sectors, or overtaken by later ones; names that were made, changed or taken away are as they were or as they became.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

CREATE, OPEN, WRITE, TRUNCATE, SYNC, SYNC_FOLDER, UNLINK, RENAME, MKDIR = range(1, 10)
_HEADER = struct.Struct("<IIqqII")
_SECTORS = (512, 4096)


class Record(NamedTuple):
    op: int
    file: int
    at: float
    offset: int
    first: bytes
    second: bytes


def records(log):
    """Everything that was done, in order; times are monotonic seconds."""
    data, found, at = Path(log).read_bytes(), [], 0
    while at < len(data):
        op, file, ns, offset, first, second = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        found.append(Record(op, file, ns / 1e9, offset, data[at : at + first], data[at + first : at + first + second]))
        at += first + second
    return found


class File:
    """A file: what is synced, and what was done to it since."""

    def __init__(self):
        self.synced, self.since = b"", []

    def image(self, rng):
        """What may be left of it."""
        how, sector = rng.choice(("nothing", "all", "prefix", "some")), rng.choice(_SECTORS)
        whole = rng.randint(0, len(self.since))
        content = bytearray(self.synced)
        for number, (offset, data) in enumerate(self.since):
            if how == "all" or (how == "prefix" and number < whole) or (how == "some" and rng.random() < 0.5):
                _apply(content, offset, data)
            elif how == "some" or (how == "prefix" and number == whole):
                _tear(content, offset, data, sector, rng)
        return bytes(content)

    def sync(self):
        """All of it is on the disk now."""
        content = bytearray(self.synced)
        for offset, data in self.since:
            _apply(content, offset, data)
        self.synced, self.since = bytes(content), []


def _apply(content, offset, data):
    """A write, or a truncation where there is no data."""
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


def _tear(content, offset, data, sector, rng):
    """Some sectors of a write only."""
    if data is None:
        return
    end, at = offset + len(data), offset
    while at < end:
        edge = min(end, (at // sector + 1) * sector)
        if rng.random() < 0.5:
            _apply(content, at, data[at - offset : edge - offset])
        at = edge


class Disk:
    """All files and names below ``root``; ``do`` follows the log."""

    def __init__(self, root):
        self._root = str(root)
        self._files = {}
        self._now, self._synced = {}, {}  # by path
        self._since = []  # changes of names: folder, path that goes, path that comes, file

    def do(self, record):
        """One record."""
        name = record.first.decode() if record.op not in {WRITE, TRUNCATE, SYNC} else ""
        if record.op == CREATE:
            self._files[record.file] = File()
            self._name(None, name, self._files[record.file])
        elif record.op == OPEN:
            self._files[record.file] = self._now[name]
        elif record.op in {WRITE, TRUNCATE}:
            data = record.first if record.op == WRITE else None
            self._files[record.file].since.append((record.offset, data))
        elif record.op == SYNC:
            self._files[record.file].sync()
        elif record.op == UNLINK:
            self._name(name, None, self._now[name])
        elif record.op == RENAME:
            self._name(name, record.second.decode(), self._now[name])
        elif record.op == MKDIR:
            self._name(None, name, None)
        else:
            self._sync_folder(name)

    def image(self, rng, to):
        """Make one of the folders that the disk may hold now."""
        names, some = dict(self._synced), rng.random() < 0.5
        until = rng.randint(0, len(self._since))
        for number, (_, old, new, file) in enumerate(self._since):
            if rng.random() < 0.5 if some else number < until:
                _rename(names, old, new, file)
        for path, file in sorted(names.items(), key=lambda one: one[0]):
            parent = str(Path(path).parent)
            if parent in self._now and parent not in names:  # its folder is lost, and it with it
                continue
            where = Path(to) / Path(path).relative_to(self._root)
            if file is None:
                where.mkdir(parents=True, exist_ok=True)
            else:
                where.parent.mkdir(parents=True, exist_ok=True)
                where.write_bytes(file.image(rng))

    def _name(self, old, new, file):
        _rename(self._now, old, new, file)
        self._since.append((str(Path(old or new).parent), old, new, file))

    def _sync_folder(self, folder):
        for where, old, new, file in self._since:
            if where == folder:
                _rename(self._synced, old, new, file)
        self._since = [change for change in self._since if change[0] != folder]


def _rename(names, old, new, file):
    if old is not None:
        names.pop(old, None)
    if new is not None:
        names[new] = file
