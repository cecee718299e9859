"""Make a small copy of a recording: all rows, of each page the lines that the agent reads and a few that it must not.

    python tests/tools/trim_recording.py RECORDING tests/recordings/NAME

Span bodies are copied as they are. Of ``truth.json`` the clients' figures stay; each request's stay where spans are.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from pathlib import Path

from inferometer import adapters

WANTED = adapters.builtin()["vllm"].wanted | {"process_start_time_seconds", "process_open_fds"}
DECOYS = frozenset(
    {
        "python_info",
        "process_cpu_seconds_total",
        "vllm:iteration_tokens_total_count",  # a histogram, whatever its name says
        "vllm:iteration_tokens_total_sum",
        "vllm:prefix_cache_queries_total",
        "vllm:request_prefill_time_seconds_sum",  # request-seconds: never a split of money
        "vllm:request_success_created",
    }
)
_NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*")
_FACTS = ("note", "client", "slo_seconds", "server_spans", "vllm_a", "vllm_b")


def trimmed(page: bytes) -> bytes:
    """The wanted lines of a page, unchanged and in their order."""
    kept = [line for line in page.splitlines(keepends=True) if _name(line) in WANTED | DECOYS]
    return b"".join(kept)


def _name(line: bytes) -> str:
    found = _NAME.match(line)
    return found[0].decode() if found else ""


def copy(source: Path, target: Path) -> None:
    """Write the trimmed recording; ``target`` must not exist."""
    target.mkdir(parents=True)
    index = (source / "index.tsv").read_text()
    (target / "index.tsv").write_text(index)
    names = [row.split("\t")[4] for row in index.splitlines()[1:]]
    for name in filter(None, names):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".gz"):
            body = trimmed(gzip.decompress((source / name).read_bytes()))
            path.write_bytes(gzip.compress(body, 9, mtime=0))
        else:
            shutil.copyfile(source / name, path)
    truth = json.loads((source / "truth.json").read_text())
    facts = {key: truth[key] for key in _FACTS if key in truth}
    if (target / "spans").exists():
        facts["requests"] = truth["requests"]
    (target / "truth.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]))
