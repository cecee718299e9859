"""Every command of the documentation that needs no cluster and no GPU, run as it stands, beside a simulated engine.

Only names are replaced: the server's address, the ledger's directory, and lengths of time. Files have the names that
the pages use. What is not run is listed with a reason, and its flags are checked by test_docs.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import books
import pytest
from inferometer import cli
from inferometer.cli.docs import page
from live import Agent, Engines, eventually, inferometer_says
from test_docs import PAGES, ROOT, SHELLS, blocks, commands

TESTS = Path(__file__).parent
NOT_RUN = {
    "calibrate": "asks a real completions API for a minute; tests/test_calibrate.py has a server for it",
    "record --gpus": "needs a GPU",
}
LONG = {"run", "demo"}
"""Commands that go on until they are stopped."""

CONFIG = """\
workloads: [{name: chat, engines: [{url: "URL"}], gpus: 1}]
prices: {default: {gpu_hour: 2.5}}
storage: {path: LEDGER}
"""


def documented():
    """Every command line of ours on any page, once."""
    found = {}
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.language in SHELLS and not re.search(r"<!-- not (parsed|run): \S.* -->", block.before):
                for words in commands(block):
                    found.setdefault(tuple(words), path.relative_to(ROOT).as_posix())
    return sorted(found.items())


def exempt(words):
    line = shlex.join(words)
    return next((why for part, why in NOT_RUN.items() if line.startswith(part) or f" {part}" in line), "")


RUN = [(words, where) for words, where in documented() if not exempt(words)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with all that the pages name, and the address of an engine that answers."""
    folder = tmp_path_factory.mktemp("docs")
    books.write(folder / "ledger", now=True)
    shutil.copytree(TESTS / "recordings" / "vllm-0.32-closed-loop", folder / "recording")
    models = {name: {"input": 0.15, "input_cached": 0.075, "output": 0.6} for name in ("gpt-4o-mini", "big", "small")}
    (folder / "prices.yaml").write_text(json.dumps({"models": models}))
    example = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    orca = next(block.text for block in blocks(example) if block.text.startswith("engine: orca"))
    pages = next(block.text for block in blocks(example) if block.language == "prometheus")
    (folder / "orca.yaml").write_text(orca)
    (folder / "orca.prom").write_text(pages)
    (folder / "page.prom").write_bytes(gzip.decompress((TESTS / "pages" / "vllm.prom.gz").read_bytes()))
    with Engines(folder / "engines.log", load=10) as engines:
        config = CONFIG.replace("URL", engines.urls[0]).replace("LEDGER", str(folder / "agent-ledger"))
        (folder / "inferometer.yaml").write_text(config)
        yield folder, engines.urls[0]


def local(words, folder, url):
    """The same command for this place: its server, its ledger, little time; a recording is written to a new folder."""
    ledger = str(folder / ("agent-ledger" if words[0] in LONG else "ledger"))

    def here(word):
        word = re.sub(r"http://(localhost|127\.0\.0\.1|ENGINE):[89]000(/metrics)?", url, word)
        word = re.sub(r"NAME\.yaml$", "orca.yaml", word.replace("/var/lib/inferometer", ledger))
        word = word.replace("/etc/inferometer/config.yaml", "inferometer.yaml")
        return {"10m": "1s", "60s": "1s", "1s": "200ms"}.get(word, word)

    changed = [here(word) for word in words]
    if words[0] == "record":
        changed[changed.index("--out") + 1] = f"new-{abs(hash(words))}"
    for flag in {"--web.listen-address"} & set(changed):  # the test's own is a free port
        at = changed.index(flag)
        del changed[at : at + 2]
    return changed


@pytest.mark.parametrize(("words", "where"), [pytest.param(*each, id=shlex.join(each[0])) for each in RUN])
def test_it_can_be_typed(place, monkeypatch, words, where):
    """It ends well and says something; an agent comes up and has a first ratio."""
    folder, url = place
    monkeypatch.chdir(folder)
    typed = local(words, folder, url)
    if words[0] in LONG:
        more = () if words[0] == "demo" else ("--interval", "100ms")
        with Agent(folder / "log", *typed[1:], *more, command=words[0]) as agent:
            agent.ready()
            ratio = "inferometer_cost_per_million_tokens"
            eventually(lambda: agent.page().rows(ratio) or not prices_tokens(typed), f"{where}: {ratio}")
        return
    if words[0] == "top":
        with Agent(folder / "log", "--engine.url", url, "--interval", "100ms") as agent:
            agent.ready()
            code, out, errors = inferometer_says("top", agent.url)
        assert (code, errors) == (0, ""), where
        assert "default" in out, where
        return
    code, out, errors = inferometer_says(*typed)
    expected = 1 if words[0] == "explain" and "orca.yaml" in typed and "orca.prom" not in typed else 0
    assert code == expected, f"{where}: {errors}"
    assert out, where
    assert "Traceback" not in errors


def prices_tokens(typed):
    """Whether what is typed has a price, so that tokens cost something."""
    return typed[0] == "demo" or any(word.startswith(("--price", "--config")) for word in typed)


def names():
    """Every command of the agent."""
    return list(cli.parser()._subparsers._group_actions[0].choices)


def test_most_commands_are_run():
    """The list of exceptions stays short, and every command of the agent is shown somewhere."""
    shown = {words[0] for words, _ in documented()}
    assert set(names()) <= shown
    left_out = [words for words, _ in documented() if exempt(words)]
    assert len(left_out) <= 6, left_out


def test_the_page_of_commands_is_up_to_date():
    """`make docs` rewrites it."""
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == page()
    assert page().count("\n## ") == len(names()) + 1


def test_what_if_prints_what_the_page_shows(place, monkeypatch):
    """The table in docs/reports.md is the answer to the command above it."""
    monkeypatch.chdir(place[0])
    found = list(blocks((ROOT / "docs" / "reports.md").read_text(encoding="utf-8")))
    at = next(i for i, block in enumerate(found) if block.text.startswith("default (USD)"))
    (typed,) = commands(found[at - 1])
    code, out, errors = inferometer_says(*typed)
    assert (code, errors) == (0, "")
    assert out.split("\n\n")[0] == found[at].text.rstrip()
