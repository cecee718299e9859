"""Recordings of real servers through the whole stream, against what their clients counted themselves."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from inferometer import config
from inferometer.app.replay import replay, sources
from inferometer.exposition import catalog
from inferometer.model import Account, Snapshot

RECORDINGS = Path(__file__).parent / "recordings"
CLOSED_LOOP, POISSON, RESTART, STALL = (
    RECORDINGS / f"vllm-0.32-{name}" for name in ("closed-loop", "poisson-otlp", "restart", "stall")
)
SLO = {"slo.ttft": "500ms", "slo.tpot": "50ms", "slo.e2e": "5s"}


def replayed(folder: Path, **flags: str) -> Snapshot:
    """The final snapshot with all engines of the recording in one workload."""
    given = {name.replace("__", "-"): value for name, value in flags.items()}
    engines = [f"recording:{name}" for name in sources(folder)]
    settings = config.load(None, {"engine.url": engines, "gpus": "1", "price.gpu-hour": "3.60", **given}, {})
    return asyncio.run(replay(folder, settings, {}))


def thinned(folder: Path, into: Path, keep: object) -> Path:
    """A copy of a recording with only those rows of its index whose number is in ``keep``."""
    copy = into / folder.name
    shutil.copytree(folder, copy)
    header, *rows = (folder / "index.tsv").read_text().splitlines(keepends=True)
    (copy / "index.tsv").write_text(header + "".join(row for number, row in enumerate(rows) if number in keep))
    return copy


def total(snapshot: Snapshot, name: str, *labels: str) -> float:
    """The sum over the series of a counter that carry all these label values."""
    return sum(
        value
        for (metric, values), value in snapshot.totals.items()
        if metric == f"inferometer_{name}" and set(labels) <= set(values)
    )


def seconds(folder: Path) -> float:
    """From the first row of the index to its last."""
    times = [float(row.split("\t")[0]) for row in (folder / "index.tsv").read_text().splitlines()[1:]]
    return times[-1] - times[0]


def client(folder: Path, key: str = "client") -> dict[str, float]:
    return json.loads((folder / "truth.json").read_text())[key]


def faults(snapshot: Snapshot) -> list[str]:
    accounts: set[Account] = {*snapshot.totals, *snapshot.histograms, *snapshot.values}
    return [catalog.fault(account) for account in accounts if catalog.fault(account)]


@pytest.mark.parametrize("folder", [CLOSED_LOOP, POISSON, RESTART, STALL], ids=lambda folder: folder.name)
def test_money_reconciles(folder: Path) -> None:
    """Every second between the first and the last row is charged once, and every cent is on some token type or rest."""
    snapshot = replayed(folder, **SLO, interval="1s")
    assert total(snapshot, "cost_total") == pytest.approx(0.001 * seconds(folder), abs=1e-6)
    assert total(snapshot, "token_cost_total") == pytest.approx(total(snapshot, "cost_total"), rel=1e-9)
    assert total(snapshot, "gpu_seconds_total") == pytest.approx(seconds(folder), abs=1e-4)
    assert total(snapshot, "unaccounted_gpu_seconds_total") == 0
    start, end = (
        snapshot.values[f"inferometer_{name}_timestamp_seconds", ("default",)]
        for name in ("accounting_start", "settled_until")
    )
    assert end - start == pytest.approx(seconds(folder), abs=1e-6)
    assert faults(snapshot) == []


def test_closed_loop() -> None:
    """1,200 requests: exactly the tokens that the client sent and received, cached ones told apart."""
    snapshot, truth = replayed(CLOSED_LOOP), client(CLOSED_LOOP)
    assert total(snapshot, "tokens_total", "input_uncached") == 233_240
    assert total(snapshot, "tokens_total", "input_cached") == 20_864
    assert truth["prompt_tokens"] == 233_240 + 20_864 == 254_104
    assert total(snapshot, "tokens_total", "output") == truth["output_tokens"] == 77_504
    assert total(snapshot, "requests_total", "ok") == total(snapshot, "requests_total") == truth["completed"] == 1_200
    assert total(snapshot, "wasted_tokens_total") == total(snapshot, "resets_total") == 0
    assert total(snapshot, "token_cost_total", "unassigned") == 0
    assert total(snapshot, "cost_total", "idle") == pytest.approx(total(snapshot, "token_cost_total", "idle"), rel=1e-9)


def judged(snapshot: Snapshot) -> tuple[float, float, float]:
    names = ("slo_requests_total", "good_requests_lower_total", "good_requests_upper_total")
    return tuple(total(snapshot, name) for name in names)


@pytest.mark.parametrize("interval", ["1s", "5s", "60s"])
def test_poisson(interval: str) -> None:
    """90 requests, 31 of them good by the client's own clock: the bounds hold and do not hang on the interval."""
    snapshot, truth = replayed(POISSON, **SLO, interval=interval), client(POISSON)
    assert total(snapshot, "tokens_total", "output") == truth["output_tokens"] == 5_708
    assert total(snapshot, "tokens_total", "input_uncached", "small") == 19_514
    assert total(snapshot, "tokens_total", "input_cached") == 128
    assert truth["prompt_tokens"] == 19_514 + 128 == 19_642
    assert judged(snapshot) == (truth["completed"], 9, 44)
    assert 9 <= truth["good_requests"] <= 44
    assert snapshot.values["inferometer_slo_requests_pending", ("default",)] == 0


@pytest.mark.parametrize(("every", "interval"), [(1, "1s"), (5, "5s"), (7, "7s"), (60, "60s")])
@pytest.mark.parametrize("offset", [0, 3])
def test_poisson_read_more_rarely(tmp_path: Path, every: int, interval: str, offset: int) -> None:
    """A page in 5, 7 or 60 seconds has the same tokens and requests, and bounds that still hold."""
    rows = (POISSON / "index.tsv").read_text().splitlines()[1:]
    pages = [number for number, row in enumerate(rows) if row.split("\t")[2] == "metrics"]
    keep = {pages[0], *pages[offset::every], pages[-1]}
    snapshot = replayed(thinned(POISSON, tmp_path, keep), **SLO, interval=interval)
    count, lower, upper = judged(snapshot)
    assert count == total(snapshot, "requests_total") == 90
    assert lower <= client(POISSON)["good_requests"] <= upper
    assert total(snapshot, "tokens_total") == 19_642 + 5_708


def test_poisson_each_slo() -> None:
    """All three thresholds are bucket edges, so each SLO alone is exact: as many as the server's own spans say."""
    snapshot = replayed(POISSON, **SLO)
    server = client(POISSON, "server_spans")["within"]
    for slo, name in (("ttft", "ttft"), ("tpot", "tpot"), ("e2e", "e2el")):
        for side in ("lower", "upper"):
            assert total(snapshot, f"slo_met_requests_{side}_total", slo) == server[name]


def test_poisson_truth_is_in_the_bounds_request_by_request() -> None:
    """For each pair and each single threshold that the requests themselves were judged by, the bounds hold."""
    requests = json.loads((POISSON / "truth.json").read_text())["requests"]
    for ttft, tpot in ((0.1, 0.025), (0.5, 0.1), (1.0, 0.05), (0.75, 0.075)):
        good = sum(
            r["ttft"] <= ttft and (r["e2e"] - r["ttft"]) / max(1, r["output_tokens"] - 1) <= tpot for r in requests
        )
        _, lower, upper = judged(replayed(POISSON, **{"slo.ttft": f"{ttft}s", "slo.tpot": f"{tpot}s"}))
        assert lower - 2 <= good <= upper + 2  # the two clocks differ by a request or two at an edge


@pytest.mark.parametrize("rows", [(0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 5), (0, 3, 4, 5), (0, 3, 5)])
def test_restart(tmp_path: Path, rows: tuple[int, ...]) -> None:
    """Both processes are counted whole, also where the first page of the second was never read."""
    snapshot = replayed(thinned(RESTART, tmp_path, rows))
    assert total(snapshot, "tokens_total", "input_uncached") == 20_732
    assert total(snapshot, "tokens_total", "input_cached") == 896
    assert 20_732 + 896 == 21_628
    assert total(snapshot, "tokens_total", "output") == 5_868
    assert total(snapshot, "requests_total", "ok") == 105
    assert total(snapshot, "requests_total", "vanished") == 2
    assert total(snapshot, "requests_total") == 107
    assert total(snapshot, "resets_total") == 1
    assert total(snapshot, "wasted_tokens_total") == 160 - 122


def test_stall() -> None:
    """A server that is stuck with requests pending is stalled, not idle; its neighbour is not."""
    snapshot = replayed(STALL, gpus="2", interval="1s")
    assert total(snapshot, "gpu_seconds_total", "vllm-b", "stalled") >= 30
    assert total(snapshot, "gpu_seconds_total", "vllm-a", "stalled") == 0
    assert total(snapshot, "gpu_seconds_total", "unknown") == 0
    assert total(snapshot, "gpu_seconds_total") == pytest.approx(2 * seconds(STALL), abs=1e-4)
    truth = client(STALL, "vllm_a")
    assert total(snapshot, "tokens_total", "vllm-a", "output") == truth["output_tokens"]
    assert total(snapshot, "requests_total", "vllm-a", "ok") == truth["completed"]
    assert total(snapshot, "token_cost_total", "unassigned") >= total(snapshot, "cost_total", "stalled") > 0.03
    assert total(snapshot, "token_cost_total", "idle") == pytest.approx(total(snapshot, "cost_total", "idle"), rel=1e-9)


def test_page_to_page_nothing_falls() -> None:
    """No total of any snapshot is below the one before."""
    settings = config.load(None, {"engine.url": ["recording:vllm-b"], "gpus": "1", "price.gpu-hour": "3.60", **SLO}, {})
    before: dict[Account, float] = {}
    seen = 0

    def check(snapshot: Snapshot) -> None:
        nonlocal before, seen
        assert all(snapshot.totals[account] >= value for account, value in before.items())
        before, seen = dict(snapshot.totals), seen + 1

    for folder in (POISSON, RESTART):
        before = {}
        asyncio.run(replay(folder, settings, {}, check))
    assert seen > 100
