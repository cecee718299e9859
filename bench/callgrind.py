"""Instructions that the agent executes, by valgrind's callgrind: switched on for two intervals of the steady state."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from bench.nginx import Site
from bench.process import started
from bench.subjects import Task, agent
from bench.trial import alive, warm_up

_INTERVALS = 2


def counted(task: Task, site: Site, most: int) -> str:
    """Instructions per page, and the functions with most of them. Raises SystemExit without valgrind."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    out = task.folder / "callgrind.out"
    begin = site.access.mark()
    with started(_command(task, out), task.folder / "log") as child:
        warm_up(child, task, site.access, begin)
        time.sleep(task.every / 2)
        mark = site.access.mark()
        _switch("on", child.pid)
        time.sleep(_INTERVALS * task.every)
        _switch("off", child.pid)
        count = sum(hit.whole for hit in site.access.since(mark))
        alive(child, task.folder)
    said = _run("callgrind_annotate", "--auto=no", str(out))
    total = re.search(r"^([\d,]+) .*PROGRAM TOTALS", said, re.MULTILINE)
    instructions = int(total[1].replace(",", "")) if total else 0
    lines = [re.sub(r"\S*/| \[.*", "", line) for line in said.splitlines()]
    functions = [line for line in lines if re.match(r"\s*[\d,]+ \(", line) and "PROGRAM" not in line]
    head = f"{count} pages, {instructions / max(count, 1) / 1e6:.2f} million instructions a page\n"
    return "\n".join([head, *functions[:most]])


def _command(task: Task, out: Path) -> list[str]:
    how = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    return ["valgrind", *how, *agent(task)]


def _switch(state: str, pid: int) -> None:
    _run("callgrind_control", "-i", state, str(pid))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  valgrind's own tools
    return done.stdout + done.stderr
