"""The bench counts what it says it counts: two targets for two seconds, and the page that its results make."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from fakenvml import Probe
from live import environment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import budgets, cards, pages, peers, process, report, result  # noqa: E402  a package beside the tests
from bench.access import Access, pace  # noqa: E402
from bench.growth import Growth, Point  # noqa: E402
from bench.peers import Peers, Row  # noqa: E402
from bench.picture import Chart  # noqa: E402
from bench.trial import Trial  # noqa: E402

SECONDS, EVERY = 2.0, 0.5


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """What ``python -m bench`` keeps of the agent and vmagent on two targets."""
    wanted = [name for name in ("nginx", "vmagent") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if wanted:
        assert os.environ.get("CI") != "true", f"missing: {wanted}; `make tools-bench` installs them"
        pytest.skip(f"not installed: {wanted}")
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "bench", "--targets", "2", "--every", str(EVERY), "--runs", "1"]
    done = subprocess.run(
        [*command, "--seconds", str(SECONDS), "--subjects", "agent,vmagent", "--out", str(out)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = result.kept(out, "peers", Peers)
    assert len(kept.rows) == 1
    return done.stdout, kept.rows[0]


def test_every_page_that_was_read_is_counted(row):
    """Two targets twice a second each, and something was spent on them."""
    _, row = row
    for name, (trial,) in row.trials.items():
        assert trial.pages_per_second * SECONDS == pytest.approx(2 * SECONDS / EVERY, abs=4), name
        assert 0 < trial.cpu_seconds_per_page < 1, name
        assert trial.core_ratio == pytest.approx(trial.cpu_seconds_per_page * trial.pages_per_second, rel=0.01), name
        assert 5e6 < trial.resident_bytes < 500e6, name
        assert 0 <= trial.connection_ratio < 0.5, name
    assert row.trials["agent"][0].lag_seconds >= 0
    assert row.trials["vmagent"][0].lag_seconds is None


def test_ratios_come_first(row):
    """The printed ratio is that of the two CPU columns."""
    said, row = row
    ours, theirs = (row.trials[name][0].cpu_seconds_per_page for name in ("agent", "vmagent"))
    ratio = re.search(r"of\n  vmagent \S+ +([\d.]+) \(", said)
    assert float(ratio[1]) == pytest.approx(ours / theirs, abs=0.01)
    assert said.index("the agent's over that of") < said.index("CPU per page, ms")


def test_a_page_moves_as_counters_do():
    """No counter of any page falls, and some rise."""
    for kind in pages.KINDS:
        page = pages.KINDS[kind]()
        before, after = (dict(line.rsplit(" ", 1) for line in page(at).decode().splitlines()) for at in (3, 300))
        assert list(before) == list(after)
        counters = [name for name in before if re.match(r"\w\S*(_total|_bucket|_count)\b", name)]
        assert counters or kind == "dcgm"
        assert [name for name in counters if float(after[name]) < float(before[name])] == []
        assert pages.size(page).changed > 0, kind


def test_a_page_with_many_models():
    """Each model has every series once."""
    one, many = (page(5).decode().splitlines() for page in (pages.vllm(), pages.models(3)))
    of_models = [line for line in one if "model_name=" in line]
    assert len(many) == len(one) + 2 * len(of_models)
    assert len(set(many)) == len(set(one)) + 2 * len(set(of_models))


def test_the_log_is_read_in_pieces(tmp_path):
    """An answer belongs to the time between two marks; jitter is per target."""
    log = tmp_path / "access.log"
    access = Access(log)
    assert (access.mark(), access.since(0)) == (0, [])
    log.write_text("10.000 127.16.0.1 200 500 1\n")
    mark = access.mark()
    with log.open("a") as file:
        file.write("11.100 127.16.0.1 200 500 2\n11.200 127.16.0.2 500 0 1\n12.000 127.16.0.1 200 500 3\n")
    hits = access.since(mark)
    assert [(hit.host, hit.whole, hit.first) for hit in hits] == [
        ("127.16.0.1", True, False),
        ("127.16.0.2", False, True),
        ("127.16.0.1", True, False),
    ]
    assert pace(access.since(0), 1.0).p50 == pytest.approx(0.1)


def test_children_count_and_stay_counted():
    """CPU of a child is there while it runs and after it ended."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    wait = "print(flush=True)\nimport time; time.sleep(60)"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{wait}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        try:
            parent.stdout.readline()
            ended = process.usage(parent.pid)
            assert ended.cpu_seconds >= 0.3
            assert ended.resident_bytes >= ended.proportional_bytes > 0
        finally:
            parent.kill()
    with subprocess.Popen([sys.executable, "-c", f"import os\nos.fork()\n{burn}\nimport time; time.sleep(60)"]) as both:
        try:
            end = time.monotonic() + 60
            while process.usage(both.pid).cpu_seconds < 0.6:
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            for pid in process.family(both.pid):
                os.kill(pid, 9)


def test_the_driver_has_eight_gpus_of_seven_instances(tmp_path):
    """What the agent reads of it, each instance with a name of its own."""
    if shutil.which("cc") is None:
        assert os.environ.get("CI") != "true", "a C compiler is missing; `make tools` installs one"
        pytest.skip("no C compiler is installed")
    with Probe(SimpleNamespace(environ=dict(cards.driver(tmp_path, 7)))) as probe:
        gpus = probe.read().gpus
    assert [len(gpu.instances) for gpu in gpus] == [7] * 8
    assert len({instance.uuid for gpu in gpus for instance in gpu.instances}) == 56


def trial(milliseconds, megabytes=50.0):
    return Trial(milliseconds / 1e3, 0.05, 50.0, megabytes * 1e6, megabytes * 1e6, 40.0, 0.001, 0.002, 0.0)


@pytest.fixture
def results(tmp_path):
    """Three runs in which the agent took 0.4, 0.6 and 0.5 of vmagent's CPU, and an agent that grows."""
    trials = {"agent": [trial(0.4), trial(0.6), trial(0.5)], "vmagent": [trial(1.0), trial(1.0), trial(1.0)]}
    titles = {"agent": "inferometer", "vmagent": "vmagent 1.2.3"}
    result.keep(tmp_path, "peers", Peers([Row(50, 1.0, "vllm", "a page", 10.0, "a machine", titles, trials)]))
    uptime = [Point(cycles * 100.0, 50e6 + cycles * 1e5) for cycles in range(1, 101)]
    runs = {"agent": [trial(1.0), trial(1.05)], "vmagent": [trial(2.0), trial(2.0)]}
    result.keep(tmp_path, "growth", Growth("a machine", 5.0, [10, 400], titles, runs, uptime))
    return tmp_path


def test_budgets_say_what_is_kept(results):
    rows = {row[0]: row[1:] for row in budgets.budgets(results)}
    assert rows["CPU per page, 50 engines at 1 s, of vmagent's"] == ["≤ 0.5 ×", "0.50 ×", "kept"]
    assert rows["CPU per page, 50 engines at 1 s, of Prometheus's"] == ["≤ 0.4 ×", "never", ""]
    assert rows["CPU per page with 400 targets, of that with 10"] == ["≤ 1.1 ×", "1.05 ×", "kept"]
    assert rows["memory gained in 10,000 cycles"][2] == "**exceeded**"
    assert rows["exec to the first complete /metrics"] == ["≤ 1 s", "never", ""]


def test_the_page_is_written_from_the_results(results):
    """Tables come between their marks, what was never measured says so, and all else stays."""
    text = "before\n<!-- bench peers -->\nold\n<!-- end -->\nbetween\n<!-- bench start -->\nold\n<!-- end -->\n"
    page = report.page(text, results)
    assert "**50 targets at 1 s**: CPU per page 0.50 (0.40 – 0.60) × vmagent 1.2.3" in page
    assert re.search(
        r"^\| inferometer \| 0\.50 \(0\.40 – 0\.60\) \| .* \| 50\.0 \(50\.0 – 50\.0\) \|$", page, re.MULTILINE
    )
    assert "old" not in page
    assert "<!-- bench start -->\nNot measured yet.\n<!-- end -->" in page
    assert report.page(page, results) == page


def test_the_documentation_is_what_the_results_say():
    """docs/performance.md and its curves are written by ``python -m bench.report``."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- bench (\w+) -->", text)) == set(report.SECTIONS)
    assert report.page(text, result.RESULTS) == text
    for name, chart in report.charts(result.RESULTS).items():
        assert (ROOT / "docs" / "images" / name).read_text(encoding="utf-8") == chart.svg()


def test_curves_are_small_and_fit_their_frame(results):
    charts = report.charts(results)
    assert set(charts) == {"growth-cpu.svg", "growth-memory.svg", "growth-uptime.svg"}
    for chart in charts.values():
        svg = chart.svg()
        assert len(svg) < 20_000
        assert "prefers-color-scheme: dark" in svg
        for line in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
            numbers = [float(number) for number in re.findall(r"[\d.]+", line.get("d"))]
            assert all(60 <= x <= 500 for x in numbers[::2])
            assert all(30 <= y <= 280 for y in numbers[1::2])


def test_names_beside_lines_do_not_overlap():
    svg = Chart("t", "x", {name: [(0.0, 1.0), (1.0, 1.0)] for name in "abc"}).svg()
    heights = sorted(float(y) for y in re.findall(r'<text class="dot\d" x="[\d.]+" y="([\d.]+)"', svg))
    assert all(after - before >= 14 for before, after in itertools.pairwise(heights))


def test_a_row_that_is_measured_anew_replaces_the_old_one(results):
    """Others stay: a page can be measured in parts."""
    from bench.__main__ import kept_rows  # noqa: PLC0415

    (old,) = result.kept(results, "peers", Peers).rows
    other = Row(8, 1.0, "vllm", "a page", 10.0, "later", old.titles, old.trials)
    anew = Row(50, 1.0, "vllm", "a page", 10.0, "later", old.titles, old.trials)
    assert [(row.targets, row.machine) for row in kept_rows([old], [other])] == [(8, "later"), (50, "a machine")]
    assert [(row.targets, row.machine) for row in kept_rows([old], [anew])] == [(50, "later")]
    assert peers.titles(["agent"]) == {"agent": "inferometer"}
