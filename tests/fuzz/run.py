"""Coverage-guided runs, one process for each target, and a table of what they did. Needs atheris (make fuzz)."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from fuzz.names import HERE, NAMES, corpus, target

STATE = Path(os.environ.get("FUZZ_STATE", ".cache/fuzz-state"))
COLUMNS = ("target", "executions", "exec/s", "coverage", "crashes", "slowest s", "memory growth MB")
_WALL_SECONDS, _RSS_MB, _LENGTH = 60, 1024, 1024
_STATUS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+).*?rss: (\d+)Mb")


def main(argv):
    """The exit code: 1 where anything crashed, hung or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=NAMES)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="executions of each target at most")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--storm", action="store_true", help="unguided, from what was found so far: many times as fast")
    asked = parser.parse_args(argv)
    rows = []
    for name in asked.targets:
        rows.append(_one(name, asked))
        with (STATE / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(rows[-1]) + "\n")
    _print(rows)
    return int(any(row["crashes"] or row["memory growth MB"] > 64 for row in rows))


def _one(name, asked):
    """Run one target in a child; what it found is kept for the next run."""
    grown, crashes = STATE / name / "corpus", STATE / name / "crashes"
    for folder in (grown, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    found_before = set(crashes.iterdir())
    limits = [
        f"-max_total_time={asked.seconds}", f"-runs={asked.runs}", f"-timeout={_WALL_SECONDS}", f"-rss_limit_mb={_RSS_MB}",
        f"-max_len={getattr(target(name), 'LENGTH', _LENGTH)}", "-len_control=20", f"-artifact_prefix={crashes}/", "-print_final_stats=1", "-reload=0",
        f"-seed={asked.seed}", *_dictionary(name),
    ]  # fmt: skip
    stats = STATE / name / "slowest"
    stats.unlink(missing_ok=True)
    child = [
        sys.executable,
        "-m",
        "fuzz.child",
        name,
        "fuzz.targets" if asked.storm else "inferometer",
        str(stats),
        *limits,
        str(grown),
    ]
    if corpus(name):
        child.append(str(HERE / "corpus" / name))
    began = time.monotonic()
    with (STATE / name / "output").open("wb") as output:
        subprocess.run(child, stdout=output, stderr=output, check=False)
    took = time.monotonic() - began
    said = (STATE / name / "output").read_text(errors="replace")
    return row(name, said, took, len(set(crashes.iterdir()) - found_before), stats)


def row(name, said, took, crashes, stats):
    """A row of the table out of what libFuzzer said; a run that it did not end itself is a crash."""
    lines = [tuple(map(int, match.groups())) for match in _STATUS.finditer(said)]
    done = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    executions = int(done[1]) if done else (lines[-1][0] if lines else 0)
    warm = next((rss for count, _, rss in lines if count >= executions / 4), 0)
    if not lines or "\nDone " not in said:
        crashes = max(crashes, 1)
    return {
        "target": name,
        "executions": executions,
        "exec/s": round(executions / took),
        "coverage": lines[-1][1] if lines else 0,
        "crashes": crashes,
        "slowest s": float(stats.read_text()) if stats.exists() else 0.0,
        "memory growth MB": lines[-1][2] - warm if lines else 0,
    }


def _dictionary(name):
    """The words of a target as an argument."""
    path, words = STATE / name / "dictionary", [word for word in getattr(target(name), "DICTIONARY", ()) if word]
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    path.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")
    return [f"-dict={path}"] if words else []


def _print(rows):
    total = {name: sum(row[name] for row in rows) for name in ("executions", "crashes")}
    print(" | ".join(COLUMNS))
    for row in rows:
        print(" | ".join(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in COLUMNS))
    print(f"{total['executions']:,} executions, {total['crashes']} crashes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
