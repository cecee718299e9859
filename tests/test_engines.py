"""All engines side by side: pages are told apart, whatever else is on them, and a new engine needs no Python."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest
from inferometer import adapters, config
from inferometer.adapters import Adapter, Translator, docs, language, traces
from inferometer.app.agent import Agent
from inferometer.app.names import Names
from inferometer.app.plan import plan
from inferometer.app.readers import Readers
from inferometer.app.replay import replay
from inferometer.app.spans import Spans
from inferometer.errors import ConfigError
from inferometer.model import Series
from inferometer.sources.page import PageParser
from inferometer.sources.recording import Writer
from readings import scraped

HERE = Path(__file__).parent
MANUAL = (HERE.parent / "docs" / "adapters.md").read_text(encoding="utf-8")
KNOWN = adapters.builtin()
GOLDEN = {path.parent.name: json.loads(path.read_text())["kind"] for path in HERE.glob("engines/*/signals.json")}
OF_PROCESSES = """
process_start_time_seconds 1.7e9
process_open_fds 12
process_cpu_seconds_total 3
python_gc_collections_total{generation="0"} 3
python_info{implementation="CPython",version="3.12.3"} 1
go_goroutines 8
go_info{version="go1.24"} 1
http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 5
http_request_duration_seconds_count{handler="/v1/completions"} 5
node_cpu_seconds_total{cpu="0",mode="idle"} 5
up 1
"""

Readings = tuple[tuple[Series, float], ...]


def parsed(body: bytes) -> Readings:
    """All of a page that any adapter looks at."""
    return PageParser(adapters.wanted(KNOWN.values())).parse(body).series


def read(path: Path) -> Readings:
    return parsed(gzip.decompress(path.read_bytes()))


PAGES = {name: read(HERE / "engines" / name / "metrics.prom.gz") for name in sorted(GOLDEN)}
NOISE = {
    "processes": parsed(OF_PROCESSES.encode()),
    **{name: read(HERE / "pages" / f"{name}.prom.gz") for name in ("dcgm-exporter", "dcgm-exporter-mig")},
}


def engines_of(*parts: Readings) -> list[str]:
    """What the parts of one page are recognised as, in one order or the other."""
    orders = [[a.engine for a in adapters.recognised(KNOWN.values(), scraped("e", 1.0, sum(order, ())))]
              for order in (parts, parts[::-1])]  # fmt: skip
    assert orders[0] == orders[1]
    return orders[0]


# -- telling them apart --------------------------------------------------------------------------


def test_there_are_pages_to_tell_apart() -> None:
    """A glob that finds nothing must not pass for a suite, and no adapter goes without a page."""
    assert len(PAGES) >= len(KNOWN) >= 15
    assert set(GOLDEN.values()) == set(KNOWN)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_of_exactly_its_engine(name: str) -> None:
    """Also with the families of processes, runtimes, web servers and GPU exporters before and behind its own."""
    assert engines_of(PAGES[name]) == [GOLDEN[name]]
    assert engines_of(PAGES[name], *NOISE.values()) == [GOLDEN[name]]


def test_what_every_process_shows_is_no_engine() -> None:
    """No adapter takes families for its own that anybody may have."""
    assert NOISE["processes"], "names that adapters read are among them"
    assert engines_of(*NOISE.values()) == []


@pytest.mark.parametrize("name", PAGES)
def test_two_engines_on_one_page_are_never_mixed_up(name: str) -> None:
    """One yields to the other as its adapter declares, or the page is refused with a sentence that names both."""
    for other, page in PAGES.items():
        kinds = {GOLDEN[name], GOLDEN[other]}
        found = engines_of(PAGES[name], page)
        pair = f"{name} + {other}: {found}"
        signal = Translator("e", tuple(KNOWN.values()))(scraped("e", 1.0, PAGES[name] + page))
        if len(found) == 1:
            (yielding,) = kinds - {*found} or {found[0]}
            assert found[0] in {*KNOWN[yielding].detect.yields_to, yielding}, pair
            assert (signal.error, signal.kind) == ("", found[0]), pair
        else:
            assert kinds == {*found}, pair
            assert (signal.error, dict(signal.counters)) == ("ambiguous_engine", {}), pair
            assert all(kind in signal.detail for kind in kinds), pair
            assert "engine:" in signal.detail, pair


def test_adapters_yield_to_engines_that_there_are() -> None:
    """A misspelled engine would never be yielded to, and two that yield to each other would leave none."""
    for adapter in KNOWN.values():
        for winner in adapter.detect.yields_to:
            assert winner in KNOWN, adapter.engine
            assert adapter.engine not in KNOWN[winner].detect.yields_to


def test_files_are_named_after_their_engines() -> None:
    """Whoever looks for an engine finds its file."""
    assert {path.stem for path in Path(adapters.__file__).parent.glob("*.yaml")} == {*KNOWN, "dcgm"}


# -- the manual ----------------------------------------------------------------------------------


def blocks(language_: str) -> list[str]:
    return re.findall(rf"```{language_}\n(.*?)```", MANUAL, re.DOTALL)


ORCA_PAGE = blocks("prometheus")[0]
ORCA = next(block for block in blocks("yaml") if block.startswith("engine: orca"))


def orca(folder: Path, text: str = ORCA) -> Adapter:
    path = folder / "orca.yaml"
    path.write_text(text, encoding="utf-8")
    return adapters.load(path)


def test_the_manuals_example_means_what_it_says(tmp_path: Path) -> None:
    """The adapter in docs/adapters.md turns the page beside it into the numbers below it."""
    (expected,) = map(json.loads, blocks("json"))
    adapter = orca(tmp_path)
    series = PageParser(adapter.wanted).parse(ORCA_PAGE.encode()).series
    found = Translator("e", [adapter])(scraped("e", 1.0, series))
    sums: dict[str, float] = {}
    for key, value in found.counters.items():
        assert key.model == "llama"
        sums[key.signal] = sums.get(key.signal, 0) + value
    assert sums == expected["counters"]
    assert {name: value for (name, _), value in found.gauges.items()} == expected["gauges"]
    histograms = {
        key.signal: {f"{edge:g}": count for edge, count in zip(h.edges, h.counts, strict=True)} | {"sum": h.sum}
        for key, h in found.histograms.items()
    }
    assert histograms == {name: pytest.approx(facts) for name, facts in expected["histograms"].items()}
    assert (found.missing, found.traits.cached_in_prompt, found.process_start) == ((), False, 1795398400.0)


@pytest.mark.parametrize(
    "struct",
    [
        language.Adapter,
        language.Detect,
        language.Selector,
        language.Endpoint,
        language._Traits,
        traces.Traces,
        traces.Attribute,
        traces.Finish,
    ],
)
def test_the_manual_knows_every_key(struct: type) -> None:
    """Nothing can be written in an adapter that docs/adapters.md does not explain."""
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in MANUAL] == []


def test_the_manual_knows_every_signal() -> None:
    """So with the signals and the moments at which engines count."""
    words = (*language.SIGNALS, *language.COUNTED)
    assert [word for word in words if f"`{word}`" not in MANUAL] == []


def test_the_page_of_engines_is_fresh() -> None:
    """`python -m inferometer.adapters.docs` would change nothing."""
    assert docs.PATH.read_text(encoding="utf-8") == docs.document(KNOWN.values()), "run `make docs`"


# -- adapters of the user's own --------------------------------------------------------------------


def settings(folder: Path, url: str = "recording:orca", adapter: str = "./orca.yaml") -> config.Config:
    file = folder / "agent.yaml"
    file.write_text(f"workloads: [{{name: sea, gpus: 1, engines: [{{url: '{url}', adapter: '{adapter}'}}]}}]\n")
    return config.load(str(file), {}, {})


def test_a_new_engine_touches_no_python(tmp_path: Path) -> None:
    """A recording of a server that nobody knows, and a file that describes it: its tokens and requests, replayed."""
    orca(tmp_path)
    with Writer(tmp_path / "recording") as writer:
        for second in range(5):
            page = ORCA_PAGE.replace('"miss",team="search"} 600', f'"miss",team="search"}} {600 + 100 * second}')
            page = page.replace('kind="final"} 230', f'kind="final"}} {230 + 10 * second}')
            page = page.replace('how="stop"} 7', f'how="stop"}} {7 + second}')
            writer.write(1795398500.0 + second, "orca", "metrics", "200", page.encode())
    snapshot = asyncio.run(replay(tmp_path / "recording", settings(tmp_path), {}))
    totals = {(name, *labels): value for (name, labels), value in snapshot.totals.items() if value}
    tokens = {labels[-1]: value for (name, *labels), value in totals.items() if name == "inferometer_tokens_total"}
    assert tokens == {"input_uncached": 400, "output": 40}
    assert totals["inferometer_requests_total", "sea", "orca", "llama", "ok"] == 4
    assert [(view.engine, view.kind) for view in snapshot.engines] == [("orca", "orca")]


@pytest.mark.parametrize(
    ("adapter", "text", "sentence"),
    [
        (
            "orca.yaml",
            ORCA.replace("  ttft:", "  itl:", 1),
            "/orca.yaml: histograms.itl: no such signal; known are ttft",
        ),
        ("orca.yaml", ORCA.replace("own:", "owns:"), "/orca.yaml: Object contains unknown field `owns`"),
        ("orca.yaml", ORCA.replace("{ ttft: ", "{ itl: "), "/orca.yaml: bucket_flags.itl: no such signal; known are"),
        ("deep/whale.yaml", ORCA, "/deep/whale.yaml: [Errno 2] No such file or directory"),
    ],
)
def test_a_faulty_adapter_is_a_fault_of_the_configuration(
    tmp_path: Path, adapter: str, text: str, sentence: str
) -> None:
    """The sentence names the key of the configuration, the adapter's file wherever we run, and the key in it."""
    (tmp_path / "orca.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        plan(settings(tmp_path, adapter=adapter), (), {})
    (fault,) = caught.value.faults
    assert fault.startswith(f"workloads[0].engines[0].adapter: {tmp_path}{sentence}")


def test_a_reload_refuses_a_faulty_adapter(tmp_path: Path) -> None:
    """The agent goes on with the adapter that it has, and says what is wrong with the new one."""
    orca(tmp_path)
    agent = Agent(lambda: settings(tmp_path, "http://127.0.0.1:9/metrics"), {})
    (tmp_path / "orca.yaml").write_text("engine: orca\n")
    ok, said = asyncio.run(agent.reload())
    agent._ledger.close()
    assert not ok
    assert said.startswith(f"workloads[0].engines[0].adapter: {tmp_path}/orca.yaml: ")
    assert [adapter.versions for adapter in agent._plan.adapters["127.0.0.1:9"]] == [">= 2"]


def test_a_reload_reads_what_the_new_adapter_wants(tmp_path: Path) -> None:
    """The address stays, the names to look for do not: pages are read with those of the file as it is now."""

    class Clock:
        at = staticmethod(float)

    async def names_read(*texts: str) -> list[bool]:
        names = Names(())
        readers, seen = Readers(Clock(), None, Spans(lambda _: True, names.models), names), []
        readers.session = object()
        for text in texts:
            orca(tmp_path, text)
            readers.follow(plan(settings(tmp_path, "http://127.0.0.1:9/metrics"), (), {}))
            looked_for = {name for _, _, wanted in readers._tasks for name in wanted}
            seen.append("orca_generated_tokens_total" in looked_for)
        await readers.stop()
        return seen

    assert asyncio.run(names_read(ORCA, ORCA.replace("orca_generated", "orca_made"))) == [True, False]
