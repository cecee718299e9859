"""The live page in a real Chromium beside a real agent; ``make browser`` installs what it needs and runs this.

INFEROMETER_BROWSER: the browser to run; without it these tests are skipped. Pictures land in INFEROMETER_PICTURES.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
from gated import PAIR, hashed, written
from live import Agent, Engines, eventually, fetch, free_port

BROWSER = os.environ.get("INFEROMETER_BROWSER", "")
pytestmark = pytest.mark.skipif(not BROWSER, reason="make browser runs these")
if BROWSER:
    from playwright.sync_api import sync_playwright

SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FLAGS = (
    "--gpus=2", "--price.gpu-hour=2.50", "--slo.ttft=500ms", "--slo.tpot=50ms", "--slo.e2e=10s", "--interval=200ms",
    "--workload=chat",
)  # fmt: skip
PATIENCE_MS = 20_000
TILES = ("cost", "cost-second", "goodput", "joules", "hourly", "tokens")
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (node) => {
    const color = rgba(getComputedStyle(node).backgroundColor);
    return color[3] === 255 || !node.parentElement ? color : ground(node.parentElement);
  };
  const texts = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  return [...document.querySelectorAll("body *")].filter((n) => n.checkVisibility() && texts(n)).map((node) => {
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(ground(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 40)];
  });
}"""
"""The contrast of every visible text with what is behind it, as WCAG 2 defines it."""

FOCUSED = """() => {
  const node = document.activeElement;
  const drawn = node.matches("#windows input") ? node.nextSibling : node;
  return [node.tagName, getComputedStyle(drawn).outlineStyle !== "none"];
}"""
STICKING_OUT = """() => [...document.querySelectorAll(".tile, .gpu")].flatMap((box) =>
  [...box.querySelectorAll(".value, .unit, h3")]
    .filter((node) => node.getBoundingClientRect().right > box.getBoundingClientRect().right + 0.5)
    .map((node) => node.textContent))"""


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which(BROWSER)
    assert path, f"{BROWSER} is not installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        yield browser
        browser.close()


class Served:
    """An agent on a port that it keeps, in front of an engine with traffic."""

    def __init__(self, folder, engines, *flags):
        self.port, self._folder = free_port(), folder
        self._flags = (*(f"--engine.url={url}" for url in engines.urls), *(flags or FLAGS))
        self.url = f"http://127.0.0.1:{self.port}/"
        self.agent = None

    def start(self):
        self.agent = Agent(self._folder / f"log-{self.port}", *self._flags, listen=f"127.0.0.1:{self.port}")
        self.agent.until(lambda page: page.rows("inferometer_tokens_per_second"), "numbers")
        return self


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    with Engines(tmp_path_factory.mktemp("engines") / "log", 2, 0.5) as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory, engines):
    one = Served(tmp_path_factory.mktemp("agent"), engines).start()
    one.agent.until(lambda page: page.rows("inferometer_goodput_ratio_lower"), "goodput")
    yield one
    one.agent.end()


class Visit:
    """A page of its own context, with all that it said and asked for."""

    def __init__(self, chromium, url, **options):
        self.context = chromium.new_context(locale="en-US", **options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("#state[data-state=live]", timeout=PATIENCE_MS)
        self.page.wait_for_selector(".tile .value", timeout=PATIENCE_MS)

    def number(self, name):
        return self.page.locator(f'[data-number="{name}"]').first.text_content()

    def until(self, condition, what):
        """Wait for what this page shows; the browser goes on meanwhile."""
        return eventually(lambda: condition() or self.page.wait_for_timeout(100), what)

    def drawn(self):
        """How many points the line of tokens per second has."""
        return len(re.findall(r"[ML]", self.page.locator(".tile.tokens .line").get_attribute("d") or ""))

    def picture(self, name):
        folder = os.environ.get("INFEROMETER_PICTURES")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def visit(chromium):
    opened = []

    def go(url, **options):
        opened.append(Visit(chromium, url, **options))
        return opened[-1]

    yield go
    for one in opened:
        one.context.close()


def test_the_page_loads_in_silence_and_asks_nobody_else(visit, served):
    """No console message of any kind, and every request goes to the agent."""
    one = visit(served.url)
    one.until(one.drawn, "the hour")
    one.page.wait_for_timeout(1500)
    assert one.said == []
    assert {url.split("/")[2] for url in one.asked} == {f"127.0.0.1:{served.port}"}
    paths = {url.split("/", 3)[3].partition("?")[0] for url in one.asked}
    assert {"", "page.js", "page.css", "api/v1/events", "api/v1/history"} <= paths
    assert one.page.locator("h2").first.text_content() == "chat"
    assert "2 of 2 engines up (vllm)" in one.page.locator(".about").first.text_content()


def shown(text):
    """The numbers in a text, and half a unit of the last digit of each."""
    for digits in re.findall(r"\d[\d,]*(?:\.\d+)?", text):
        decimals = len(digits.partition(".")[2])
        yield float(digits.replace(",", "")), 0.5000001 * 10.0**-decimals


def test_numbers_equal_metrics_to_the_digits_shown(visit, tmp_path, engines):
    """Both of one snapshot: nothing moves for five seconds."""
    still = Served(tmp_path, engines, *(f for f in FLAGS if "interval" not in f), "--interval=5s").start()
    try:
        one = visit(still.url)
        for _ in range(10):  # until the page and /metrics are of one snapshot
            metrics, as_of = still.agent.page(), one.page.locator("#as-of").text_content()
            wanted = {
                "cost": metrics.sum(
                    "inferometer_cost_per_million_tokens", tokens="all", basis="allocation", window="1m"
                ),
                "cost-second": metrics.sum(
                    "inferometer_cost_per_million_tokens", tokens="output", basis="allocation", window="1m"
                ),
                "tokens": metrics.sum("inferometer_tokens_per_second", window="1m"),
            }
            found = {name: next(shown(one.number(name))) for name in wanted}
            close = all(math.isclose(found[n][0], wanted[n], rel_tol=0, abs_tol=found[n][1]) for n in wanted)
            if close and one.page.locator("#as-of").text_content() == as_of:
                break
            one.page.wait_for_timeout(1100)
        assert close, (found, wanted)
        one.until(lambda: one.number("hourly") != "–", "money per hour, known from the second settlement on")
        assert next(shown(one.number("hourly")))[0] == pytest.approx(5.0, abs=0.02), "2 GPUs at 2.50"
    finally:
        still.agent.end()


def test_every_number_says_how_it_was_made(visit, served):
    """In a word beside it, in a sentence on hover, and in text that opens without a mouse."""
    one = visit(served.url)
    words = one.page.locator(".made summary").all_text_contents()
    assert words == ["assumed", "bounded", "missing", "assumed", "measured"]
    summary = one.page.locator(".tile.goodput summary")
    assert "the truth is in the band" in summary.get_attribute("title")
    summary.focus()
    one.page.keyboard.press("Enter")
    assert one.page.locator(".tile.goodput .made p").is_visible()
    one.page.wait_for_timeout(1200)
    assert one.page.locator(".tile.goodput .made p").is_visible(), "an update closes nothing"
    assert "No meter" in one.page.locator(".tile.joules .note").text_content()


def test_what_is_missing_is_a_sentence(visit, tmp_path, engines):
    """No price, no SLO, no GPU: dashes, and how to have the numbers."""
    bare = Served(tmp_path, engines, "--workload=chat", "--interval=200ms").start()
    try:
        one = visit(bare.url)
        hints = one.page.locator("#hints").text_content()
        assert "no price configured, so no cost: add --price.gpu-hour 2.50" in hints
        assert "no SLO configured, so no goodput" in hints
        assert one.number("cost") == one.number("goodput") == one.number("hourly") == "–"
        assert "add --price.gpu-hour" in one.page.locator(".tile.cost .note").text_content()
        one.picture("missing")
    finally:
        bare.agent.end()


def test_numbers_move_by_themselves(visit, served):
    one = visit(served.url)
    as_of, tokens = one.page.locator("#as-of").text_content(), one.number("tokens")
    one.until(lambda: one.page.locator("#as-of").text_content() != as_of and one.number("tokens") != tokens, "others")
    assert sum("api/v1/board" in url for url in one.asked) == 0, "they are pushed, not asked for"


def test_the_page_outlives_the_agent(visit, tmp_path, engines):
    """It says so when the agent is gone, keeps the numbers and the hour, and goes on when another one is there."""
    one = Served(tmp_path, engines).start()
    seen = visit(one.url)
    seen.until(seen.drawn, "a line")
    one.agent.kill()
    seen.page.wait_for_selector("#state[data-state=lost]", timeout=PATIENCE_MS)
    assert "does not answer" in seen.page.locator("#status").text_content()
    assert seen.number("tokens") != "–"
    one.start()
    try:
        seen.page.wait_for_selector("#state[data-state=live]", timeout=PATIENCE_MS)
        seen.until(lambda: seen.drawn() >= 2, "the hour goes on")
        assert [said for said in seen.said if "Failed to load resource" not in said] == []
    finally:
        one.agent.end()


def test_a_page_that_no_stream_is_left_for_asks_instead(visit, served):
    """The number of streams is bounded; one page too many is alive all the same."""
    one = visit(served.url)
    one.context.route("**/api/v1/events", lambda route: route.fulfill(status=503, body="full"))
    one.page.reload()
    one.page.wait_for_selector("#state[data-state=live]", timeout=PATIENCE_MS)
    assert any("api/v1/board" in url for url in one.asked)


def test_the_keyboard_is_enough(visit, served):
    """Tab reaches the windows, every explanation, the table and the links, each with a visible outline."""
    one = visit(served.url)
    reached, outlines = [], []
    for _ in range(20):
        one.page.keyboard.press("Tab")
        tag, outlined = one.page.evaluate(FOCUSED)
        if tag == "BODY":
            break
        reached.append(tag)
        outlines.append(outlined)
    assert reached == ["INPUT", *["SUMMARY"] * 5, "DIV", *["A"] * 4]
    assert all(outlines)
    one.page.locator("#windows input").first.focus()
    one.page.keyboard.press("ArrowRight")
    assert one.page.locator("#windows input:checked").get_attribute("value") == "5m"
    one.page.reload()
    one.page.wait_for_selector("#windows input")
    assert one.page.locator("#windows input:checked").get_attribute("value") == "5m", "the choice is remembered"


def test_a_screen_reader_hears_names_and_not_every_second(visit, served):
    """Headings in order, regions and pictures with names, and only the state of the connection announced."""
    one = visit(served.url)
    levels = one.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((n) => Number(n.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for picture in one.page.locator("svg").all():
        assert re.search(r".+: .+", picture.get_attribute("aria-label"))
    assert one.page.locator("[role=status]").all_text_contents() == ["Live"]
    tree = one.page.locator("body").aria_snapshot()
    assert 'region "chat"' in tree
    assert 'radio "1m" [checked]' in tree or "radio" in tree
    assert "table" in tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(visit, served, scheme):
    """WCAG AA: 4.5 to 1, for every text on the page, in both schemes."""
    one = visit(served.url, color_scheme=scheme, viewport={"width": 1280, "height": 860})
    one.page.wait_for_timeout(1000)
    found = one.page.evaluate(CONTRAST)
    assert len(found) > 40
    assert [text for ratio, text in found if ratio < 4.5] == []
    one.picture(scheme)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_sticks_out_on_any_width(visit, served, width):
    one = visit(served.url, viewport={"width": width, "height": 844})
    one.page.wait_for_timeout(500)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    assert one.page.evaluate(STICKING_OUT) == []
    one.picture(f"width-{width}")


def test_the_history_is_drawn(visit, served):
    """As many points as the agent has."""
    one = visit(served.url)
    history = json.loads(fetch(f"{served.url}api/v1/history")[1])
    values = [value for value in history["workloads"]["chat"]["tokens_per_second"] if value is not None]
    one.until(lambda: one.drawn() >= len(values) > 0, "its points")


def test_names_are_text_and_a_large_fleet_fits(visit, served):
    """What engines, pods and GPUs are called cannot become markup, and forty workloads are only a longer page."""
    one = visit(served.url, viewport={"width": 390, "height": 844})
    board = json.loads(fetch(f"{served.url}api/v1/board")[1])
    evil = '<img src="x" onerror="document.title=1">'
    (chat,) = (row for row in board["workloads"] if row["name"] == "chat")
    board["workloads"] = [{**chat, "name": f"{evil}{number}"} for number in range(40)]
    gpu = {
        "index": 7, "name": evil, "up": True, "workloads": [evil], "power_watts": 300.0, "power_limit_watts": 700.0,
        "activity_ratio": 0.5, "activity_of": evil, "memory_used_bytes": None, "memory_total_bytes": None,
        "temperature_celsius": None, "instances": 7,
    }  # fmt: skip
    board["gpus"] = [{**gpu, "uuid": f"{evil}{number}"} for number in range(64)]
    board["sources"] = [{"source": evil, "up": False, "read_seconds": 0, "errors": {evil: 1}, "detail": evil}]
    board["hints"] = [f"{evil}: add --gpus N"]
    body = f"data: {json.dumps(board)}\n\n"
    one.context.route("**/api/v1/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    one.page.reload()
    one.page.wait_for_selector(".gpu", timeout=PATIENCE_MS)
    assert one.page.locator(".workload").count() == 40
    assert one.page.locator(".gpu").count() == 64
    assert one.page.locator("main img").count() == 0
    assert one.page.title() == "Inferometer"
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert one.page.evaluate(STICKING_OUT) == []


def test_it_lives_behind_tls_and_a_password(visit, engines, folder):
    """Files, history and the stream of events are all asked for with the password that the browser was given once."""
    text = f"tls_server_config: {{{PAIR}}}\nbasic_auth_users: {{bob: '{hashed('right', 10)}'}}\n"
    flags = (*(f"--engine.url={url}" for url in engines.urls), *FLAGS, "--web.config.file", written(folder, text))
    with Agent(folder / "log", *flags) as agent:
        address = agent.url.replace("127.0.0.1", "localhost") + "/"
        login = {"username": "bob", "password": "right"}
        one = visit(address, ignore_https_errors=True, http_credentials=login)
        before = one.drawn()
        one.until(lambda: one.drawn() > before, "another point of the line")
        assert all(url.startswith(address) for url in one.asked)
        assert [line for line in one.said if "401" not in line] == []
