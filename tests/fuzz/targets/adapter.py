"""An adapter of a user's own, and a price list, both YAML: read, or refused with a sentence that names the file."""

from __future__ import annotations

from pathlib import Path

from fuzz.memory import MemoryFile
from inferometer import adapters
from inferometer.app.report import price_list
from inferometer.errors import AdapterError, ConfigError

LENGTH = 512
_file = MemoryFile()
DICTIONARY = (
    *tuple(sorted({name.encode() for name in (*adapters.Adapter.__struct_fields__, *price_list._OURS.values())})),
    b"&a ", b"*a", b"<<: *a", b"[", b"{", b"2001-99-99", b"0x", b"0b_", b"1_", b"!!timestamp ", b"!!binary ", b"!!set ", b"!!omap ",
    b"!!pairs ", b"!!float ", b"!!int ", b"!!null ", b"? ", b"=", b".inf", b"1:99", b"- 9999-99-99 99:99:99",
)  # fmt: skip


def seeds():
    """What ships, and a bomb."""
    shipped = Path(adapters.__file__).parent
    for name in ("mlc.yaml", "kserve.yaml"):
        yield (shipped / name).read_bytes()
    yield b"a: &a [x,x]\nb: &b [*a,*a]\ncounters: {x: *b}\nengine: *a\n"
    yield b"models: {m: {input: 1, output: 2}}\ncurrency: USD\n"


def check(data):
    """No other error than the one that the command line shows."""
    _file.write(data)
    path = Path(_file.path)
    for read, refusal in (
        (adapters.load, AdapterError),
        (adapters.load_devices, AdapterError),
        (price_list.load, ConfigError),
    ):
        try:
            read(path)
        except refusal as error:
            if _file.path not in str(error):
                raise AssertionError("no file named") from error
