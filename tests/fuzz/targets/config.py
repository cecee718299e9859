"""A configuration as YAML: loaded, or refused with every fault as one clear sentence; what is loaded can be laid out."""

from __future__ import annotations

from fuzz.draw import Draw
from fuzz.memory import MemoryFile
from inferometer import config
from inferometer.app.plan import plan
from inferometer.config.schema import Config
from inferometer.config.tables import table
from inferometer.errors import AdapterError, ConfigError

LENGTH = 512
_file = MemoryFile()
ENVIRON = {"NODE_IP": "10.0.0.1", "ODD": "1e5", "EMPTY": ""}
GOOD = """currency: EUR
interval: 5s
windows: [1m, 5m]
workloads:
  - name: chat
    engines:
      - {url: "http://127.0.0.1:8000/metrics", engine: vllm, role: both, gpus: 4, spans: {service.name: b}}
    gpus: auto
    share: 1.0
    price: h100
    slo: {ttft: 500ms, tpot: 50ms, e2e: 10s, objective: 0.95}
    budget: {amount: 20000, period: month, timezone: UTC}
    training: {amount: 12000, over: 180d}
prices:
  default: {gpu_hour: 2.50}
  spot: {gpu_hour: [{from: "00:00", rate: 1.10}, {from: "08:00", rate: 2.50}], timezone: UTC}
  h100: {owned: {server: 320000, gpus: 8, years: 4, metered: true, software_per_year: {amount: 4500, per: gpu}}}
electricity: {price_per_kwh: 0.12, pue: 1.3}
carbon: {grams_per_kwh: 400, source: "grid 2023"}
tokens: {weights: {input_uncached: 1, input_cached: 0.1, output: 4}}
gpu: {sources: [nvml, dcgm], dcgm_url: "http://$(NODE_IP):9400/metrics"}
otlp: {http: "127.0.0.1:4318", grpc: "127.0.0.1:4317"}
"""
_words = sorted({word.strip("{}[],:\"'- ") for word in GOOD.split()})
VALUES = ("1e400", "-1", "0", "0x1f", "1_0", "1:30", ".inf", ".nan", "~", "[]", "{}", "'5s'", "5s", "99999999999d", "!!int x",
          "*a", "&a x", "2001-99-99", "0b_", "$(NODE_IP)", "$(NO)", "$(ODD)", "$(EMPTY)", "http://[::1", "http://x:99999/",
          '"\\ud800"', "!!python/object:os.system x", "all", "8", "GPU-1", "<<", "|\n  x", "٣", "9" * 30)  # fmt: skip
DICTIONARY = (
    *tuple(word.encode("utf-8", "replace") for word in (*_words, *VALUES, *Config.__struct_fields__)),
    b"<<: *a", b"&a", b"*a", b"? ", b"--- ", b"%YAML 9.9", b"\xff\xfe", b"\xef\xbb\xbf", b"\x07", b"[[[[[[[[[[", b"\t",
)  # fmt: skip


def seeds():
    """A good file, one that is changed in places, a bomb of aliases."""
    yield b"\0" + GOOD.encode()
    yield b"\1" + bytes(range(1, 60))
    yield b"\0a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: [*d,*d]\n"
    yield b"\0workloads: &w\n  - &e {name: x, <<: *e}\n"


def check(data):
    """A Config that can be dumped and laid out, or sentences without a line break."""
    draw = Draw(data)
    _file.write(_changed(draw).encode("utf-8", "replace") if draw.byte() & 1 else draw.rest())
    try:
        made = config.load(_file.path, {}, ENVIRON)
    except ConfigError as error:
        _clear(error.faults)
        return
    config.dump(made)
    table(Config).schema()
    try:
        plan(made, (), ENVIRON)
    except (AdapterError, ConfigError) as error:
        if not str(error):
            raise AssertionError("an empty sentence") from error


def _changed(draw):
    """The good file with some words and lines replaced."""
    lines = GOOD.split("\n")
    for _ in range(1 + draw.below(5)):
        place, kind = draw.below(len(lines)), draw.below(5)
        if kind == 0:
            lines[place] = draw.text(40)
        elif kind == 1:
            lines.insert(place, lines[draw.below(len(lines))])
        elif kind == 2:
            del lines[place : place + 1 + draw.below(3)]
            lines.append("")
        else:
            lines[place] = lines[place].replace(draw.choose(_words) or " ", draw.choose(VALUES), 1)
    return "\n".join(lines)


def _clear(faults):
    if not faults or len(faults) != len(set(faults)):
        raise AssertionError(faults)
    for fault in faults:
        if "\n" in fault or not fault.startswith(_file.path) or "Traceback" in fault or len(fault) > 2000:
            raise AssertionError(fault)
