"""The running agent, as its operator meets it: real processes, real engines, signals, files and pages."""

import json
import shutil
import signal
import time

import pytest
from inferometer.exposition.prometheus import Renderer
from inferometer.ledger import Ledger
from inferometer.model import Snapshot
from live import Agent, Engines, Page, eventually, fetch, free_port, inferometer_says
from prometheus_client.openmetrics.parser import text_string_to_metric_families

FAST = ("--interval", "200ms", "--gpus", "2", "--price.gpu-hour", "3600")  # 1 USD per GPU-second
READY_SECONDS, STOP_SECONDS = 10.0, 5.0  # promised: 1 and 2; a busy machine is no failure
TOKENS, COST = "inferometer_tokens_total", "inferometer_cost_total"


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Two engines under load, which no test disturbs."""
    with Engines(tmp_path_factory.mktemp("busy") / "log", count=2, load=15) as engines:
        yield engines


@pytest.fixture
def quiet(tmp_path):
    """An engine of the test's own that has nothing to do."""
    with Engines(tmp_path / "quiet.log") as engines:
        yield engines


def url_flags(engines):
    return [word for url in engines.urls for word in ("--engine.url", url)]


def name_of(url):
    return url.split("/")[2]


def on_disk(folder, copy):
    """The ledger's totals as a page, read as the next agent would."""
    shutil.copytree(folder, copy)
    ledger = Ledger(copy, "USD")
    ledger.close()
    state = ledger.state
    return Page(Renderer(process=False).render(Snapshot(0.0, state.totals, state.created, state.histograms)).decode())


def check_continues(before, after):
    """No counter that the ledger keeps is smaller in ``after``."""
    kept = {
        k: v
        for k, v in before.counters().items()
        if not k[0].startswith(("process_", "inferometer_source_", "inferometer_series_", "inferometer_http_"))
    }
    later = after.counters()
    assert kept, "there was something to lose"
    assert not {key: (value, later.get(key)) for key, value in kept.items() if later.get(key, -1.0) < value}


def charged(page, state=None, **labels):
    return page.sum(COST, **labels, **({"state": state} if state else {}))


# -- start -----------------------------------------------------------------------------------------


def test_the_first_page_is_complete(tmp_path, busy, record_property):
    """One command, and a moment later tokens, money and ratios of both engines are there."""
    began = time.monotonic()
    with Agent(tmp_path / "log", *url_flags(busy), *FAST) as agent:
        page = agent.until(lambda page: len(page.rows("inferometer_engine_up")) == 2 and page.sum(TOKENS) is not None)
        took = time.monotonic() - began
        record_property("seconds_to_first_page", took)
        assert took < READY_SECONDS
        assert {row.labels["engine"] for row in page.rows(TOKENS)} == {name_of(url) for url in busy.urls}
        agent.until(lambda page: page.sum("inferometer_cost_per_million_tokens", tokens="all", basis="allocation"))
        assert agent.get("/-/healthy") == (200, "ok\n")
        assert agent.get("/")[0] == 200


def test_openmetrics_is_served_on_request(tmp_path, busy):
    """The strict reference parser takes it, and finds when each total began."""
    with Agent(tmp_path / "log", *url_flags(busy), *FAST, "--slo.ttft", "500ms") as agent:
        agent.until(lambda page: page.sum(TOKENS, type="output"))
        text = fetch(f"{agent.url}/metrics", headers={"Accept": "application/openmetrics-text"})[1]
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        began = [sample.value for sample in samples if sample.name == "inferometer_tokens_created"]
        assert began
        assert all(abs(time.time() - at) < 60 for at in began)


def test_a_fresh_agent_is_ready_with_its_first_snapshot_even_without_engines(tmp_path):
    """Ready is not "all sources up": nothing listens at the engine's address."""
    url = f"http://127.0.0.1:{free_port()}/metrics"
    with Agent(tmp_path / "log", "--engine.url", url, *FAST, "--storage.path", tmp_path / "ledger") as agent:
        agent.ready()
        assert agent.page().sum("inferometer_engine_up") == 0


def test_ready_waits_until_the_time_since_the_last_run_is_settled(tmp_path, quiet):
    """With an engine that neither answers nor refuses nobody knows yet who held the GPUs; the timeout decides."""
    flags = (*url_flags(quiet), *FAST, "--interval", "3s", "--storage.path", tmp_path / "ledger")
    with Agent(tmp_path / "log", *flags) as agent:
        agent.until(lambda page: page.sum(TOKENS) is not None)
        assert agent.stop() == 0
    quiet.control(0, "hang", 60)
    with Agent(tmp_path / "log", *flags) as agent:
        status, text = eventually(lambda: agent.page() and agent.get("/-/ready"))
        assert (status, "not settled yet" in text) == (503, True)
        assert agent.get("/-/healthy")[0] == 200
        assert agent.ready().page().sum("inferometer_unaccounted_gpu_seconds_total") == 0


def test_memory_only_is_said(tmp_path, quiet):
    """Who gives no folder learns from the log what that means and what to add."""
    with Agent(tmp_path / "log", *url_flags(quiet), *FAST) as agent:
        assert "memory only: totals end with this process; add --storage.path DIR" in agent.ready().log


def refused(*arguments):
    """What an agent says that cannot start: its one sentence."""
    code, out, said = inferometer_says("run", *arguments)
    assert (code, out) == (2, "")
    lines = [line for line in said.splitlines() if not line.startswith("ts=")]
    assert len(lines) == 1, said
    return lines[0]


def test_a_busy_port_is_one_sentence(tmp_path, quiet):
    """Two agents on one port: the second says what it wanted, what stood in the way and which flag to change."""
    with Agent(tmp_path / "log", *url_flags(quiet), *FAST) as agent:
        where = name_of(agent.url)
        said = refused(*url_flags(quiet), "--web.listen-address", where)
    sentence = f"cannot listen on '{where}' (--web.listen-address): Address already in use; is another agent running?"
    assert said == f"inferometer: {sentence}"


def test_a_ledger_has_one_agent_and_one_currency(tmp_path, quiet):
    """Neither a second agent nor other money gets at a ledger; afterwards the first goes on with it."""
    folder, config = tmp_path / "ledger", tmp_path / "euro.yaml"
    flags = (*url_flags(quiet), *FAST, "--storage.path", folder)
    with Agent(tmp_path / "log", *flags) as agent:
        agent.ready()
        sentence = "another agent is using this ledger; stop it or give this one its own --storage.path"
        assert refused(*flags, "--web.listen-address", "127.0.0.1:0") == f"inferometer: {folder}: {sentence}"
        assert agent.stop() == 0
    config.write_text(f'currency: EUR\nworkloads: [{{name: default, engines: [{{url: "{quiet.urls[0]}"}}]}}]\n')
    said = refused("--config.file", config, "--storage.path", folder, "--web.listen-address", "127.0.0.1:0")
    assert said.startswith(f"inferometer: {folder}/ledger.db: its money is USD, the configuration says currency: EUR;")
    with Agent(tmp_path / "log", *flags) as agent:
        agent.ready()


# -- stop and go on --------------------------------------------------------------------------------


def test_sigterm_commits_what_was_exposed_and_the_next_life_goes_on(tmp_path, busy):
    """Under load: exit code 0, soon; the ledger has all that was shown; the gap is charged, not lost."""
    folder = tmp_path / "ledger"
    flags = (*url_flags(busy), *FAST, "--storage.path", folder, "--slo.ttft", "500ms")
    with Agent(tmp_path / "log", *flags) as agent:
        agent.until(lambda page: page.sum(TOKENS, type="output") and charged(page))
        shown, began = agent.page(), time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert "msg=stopped" in agent.log
        assert "Traceback" not in agent.log
    stored = on_disk(folder, tmp_path / "copy")
    check_continues(shown, stored)
    time.sleep(1.0)  # the gap
    with Agent(tmp_path / "log", *flags) as agent:
        page = agent.ready().page()
        check_continues(stored, page)
        start = "inferometer_accounting_start_timestamp_seconds"
        assert page.sum(start) == shown.sum(start)
        assert page.sum("inferometer_unaccounted_gpu_seconds_total") == 0
        assert charged(page) >= charged(stored) + 1.0, "one GPU each of two engines was held for that second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_nothing_answers_ends_it_too(tmp_path, quiet, number):
    """A hanging engine holds up neither kind of end."""
    quiet.control(0, "hang", 60)
    with Agent(tmp_path / "log", *url_flags(quiet), *FAST, "--interval", "10s") as agent:
        agent.ready()
        began = time.monotonic()
        agent.process.send_signal(number)
        assert agent.process.wait(30) == 0
        assert time.monotonic() - began < STOP_SECONDS


# -- reload ----------------------------------------------------------------------------------------


class Settings:
    """A configuration file that a test rewrites."""

    def __init__(self, path):
        self.path = path

    def write(self, urls, price="3600", slo="{ttft: 500ms}", more=""):
        engines = ", ".join(f'{{url: "{url}"}}' for url in urls)
        workload = f"{{name: chat, gpus: 2, engines: [{engines}], slo: {slo}}}"
        self.path.write_text(
            f"interval: 200ms\nworkloads: [{workload}]\nprices: {{default: {{gpu_hour: {price}}}}}\n{more}"
        )


@pytest.fixture
def reloadable(tmp_path, busy):
    """An agent of one of the busy engines, and its file."""
    settings = Settings(tmp_path / "agent.yaml")
    settings.write(busy.urls[:1])
    with Agent(tmp_path / "log", "--config.file", settings.path, "--storage.path", tmp_path / "ledger") as agent:
        agent.until(lambda page: page.sum(TOKENS, type="output"))
        yield agent, settings


def test_a_good_reload_changes_price_slo_and_engines_live(reloadable, busy):
    """By HTTP and by SIGHUP; totals go on, a new engine is read, one that is gone is no longer shown as an engine."""
    agent, settings = reloadable
    before = agent.page()
    assert before.sum("inferometer_gpu_hourly_price") == 3600
    settings.write(busy.urls, price="7200", slo="{ttft: 250ms, e2e: 3s}")
    assert agent.get("/-/reload", "POST") == (200, "reloaded\n")
    page = agent.until(lambda page: page.sum(TOKENS, engine=name_of(busy.urls[1]), type="output"))
    assert page.sum("inferometer_gpu_hourly_price") == 7200
    limits = {row.labels["slo"]: row.value for row in page.rows("inferometer_slo_threshold_seconds")}
    assert limits == {"ttft": 0.25, "e2e": 3.0}
    check_continues(before, page)

    settings.write(busy.urls[1:], price="0")
    agent.hangup()
    page = agent.until(lambda page: page.sum("inferometer_gpu_hourly_price") == 0)
    page = agent.until(lambda page: len(page.rows("inferometer_engine_up")) == 1)
    assert page.rows("inferometer_engine_up", engine=name_of(busy.urls[1]))
    check_continues(before, page)
    assert page.sum("inferometer_config_last_reload_successful") == 1
    assert agent.process.poll() is None


def test_a_bad_reload_keeps_the_running_configuration(reloadable, busy):
    """Every fault is in the answer, the gauge says so, nothing else changes, and the next good one heals it."""
    agent, settings = reloadable
    settings.write(busy.urls[:1], price="-1", more="wokloads: 3\n")
    status, text = agent.get("/-/reload", "POST")
    assert status == 400
    assert "wokloads" in text
    assert "gpu_hour" in text
    page = agent.until(lambda page: page.sum("inferometer_config_last_reload_successful") == 0)
    assert page.sum("inferometer_gpu_hourly_price") == 3600
    after = page.sum(TOKENS)
    agent.until(lambda page: page.sum(TOKENS) > after, "it goes on measuring")
    settings.write(busy.urls[:1])
    agent.hangup()
    agent.until(lambda page: page.sum("inferometer_config_last_reload_successful") == 1)


def test_a_reload_cannot_change_the_currency(reloadable, busy):
    """Totals of two currencies would be added up; the answer says what to do instead."""
    agent, settings = reloadable
    settings.write(busy.urls[:1], price="7200", more="currency: EUR\n")
    status, text = agent.get("/-/reload", "POST")
    assert (status, text) == (400, "currency: stays USD while the agent runs; restart it\n")
    assert agent.page().sum("inferometer_gpu_hourly_price") == 3600
    assert agent.page().rows(COST, currency="USD")


# -- what it measures ------------------------------------------------------------------------------


def test_without_gpu_and_price_it_gives_what_it_can_and_says_what_is_missing(tmp_path, busy):
    """Tokens and requests, no cost series at all, and for each thing missing the flag that adds it."""
    with Agent(tmp_path / "log", *url_flags(busy), "--interval", "200ms") as agent:
        page = agent.until(lambda page: page.sum(TOKENS, type="output"))
        assert page.sum("inferometer_price_missing") == 1
        assert not [s.name for s in page.samples if "cost" in s.name or "price_per" in s.name]
        hints = json.loads(agent.get("/api/v1/snapshot")[1])["hints"]
        for flag in ("--price.gpu-hour", "--gpus N", "--slo.ttft"):
            assert any(flag in hint for hint in hints), flag
            assert flag in agent.log


def test_an_engine_that_starts_after_the_agent_counts_from_zero(tmp_path):
    """Until then its time is unknown, but charged; from then on all that it ever did is counted."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with Agent(tmp_path / "log", "--engine.url", url, *FAST) as agent:
        agent.until(lambda page: charged(page, "unknown"))
        with Engines(tmp_path / "engines.log", 1, 20, "--port", port) as engines:
            agent.until(lambda page: page.sum("inferometer_engine_up") == 1)
            assert len([line for line in agent.log.splitlines() if "source up" in line]) == 1
            eventually(lambda: engines.truth(0)["totals"]["requests"].get("ok"), "a request has finished")
            engines.control(0, "stall", 60)  # a page that stands still
            truth = engines.truth(0)["totals"]
            page = agent.until(lambda page: page.sum(TOKENS, type="output") == truth["output_tokens"] > 0)
            assert page.sum(TOKENS) == truth["prompt_tokens"] + truth["output_tokens"]
            assert page.sum("inferometer_requests_total", outcome="ok") == truth["requests"]["ok"]


def test_a_workload_without_engines_costs_unknown_time(tmp_path):
    """Money of GPUs whose server has no page is still the workload's."""
    config = tmp_path / "agent.yaml"
    config.write_text(
        "interval: 200ms\nworkloads: [{name: embed, gpus: 4}]\nprices: {default: {gpu_hour: 3600}}\n", encoding="utf-8"
    )
    with Agent(tmp_path / "log", "--config.file", config) as agent:
        page = agent.until(lambda page: (charged(page, "unknown", workload="embed") or 0) > 1)
        since = page.sum("inferometer_accounting_start_timestamp_seconds")
        until = page.sum("inferometer_settled_until_timestamp_seconds")
        assert charged(page, "unknown") == charged(page) == pytest.approx(4 * (until - since), rel=1e-6)


def test_time_in_which_an_engine_is_down_costs_too(tmp_path, quiet):
    """Idle while it answers, unknown while it does not, idle again; no second is missing."""
    with Agent(tmp_path / "log", *url_flags(quiet), *FAST) as agent:
        agent.until(lambda page: charged(page, "idle"))
        quiet.control(0, "refuse", 2)
        page = agent.until(lambda page: charged(page, "unknown") > 1)
        assert page.sum("inferometer_engine_up") == 0
        assert page.sum("inferometer_source_errors_total", source=quiet.urls[0], reason="refused") > 0
        idle = charged(page, "idle")
        page = agent.until(lambda page: page.sum("inferometer_engine_up") == 1 and charged(page, "idle") > idle)
        since = page.sum("inferometer_accounting_start_timestamp_seconds")
        until = page.sum("inferometer_settled_until_timestamp_seconds")
        assert charged(page) == pytest.approx(2 * (until - since), rel=1e-6)
        assert page.sum("inferometer_resets_total") == 0, "it did not start anew"


def test_a_change_is_on_the_page_within_an_interval(tmp_path, quiet):
    """The fastest of some tries: an interval and 100 ms, however the two fall together."""
    interval, best = 0.5, float("inf")
    with Agent(tmp_path / "log", *url_flags(quiet), *FAST, "--interval", "500ms") as agent:
        agent.until(lambda page: page.sum(TOKENS) is not None)
        for tries in range(1, 21):
            call = quiet.urls[0].replace("/metrics", "/v1/completions")
            assert fetch(call, "POST", '{"prompt": "one two", "max_tokens": 1}')[0] == 200
            began = time.monotonic()
            agent.until(lambda page, n=tries: page.sum("inferometer_requests_total", outcome="ok") == n)
            best = min(best, time.monotonic() - began)
            if best < interval + 0.1 and tries >= 3:
                break
    assert best < interval + 0.1


# -- demo ------------------------------------------------------------------------------------------


def test_the_demo_shows_everything(tmp_path):
    """No GPU, no server: cost, energy and goodput of simulated engines and GPUs, the page, and a clean end."""
    with Agent(tmp_path / "log", "--load", "10", "--interval", "300ms", command="demo") as agent:
        agent.waits_for(r"live page  (\S+)/\nmetrics    \S+/metrics\nas JSON    \S+\nengines    \S+")
        page = agent.until(lambda page: page.sum("inferometer_cost_per_million_tokens", tokens="all", window="1m"))
        page = agent.until(lambda page: (page.sum("inferometer_energy_joules_total") or 0) > 0)
        assert page.sum("inferometer_gpu_up") == 2
        assert page.sum("inferometer_gpu_power_watts") > 0
        assert page.sum("inferometer_energy_per_token_joules") is not None
        judged = page.sum("inferometer_slo_requests_total")
        agent.until(lambda page: page.sum("inferometer_slo_requests_pending") > 0 or judged)
        status, text = agent.get("/")
        assert (status, "<html" in text.lower()) == (200, True)
        assert agent.stop() == 0
        assert "Traceback" not in agent.log
