"""/metrics parses, says what the snapshot says, and lints."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inferometer.exposition import prometheus
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.gauges import numbers
from inferometer.exposition.metric import COUNTER, HISTOGRAM
from inferometer.exposition.prometheus import Renderer
from inferometer.exposition.text import edge, number
from inferometer.model import EngineView, Exemplar, Gpu, Histogram, Snapshot, SourceView
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

INF = float("inf")
COST = ("inferometer_cost_total", ("chat", "gpu", "busy"))
RESETS = ("inferometer_resets_total", ("engine-0",))
TTFT = ("inferometer_ttft_seconds", ("chat", "engine-0", "llama"))
BURN = ("inferometer_burn_rate", ("chat", "1h"))
LATENCIES = Histogram((0.1, 0.5, 1.0, INF), (1.0, 3.0, 3.0, 4.0), 7.25)


def samples(page, parse):
    """(name, labels) → value; fails on a duplicate."""
    found = {}
    for family in parse(page.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def both(snapshot, **options):
    renderer = Renderer(process=False, **options)
    text = samples(renderer.render(snapshot), parse_text)
    openmetrics = samples(renderer.render(snapshot, openmetrics=True), parse_openmetrics)
    return text, openmetrics


def full():
    """One sample of every metric of the catalog, and all the structured parts."""
    accounts = {
        metric.name: (
            metric.name,
            tuple(label.values[0] if label.values else f"a-{label.name}" for label in metric.labels),
        )
        for metric in CATALOG.values()
    }
    histograms = {a: LATENCIES for name, a in accounts.items() if CATALOG[name].type == HISTOGRAM}
    totals = {a: 1.5 for name, a in accounts.items() if CATALOG[name].type == COUNTER}
    values = {a: 0.25 for a in accounts.values() if a not in histograms and a not in totals}
    return Snapshot(
        1.8e9,
        totals=totals,
        created=dict.fromkeys([*totals, *histograms], 1.7e9),
        histograms=histograms,
        values=values,
        engines=(EngineView("chat", "e", up=True, state="busy", kind="vllm", version="0.11"),),
        gpus=(Gpu("GPU-1", 0, "H100", power_watts=300.0, energy_joules=12.5),),
        sources=(SourceView("http://e/metrics", up=True, read_seconds=0.01, last_success=1.8e9, errors={"http": 2}),),
    )


def test_every_metric_of_the_catalog_is_rendered_in_its_order():
    page = Renderer(process=False).render(full()).decode()
    types = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE")]
    assert types == [[metric.name, metric.exposed_type] for metric in CATALOG.values()]


def test_the_text_page_word_for_word():
    snapshot = Snapshot(
        1.8e9,
        totals={COST: 1.5, RESETS: 3.0},
        created={COST: 1.7e9},
        histograms={TTFT: LATENCIES},
        currency="EUR",
    )
    assert Renderer(process=False).render(snapshot).decode().splitlines() == [
        "# HELP inferometer_cost_total Money spent, by what it paid for and what the GPUs did meanwhile.",
        "# TYPE inferometer_cost_total counter",
        'inferometer_cost_total{workload="chat",component="gpu",state="busy",currency="EUR"} 1.5',
        "# HELP inferometer_ttft_seconds Time to first token from arrival, queue included.",
        "# TYPE inferometer_ttft_seconds histogram",
        'inferometer_ttft_seconds_bucket{workload="chat",engine="engine-0",model="llama",le="0.1"} 1',
        'inferometer_ttft_seconds_bucket{workload="chat",engine="engine-0",model="llama",le="0.5"} 3',
        'inferometer_ttft_seconds_bucket{workload="chat",engine="engine-0",model="llama",le="1.0"} 3',
        'inferometer_ttft_seconds_bucket{workload="chat",engine="engine-0",model="llama",le="+Inf"} 4',
        'inferometer_ttft_seconds_count{workload="chat",engine="engine-0",model="llama"} 4',
        'inferometer_ttft_seconds_sum{workload="chat",engine="engine-0",model="llama"} 7.25',
        "# HELP inferometer_resets_total Counter resets seen, one per restart of an engine or reload of a driver.",
        "# TYPE inferometer_resets_total counter",
        'inferometer_resets_total{source="engine-0"} 3',
    ]


def test_the_openmetrics_page_word_for_word():
    snapshot = Snapshot(
        1.8e9,
        totals={("inferometer_energy_joules_total", ("chat", "gpu", "active", "counter")): 2.0},
        created={("inferometer_energy_joules_total", ("chat", "gpu", "active", "counter")): 1.7e9, TTFT: 1.6e9},
        histograms={TTFT: Histogram((1e6, INF), (0.0, 2.0), 2e6)},
    )
    labels = '{workload="chat",engine="engine-0",model="llama"'
    assert Renderer(process=False).render(snapshot, openmetrics=True).decode().splitlines() == [
        f"# HELP inferometer_energy_joules {CATALOG['inferometer_energy_joules_total'].help}",
        "# TYPE inferometer_energy_joules counter",
        "# UNIT inferometer_energy_joules joules",
        'inferometer_energy_joules_total{workload="chat",component="gpu",state="active",method="counter"} 2',
        'inferometer_energy_joules_created{workload="chat",component="gpu",state="active",method="counter"} 1700000000',
        "# HELP inferometer_ttft_seconds Time to first token from arrival, queue included.",
        "# TYPE inferometer_ttft_seconds histogram",
        "# UNIT inferometer_ttft_seconds seconds",
        f'inferometer_ttft_seconds_bucket{labels},le="1e+06"}} 0',
        f'inferometer_ttft_seconds_bucket{labels},le="+Inf"}} 2',
        f"inferometer_ttft_seconds_count{labels}}} 2",
        f"inferometer_ttft_seconds_sum{labels}}} 2000000",
        f"inferometer_ttft_seconds_created{labels}}} 1600000000",
        "# EOF",
    ]


def test_both_formats_carry_the_same_series():
    """Only ``_created`` is one format's own, so switching formats never makes a new series."""
    text, openmetrics = both(full())
    created = {key for key in openmetrics if key[0].endswith("_created")}
    assert created
    assert {key: value for key, value in openmetrics.items() if key not in created} == text


label_value = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
bound = st.floats(min_value=1e-9, max_value=1e12)


@st.composite
def snapshots(draw):
    """Any label values, any floats; counters not negative and bucket counts whole, as OpenMetrics wants them."""
    workloads = draw(st.lists(label_value, min_size=1, max_size=3, unique=True))
    positive = st.floats(min_value=0)
    edges = (*sorted(draw(st.sets(bound, max_size=4))), INF)
    counts = tuple(
        float(n) for n in sorted(draw(st.lists(st.integers(0, 2**53), min_size=len(edges), max_size=len(edges))))
    )
    return Snapshot(
        0.0,
        totals={("inferometer_cost_total", (name, draw(label_value), "busy")): draw(positive) for name in workloads},
        values={("inferometer_burn_rate", (name, draw(label_value))): draw(st.floats()) for name in workloads},
        histograms={
            ("inferometer_ttft_seconds", (name, "e", draw(label_value))): Histogram(edges, counts, draw(positive))
            for name in workloads
        },
        currency=draw(label_value),
    )


def expected(snapshot):
    found = {}
    for (name, values), value in {**snapshot.totals, **snapshot.values}.items():
        labels = dict(zip(CATALOG[name].label_names, values, strict=True))
        if CATALOG[name].money:
            labels["currency"] = snapshot.currency
        found[name, tuple(sorted(labels.items()))] = value
    for (name, values), histogram in snapshot.histograms.items():
        labels = dict(zip(CATALOG[name].label_names, values, strict=True))
        found[f"{name}_sum", tuple(sorted(labels.items()))] = histogram.sum
        found[f"{name}_count", tuple(sorted(labels.items()))] = histogram.total
        for upper, count in zip(histogram.edges, histogram.counts, strict=True):
            found[f"{name}_bucket", tuple(sorted({**labels, "le": edge(upper)}.items()))] = count
    return found


@settings(max_examples=60, deadline=None)
@given(snapshots())
@example(
    Snapshot(
        0.0,
        totals={("inferometer_resets_total", ('a"b\\n\n100%s{}=,#',)): 1e22},
        values={("inferometer_burn_rate", ("\\", "ü\r\t")): math.nan},
        histograms={("inferometer_ttft_seconds", ('%d"', "", "\n")): LATENCIES},
    )
)
def test_every_label_value_and_float_survives_the_trip(snapshot):
    for found in both(snapshot):
        want = expected(snapshot)
        assert found.keys() == want.keys()
        for key, value in want.items():
            assert found[key] == value or (math.isnan(found[key]) and math.isnan(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (5.0, "5"),
        (0.1, "0.1"),
        (1.8e9, "1800000000"),
        (1e22, "1e+22"),
        (INF, "+Inf"),
        (-INF, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_values_are_short_and_exact(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("upper", "text"),
    [
        (0.001, "0.001"),
        (0.00005, "5e-05"),
        (1.0, "1.0"),
        (2560.0, "2560.0"),
        (100000.0, "100000.0"),
        (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (1e10, "1e+10"),
        (0.0, "0.0"),
        (-2.5, "-2.5"),
        (INF, "+Inf"),
    ],
)
def test_le_is_written_as_prometheus_stores_it(upper, text):
    assert edge(upper) == text


def test_process_metrics_come_once_and_before_the_end():
    renderer = Renderer()
    text, openmetrics = renderer.render(full()), renderer.render(full(), openmetrics=True)
    assert text.count(b"# TYPE process_cpu_seconds_total counter") == 1
    assert openmetrics.endswith(b"# EOF\n")
    assert openmetrics.count(b"# EOF") == 1
    assert ("process_resident_memory_bytes", ()) in samples(text, parse_text)
    assert ("process_cpu_seconds_total", ()) in samples(openmetrics, parse_openmetrics)


def test_an_empty_snapshot_is_a_valid_page():
    renderer = Renderer(process=False)
    assert renderer.render(Snapshot(0.0)) == b""
    assert renderer.render(Snapshot(0.0), openmetrics=True) == b"# EOF\n"


def test_promtool_has_nothing_to_say():
    """A page with every metric on it lints clean; promtool has to be there in CI."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is not installed"
        pytest.skip("promtool is not installed")
    page = Renderer().render(full())
    check = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_a_snapshot_is_rendered_once_per_format(monkeypatch):
    rendered = []
    monkeypatch.setattr(prometheus, "numbers", lambda snapshot: rendered.append(snapshot) or numbers(snapshot))
    renderer, first, second = Renderer(), full(), full()
    for _ in range(3):
        assert gzip.decompress(renderer.compressed(first)) == renderer.render(first)
        renderer.render(first, openmetrics=True)
    assert len(rendered) == 2
    renderer.render(second)
    assert len(rendered) == 3


def test_what_is_remembered_between_pages_never_shows_old_numbers():
    """Values, buckets, edges and currency may change while the label text is kept."""
    renderer = Renderer(process=False)
    steps = [
        Snapshot(1.0, totals={COST: 1.0}, histograms={TTFT: LATENCIES}),
        Snapshot(2.0, totals={COST: 2.0}, histograms={TTFT: Histogram(LATENCIES.edges, (1.0, 3.0, 5.0, 9.0), 8.0)}),
        Snapshot(3.0, totals={COST: 2.0}, histograms={TTFT: Histogram((2.0, INF), (1.0, 9.0), 8.0)}, currency="EUR"),
    ]
    for snapshot in steps:
        assert samples(renderer.render(snapshot), parse_text) == expected(snapshot)


def test_label_text_of_series_that_went_away_is_forgotten():
    renderer = Renderer(process=False)
    for round_ in range(50):
        totals = {("inferometer_resets_total", (f"{round_}-{i}",)): 1.0 for i in range(200)}
        renderer.render(Snapshot(float(round_), totals=totals))
    assert len(renderer._series.labels) < 2000


def test_an_undeclared_series_is_left_out_with_one_warning(caplog):
    totals = {("inferometer_unheard_of_total", (str(i),)): 1.0 for i in range(3)} | {RESETS: 1.0}
    page = Renderer(process=False).render(Snapshot(0.0, totals=totals))
    assert list(samples(page, parse_text)) == [("inferometer_resets_total", (("source", "engine-0"),))]
    assert [record.reason for record in caplog.records] == ["inferometer_unheard_of_total is not in the catalog"]


def test_structured_parts_become_accounts():
    engine = EngineView(
        "chat",
        "e",
        up=True,
        state="idle",
        kind="vllm",
        version="0.11",
        gauges={("running", "m"): 3.0, ("waiting", "m"): 0.0, ("kv_cache", "m"): 0.5, ("unheard_of", "m"): 1.0},
        missing=("tpot",),
    )
    assert numbers(Snapshot(0.0, engines=(engine,))) == {
        ("inferometer_engine_up", ("chat", "e")): 1.0,
        ("inferometer_engine_state", ("chat", "e", "busy")): 0.0,
        ("inferometer_engine_state", ("chat", "e", "idle")): 1.0,
        ("inferometer_engine_state", ("chat", "e", "stalled")): 0.0,
        ("inferometer_engine_state", ("chat", "e", "unknown")): 0.0,
        ("inferometer_engine_info", ("chat", "e", "vllm", "0.11")): 1.0,
        ("inferometer_signal_missing", ("chat", "e", "tpot")): 1.0,
        ("inferometer_engine_requests", ("chat", "e", "m", "running")): 3.0,
        ("inferometer_engine_requests", ("chat", "e", "m", "waiting")): 0.0,
        ("inferometer_engine_kv_cache_ratio", ("chat", "e", "m")): 0.5,
    }


def test_no_reading_is_not_a_zero():
    """What is down or never read has its ``up`` and nothing that looks like a reading."""
    snapshot = Snapshot(
        0.0,
        engines=(EngineView("chat", "e", up=False, gauges={("running", "m"): 3.0}),),
        gpus=(Gpu("GPU-0", 0, up=False, power_watts=90.0), Gpu("GPU-1", 1, power_watts=0.0)),
        sources=(SourceView("s", up=False, errors={"timeout": 2}),),
    )
    names = {(name, labels) for name, labels in numbers(snapshot) if name != "inferometer_engine_state"}
    assert names == {
        ("inferometer_engine_up", ("chat", "e")),
        ("inferometer_gpu_up", ("GPU-0",)),
        ("inferometer_gpu_up", ("GPU-1",)),
        ("inferometer_gpu_power_watts", ("GPU-1",)),
        ("inferometer_source_up", ("s",)),
        ("inferometer_source_errors_total", ("s", "timeout")),
    }


def test_a_ready_made_value_stands_over_a_derived_one():
    snapshot = Snapshot(
        0.0,
        engines=(EngineView("chat", "e", up=True),),
        values={("inferometer_engine_up", ("chat", "e")): 0.0, BURN: 1.0},
        totals={BURN: 2.0},
    )
    found = numbers(snapshot)
    assert found["inferometer_engine_up", ("chat", "e")] == 0.0
    assert found[BURN] == 2.0


def test_exemplars_are_on_their_buckets_in_openmetrics_alone():
    """The text format has no way to write them."""
    shown = {1: Exemplar("0af7651916cd43dd8448eb211c80319c", 0.41, 1.8e9)}
    snapshot = Snapshot(1.8e9, histograms={TTFT: LATENCIES}, exemplars={TTFT: shown})
    renderer = Renderer(process=False)
    page = renderer.render(snapshot, openmetrics=True).decode()
    found = {
        sample.labels["le"]: sample.exemplar
        for family in parse_openmetrics(page)
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert [le for le, exemplar in found.items() if exemplar] == ["0.5"]
    assert found["0.5"].labels == {"trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert (found["0.5"].value, float(found["0.5"].timestamp)) == (0.41, 1.8e9)
    assert "trace_id" not in renderer.render(snapshot).decode()
