"""Calibration against engines whose true rates are known, and against servers that refuse, hang or are busy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from datetime import date

import pytest
from aiohttp import web
from inferometer import config
from inferometer.app import calibrate as bench
from inferometer.app import completions
from inferometer.app.calibrate import calibrate
from inferometer.app.calibration import Trial, _figure
from inferometer.app.completions import RefusedError, _models, _said, addresses
from inferometer.errors import InferometerError, SourceError
from inferometer.sim.engine import Machine
from live import Engines, Process, eventually, inferometer_says
from quick import QuickLoop, simulated

PAGE = b"""\
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="m"} 7.0
vllm:generation_tokens_total{model_name="m"} 3.0
vllm:num_requests_running{model_name="m"} 0.0
"""


def silent(_phase, _how_far):
    """Nobody watches."""


# -- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefill", "concurrency"), [(1_000.0, 8), (20_000.0, 1), (20_000.0, 32), (100_000.0, 8)])
def test_rates_are_those_of_the_machine(quick, prefill, concurrency):
    """Prefill as fast as the machine computes prompts, decode as its step time has it, for any size of batch."""
    machine = Machine(prefill_tokens_per_second=prefill, step_seconds=0.002, sequence_seconds=0.001)

    async def run():
        async with simulated(machine) as server:
            trial = Trial(server.url, concurrency=concurrency, seconds=20.0)
            began = asyncio.get_running_loop().time()
            found = await calibrate(trial, silent)
            return found, server.truth(), asyncio.get_running_loop().time() - began

    found, truth, seconds = quick(run())
    assert found.prefill_rate == pytest.approx(prefill, rel=0.15)
    assert found.decode_rate == pytest.approx(concurrency / (0.002 + concurrency * 0.001), rel=0.1)
    assert (found.engine, found.model) == ("vllm", "small")
    assert 12 < seconds < 30
    assert set(truth["totals"]["requests"]) == {"ok"}, "nothing was broken off"
    assert truth["totals"]["requests"]["ok"] > found.prefill.requests + found.decode.requests


def test_a_slow_server_is_not_waited_for(quick):
    """Prompts of a second each: it ends soon after its time with what to do."""

    async def run():
        async with simulated(Machine(prefill_tokens_per_second=20.0)) as server:
            await calibrate(Trial(server.url, seconds=15.0), silent)

    with pytest.raises(InferometerError, match=r"no whole answer within 10 s|--for 3m"):
        quick(run())


def test_cached_tokens_are_not_computed_ones():
    """What the page says came from a cache is no part of the rate, where prompt tokens include it."""

    async def run():
        async with Fake(page=PAGE + b'vllm:prompt_tokens_cached_total{model_name="m"} 5.0\n') as fake:
            return await totals(fake.url)

    assert asyncio.run(run()).prompt_tokens == 2.0


def test_the_output_is_a_configuration(tmp_path):
    """Phases on stderr, a line each; on stdout the figures and lines that load as they are and hold the same rates."""
    with Engines(tmp_path / "log") as engines:
        base = engines.urls[0].removesuffix("/metrics")
        code, out, said = inferometer_says("calibrate", base, "--for", "2s", "--concurrency", "4")
    assert code == 0, said
    assert said.splitlines() == ["looking at the server", "warm-up", "prefill", "warm-up", "decode"]
    figures, _, lines = out.partition("\nworkloads:")
    (tmp_path / "config.yaml").write_text("workloads:" + lines)
    rates = config.load(str(tmp_path / "config.yaml"), {}, {}).workloads[0].rates
    shown = [float(rate) for rate in re.findall(r"^\w+ +(\S+) tokens/s", figures, re.MULTILINE)]
    assert [rates.prefill, rates.decode] == shown
    assert 1_000 < rates.prefill < 21_000
    assert 20 < rates.decode < 380, "4 at a time, 11 ms a step"
    assert re.search(rf"# measured \d{{4}}-\d\d-\d\d on {base}, vllm, model small, concurrency 4$", out.strip())


@pytest.mark.parametrize(
    ("rate", "text"), [(54_049.7, "54000"), (895.04, "895"), (99.95, "100"), (12.345, "12.3"), (0.01234, "0.0123")]
)
def test_figures_have_three_digits(rate, text):
    assert float(_figure(rate)) == float(text)
    assert "e" not in _figure(rate)


@pytest.mark.parametrize("longest", [600, 20])
def test_prompts_are_cut_until_the_server_takes_them(quick, longest):
    """A server with a small context gets prompts that fit; one that refuses the shortest too is left alone."""

    async def run():
        async with simulated(Machine(max_model_len=longest)) as server, tools(server.url) as made:
            return await made._fitted("prefill", 2000, 2, 0.0)

    if longest == 20:
        with pytest.raises(RefusedError, match=r"the API answered 400; .* do not fit into 20"):
            quick(run())
    else:
        words, phase = quick(run())
        assert (words, phase.prompt_tokens, phase.requests) == (500, 1000, 2)


# -- what is in the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_busy_server_is_refused_or_forced(quick, force):
    """Others' requests would be in the figures: only who insists gets them, and reads that they are."""

    async def run():
        async with simulated(Machine(), requests_per_second=10) as server:
            await asyncio.sleep(2)
            return await calibrate(Trial(server.url, seconds=10.0, force=force), silent)

    if force:
        assert "\nOther traffic was let pass (--force)" in quick(run()).text(date(2030, 1, 2))
    else:
        with pytest.raises(InferometerError, match=r"at work for others .* --force"):
            quick(run())


BEFORE = bench._Totals(prompt_tokens=100, output_tokens=50, requests=10, busy=0, started=1.0)
AFTER = bench._Totals(prompt_tokens=200, output_tokens=90, requests=14, busy=0, started=1.0)


@pytest.mark.parametrize(
    ("before", "changes", "sentence"),
    [
        ({}, {}, ""),
        ({"requests": None}, {"requests": 4}, ""),
        ({}, {"requests": None}, ""),
        ({}, {"requests": 15}, "others used the server meanwhile: 1 requests beside our 4"),
        ({}, {"requests": 12}, "counted 2 of our 4 requests; give the address of one server"),
        ({}, {"started": 2.0}, "restarted"),
        ({}, {"prompt_tokens": 99}, "restarted"),
        ({}, {"output_tokens": 50}, "does not count the tokens of our requests"),
    ],
)
def test_the_page_must_have_counted_ours_alone(before, changes, sentence):
    """Anything else on the page than our four requests ends the calibration with the reason."""

    async def check():
        async with tools("http://127.0.0.1:9") as made:
            made._check(replaced(BEFORE, before), replaced(AFTER, changes), 4)

    context = pytest.raises(InferometerError, match=sentence) if sentence else contextlib.nullcontext()
    with context:
        asyncio.run(check())


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "answered 401; no luck; give the server's key with --bearer-token-file"),
        (404, "answered 404; no luck; name the model with --model, or say where the API is with --api"),
        (429, "answered 429; no luck; it takes fewer requests at a time: lower --concurrency"),
        (500, "answered 500; no luck$"),
        (0, r"/v1/completions: no whole answer within 20 s"),
    ],
)
def test_an_api_that_does_not_answer_well_is_told_with_the_flag(quick, status, sentence):
    """The page is fine and the API says no, or nothing at all."""
    with pytest.raises(SourceError, match=sentence):
        quick(asked(Fake(status=status), model="m"))


def test_a_server_that_hangs_is_told(quick):
    """Connections are taken and nothing is answered, the page neither."""

    async def run():
        async with simulated(Machine()) as server:
            await server.hang(100.0)
            await calibrate(Trial(server.url), silent)

    with pytest.raises(SourceError, match="no whole answer within 10 s"):
        quick(run())


def test_the_command_ends_with_a_sentence_and_exit_code_2():
    """A server without the API, an address that is none, a page of no engine, and nobody there."""

    async def run():
        async with Fake(status=404) as fake, Fake(page=b"go_goroutines 7\n") as other:
            cases = [
                (fake.url, "--model"),
                (other.url, "unknown_engine"),
                ("ftp://host", "this is no address of a server"),
                ("http://127.0.0.1:1", "refused"),
            ]
            calls = [asyncio.to_thread(inferometer_says, "calibrate", url, "--for", "1s") for url, _ in cases]
            calls.append(asyncio.to_thread(inferometer_says, "calibrate", fake.url, "--concurrency", "0"))
            return [sentence for _, sentence in cases], await asyncio.gather(*calls)

    sentences, answers = asyncio.run(run())
    assert [(code, out) for code, out, _ in answers] == [(2, "")] * 4 + [(1, "")]
    assert all("Traceback" not in said for _, _, said in answers)
    for sentence, (_, _, said) in zip(sentences, answers, strict=False):
        assert sentence in said.splitlines()[-1]


def test_extensions_are_dropped_where_they_are_refused(quick):
    """`ignore_eos` is no part of the API: after a refusal the same is asked without it."""
    fake = Fake(status=422, unless=lambda body: "ignore_eos" not in body)
    with pytest.raises(InferometerError, match="the page does not count the tokens of our requests"):
        quick(asked(fake))
    assert [body.get("ignore_eos") for body in fake.bodies][:2] == [True, None]
    assert {body["model"] for body in fake.bodies} == {"m"}, "named as on the page: there is no list of models"
    assert len({body["prompt"] for body in fake.bodies}) == len(fake.bodies)


def test_the_key_goes_to_page_and_api(quick, tmp_path):
    """One file for both; without it the list of models already says what is missing."""
    (tmp_path / "key").write_text("sesame\n")
    with pytest.raises(SourceError, match=r"answered 401; .*--bearer-token-file"):
        quick(asked(Fake(key="Bearer sesame", status=500)))
    with pytest.raises(SourceError, match="answered 500"):
        quick(asked(Fake(key="Bearer sesame", status=500), bearer_token_file=str(tmp_path / "key")))


def test_ctrl_c_leaves_nothing_running(tmp_path):
    """Exit code 130, no traceback, and the server has nothing of ours in flight any more."""
    with Engines(tmp_path / "engines") as engines:
        command = ("inferometer", "calibrate", engines.urls[0], "--for", "30s")
        with Process(tmp_path / "log", *command) as running:
            running.waits_for("prefill")
            eventually(lambda: engines.truth(0)["in_flight"]["requests"] > 0, "requests in flight")
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(20) == 130
            assert "Traceback" not in running.log
        eventually(lambda: engines.truth(0)["in_flight"]["requests"] == 0, "rest")


# -- small parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "api", "page", "root"),
    [
        ("http://h:8000", "", "http://h:8000/metrics", "http://h:8000"),
        ("http://h:8000/", "", "http://h:8000/metrics", "http://h:8000"),
        ("http://h:8000/v1", "", "http://h:8000/metrics", "http://h:8000"),
        ("http://h:8000/metrics", "", "http://h:8000/metrics", "http://h:8000"),
        ("http://h:8000/v1/metrics", "", "http://h:8000/v1/metrics", "http://h:8000"),
        ("http://h:8000/prometheus/metrics", "", "http://h:8000/prometheus/metrics", "http://h:8000"),
        ("https://h/team/a/", "", "https://h/team/a/metrics", "https://h/team/a"),
        ("http://h:8002/metrics", "http://h:9000/v1/", "http://h:8002/metrics", "http://h:9000"),
    ],
)
def test_page_and_api_from_one_address(url, api, page, root):
    assert addresses(url, api) == (page, root)


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/hostname", "", "http://h:99999", "http://"])
def test_no_address(url):
    with pytest.raises(InferometerError, match="this is no address of a server"):
        addresses(url, "")


def test_lists_of_models():
    """Adapters are not models of their own; what is no list has none."""
    listed = {"data": [{"id": "base"}, {"id": "lora", "parent": "base"}]}
    assert _models(json.dumps(listed).encode()) == ["base"]
    assert [_models(body) for body in (b"", b"[]", b'{"data": [1]}', b"<html>", b'{"data": [{}]}')] == [[]] * 5


def test_several_models_need_a_name(quick):
    with pytest.raises(InferometerError, match="2 models; name one with --model: a, b"):
        quick(asked(Fake(models=("a", "b"))))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "no  such\\nmodel"}}', "no such model"),
        (b'{"error": "busy"}', "busy"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>404</html>", ""),
        (b"gone \x1b[31m", "gone [31m"),
        (b"[1]", "[1]"),
        (b"", ""),
    ],
)
def test_what_servers_say(body, said):
    assert _said(body) == said


# -- stand-ins ------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Runs a coroutine in a time of its own."""
    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        for module in (bench, completions):
            monkeypatch.setattr(module, "boottime", runner.get_loop().time)
        yield runner.run


@contextlib.asynccontextmanager
async def tools(url):
    """A bench for a server, without running it."""
    async with bench._bench(Trial(url), silent) as made:
        yield made


async def totals(url):
    async with tools(url) as made:
        return await made._server.totals()


async def asked(fake, **more):
    """Calibrate against a fake server."""
    async with fake:
        return await calibrate(Trial(fake.url, **more), silent)


def replaced(record, changes):
    return type(record)(**{name: getattr(record, name) for name in record.__struct_fields__} | changes)


class Fake:
    """A server with a page that stands still and an API that answers ``status``; 0: never."""

    def __init__(self, status=200, page=PAGE, models=(), key="", unless=lambda _body: False):
        self.bodies = []
        self._status, self._page, self._models, self._key, self._unless = status, page, models, key, unless

    async def __aenter__(self):
        """Listen."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._listed)
        app.router.add_post("/v1/completions", self._completion)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        """Listen no more."""
        await self._runner.cleanup()

    async def _metrics(self, _request):
        return web.Response(body=self._page, headers={"Content-Type": "text/plain"})

    async def _listed(self, request):
        if self._key and request.headers.get("Authorization") != self._key:
            return web.json_response({}, status=401)
        listed = {"data": [{"id": name} for name in self._models]}
        return web.json_response(listed, status=200 if self._models else 404)

    async def _completion(self, request):
        body = await request.json()
        self.bodies.append(body)
        if self._status == 0:
            await asyncio.Event().wait()
        if self._unless(body):
            return web.Response(text="data: [DONE]\n\n")
        return web.json_response({"error": {"message": "no luck"}}, status=self._status)
