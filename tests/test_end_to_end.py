"""A recording of a real engine goes in at one end of the real process, and the whole page comes out at the other.

`python -m pytest tests/test_end_to_end.py --update-golden` rewrites the page; read the diff before it is committed.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from inferometer import __version__
from prometheus_client.parser import text_string_to_metric_families as parse_text

TESTS = Path(__file__).parent
RECORDING = TESTS / "recordings" / "vllm-0.32-poisson-otlp"
GOLDEN = TESTS / "golden" / "metrics.txt"
FLAGS = (
    "--workload=chat", "--gpus=1", "--price.gpu-hour=2.50",
    "--slo.ttft=500ms", "--slo.tpot=50ms", "--slo.e2e=10s",
)  # fmt: skip
OF_THE_MACHINE = ("process_", "python_", "inferometer_event_loop_lag", "inferometer_source_", "inferometer_gpu_up")
"""Beginnings of names whose values would differ from one run or machine to the next."""


def replay(form):
    """What the command prints, in an environment that sets nothing of ours."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("INFEROMETER_")}
    environ |= {"TZ": "Asia/Kathmandu", "PYTHONPATH": str(TESTS.parent / "agent")}
    command = [sys.executable, "-m", "inferometer", "replay", str(RECORDING), "--format", form, *FLAGS]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page():
    return replay("metrics")


@pytest.fixture(scope="module")
def totals(page):
    """Sums over all series of a name."""
    sums = {}
    for family in parse_text(page):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def settled(page, golden):
    """The page without its version, which a release must not have to touch here, and with the golden last digits.

    Those depend on the order of additions, and so on Python: since 3.12 sum() rounds once.
    """
    known = dict(line.rpartition(" ")[::2] for line in golden.splitlines() if not line.startswith("#"))
    lines = page.replace(f'version="{__version__}"', 'version="…"').splitlines()
    return "\n".join(_like(line, known.get(line.rpartition(" ")[0])) for line in lines) + "\n"


def _like(line, value):
    series, _, number = line.rpartition(" ")
    same = not line.startswith("#") and value and math.isclose(float(number), float(value), rel_tol=1e-12)
    return f"{series} {value}" if same else line


def test_the_whole_page(page, update_golden):
    """Every header, label and digit but the last ones; a change here is a change that users see."""
    golden = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    text = settled(page, golden)
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
        return
    diff = difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=0)
    assert text == golden, "\n".join(["the page has changed; if it should: --update-golden", *diff])


def test_only_last_digits_may_differ():
    """What the golden page lets pass is far below anything that somebody could see."""
    golden = '# HELP a b\na{x="1"} 0.3\nb 5\n'
    assert settled('# HELP a b\na{x="1"} 0.30000000000000004\nb 5\n', golden) == golden
    assert settled('# HELP a b\na{x="1"} 0.30000001\nb 6\n', golden) == '# HELP a b\na{x="1"} 0.30000001\nb 6\n'


def test_the_page_is_the_same_each_time(page):
    """Nothing on it comes from the clock, the machine or the order of a set."""
    assert replay("metrics") == page


def test_nothing_of_the_machine_is_on_the_page(page):
    names = {line.split("{")[0].split()[0] for line in page.splitlines() if not line.startswith("#")}
    assert {name for name in names if name.startswith(OF_THE_MACHINE)} == set()
    assert str(TESTS.parent) not in page


def test_the_page_says_what_the_client_saw(totals):
    """Independent of the golden page: 90 requests, 19,642 + 5,708 tokens, 31 of them good, 1 GPU from row to row."""
    assert totals["inferometer_tokens_total"] == 19642 + 5708
    assert totals["inferometer_requests_total"] == 90
    assert totals["inferometer_slo_requests_total"] == 90
    assert totals["inferometer_good_requests_lower_total"] <= 31 <= totals["inferometer_good_requests_upper_total"]
    rows = [float(line.split("\t")[0]) for line in (RECORDING / "index.tsv").read_text().splitlines()[1:]]
    held = max(rows) - min(rows)
    assert totals["inferometer_gpu_seconds_total"] == pytest.approx(held, abs=1e-6)
    assert totals["inferometer_cost_total"] == pytest.approx(held * 2.50 / 3600, abs=1e-6)
    assert totals["inferometer_token_cost_total"] == pytest.approx(totals["inferometer_cost_total"], rel=1e-9)


@pytest.fixture
def promtool():
    """Prometheus's own tool; `make tools` brings it."""
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("promtool is not installed: make tools")
    return found or pytest.skip("promtool is not installed: make tools")


def test_promtool_has_no_complaint(page, promtool):
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_reference_parser_reads_the_same(page):
    """prometheus_client finds every sample line, each in a family of its own, and no series twice."""
    families = list(parse_text(page))
    samples = [(s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples]
    assert len(samples) == len(set(samples)) == sum(not line.startswith("#") for line in page.splitlines())
    assert all(family.documentation and family.type != "unknown" for family in families)


def test_openmetrics_fills_a_database(page, promtool, tmp_path):
    """`--format openmetrics` is every snapshot with its time; promtool makes blocks of it that span the recording."""
    text = replay("openmetrics")
    stamps = [float(stamp) for stamp in re.findall(r"^inferometer_price_missing\{.*\} 0 (\S+)$", text, re.MULTILINE)]
    rows = (RECORDING / "index.tsv").read_text().splitlines()[1:]
    assert stamps == sorted(stamps)
    assert (stamps[0], stamps[-1]) == (round(float(rows[0].split()[0]), 3), round(float(rows[-1].split()[0]), 3))
    (tmp_path / "all.txt").write_text(text, encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "all.txt"), str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = re.findall(r"^inferometer_tokens_total\{.*type=\"output\"\} (\S+) ", text, re.MULTILINE)[-1]
    assert f'type="output"}} {last}\n' in page
