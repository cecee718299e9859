"""What the documentation names is there: links lead somewhere, commands parse, metrics and make targets exist.

Commands that cannot be parsed are exempt with a reason on the line before their block: ``<!-- not parsed: reason -->``.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from inferometer import cli
from inferometer.exposition.catalog import CATALOG
from inferometer.exposition.metric import HISTOGRAM

ROOT = Path(__file__).parents[1]
_AT_THE_ROOT = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
PAGES = sorted(
    path for path in (*(ROOT / f"{name}.md" for name in _AT_THE_ROOT), *ROOT.glob("docs/**/*.md")) if path.exists()
)
EVERY_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
SHELLS = {"", "sh", "bash", "shell", "console", "text"}


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line before it."""

    language: str
    text: str
    before: str


def blocks(text):
    """Every fenced block of a page."""
    pattern = r"(?:^|\n)([^\n]*)\n*\n[ ]*(```+|~~~+)[ ]*([\w-]*)[^\n]*\n(.*?)\n[ ]*\2"
    return [Block(m[3], m[4], m[1]) for m in re.finditer(pattern, "\n" + text, re.DOTALL)]


def prose(text):
    """A page without its fenced blocks and comments."""
    fenced = r"^[ ]*(```+|~~~+).*?^[ ]*\1[ ]*$"
    return re.sub(r"<!--.*?-->", "", re.sub(fenced, "", text, flags=re.DOTALL | re.MULTILINE), flags=re.DOTALL)


# -- links ----------------------------------------------------------------------------------------


def links(text):
    """Targets of inline links, images, reference definitions and HTML attributes."""
    plain = re.sub(r"`[^`\n]*`", "", prose(text))
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", plain)
    return (
        inline
        + re.findall(r"^\[[^\]]+\]:\s*(\S+)", plain, re.MULTILINE)
        + re.findall(r"(?:href|src)=\"([^\"]+)\"", plain)
    )


def anchors(text):
    """What can stand after # in a link to a page: headings as forges spell them, and explicit ids."""
    found = set(re.findall(r"<[^>]+\b(?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def broken(path):
    """The relative links of a page that lead nowhere."""
    for link in links(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or not target.is_relative_to(ROOT.resolve()):
            yield f"{link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link}: no such heading"


@EVERY_PAGE
def test_links_lead_somewhere(path):
    assert list(broken(path)) == []


# -- commands -------------------------------------------------------------------------------------


def commands(block):
    """The words of every command line of ours in a shell block, without ``inferometer`` itself."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=";|&<>")
        lexer.commenters = "#"
        lexer.wordchars += "[]…$:,@{}%^!*?~"
        try:
            words = list(lexer)
        except ValueError:
            continue  # an unbalanced quote: output, or more than a line
        simple = [[]]
        for word in words:
            simple[-1:] = [simple[-1], []] if set(word) <= set(";|&<>") else [[*simple[-1], word]]
        yield from filter(None, map(ours, simple))


def ours(words):
    """The arguments of one simple command if it runs the agent, else None."""
    while words and (re.fullmatch(r"\w+=\S*", words[0]) or words[0] in {"sudo", "exec", "nohup", "uvx"}):
        words = words[1:]
    if words and Path(words[0]).name == "inferometer":
        return words[1:]
    if len(words) > 2 and Path(words[0]).name.startswith("python") and words[1:3] == ["-m", "inferometer"]:
        return words[3:]
    return None


def refusal(words):
    """What the parser says against a command line; empty when it takes it."""
    plain = [re.sub(r"^\[|\]$|…$", "", word) for word in words]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.parser().parse_args([word for word in plain if word])
        except SystemExit as exit_:
            return said.getvalue() if exit_.code else ""
    return ""


@EVERY_PAGE
def test_commands_parse(path):
    """What is shown can be typed."""
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language in SHELLS and not re.search(r"<!-- not parsed: \S.* -->", block.before):
            for words in commands(block):
                assert refusal(words) == "", f"inferometer {' '.join(words)}"


def missing_targets(text, targets):
    """The words after ``make``, wherever it stands as code, that the Makefile does not have."""
    lines = "\n".join(block.text for block in blocks(text) if block.language in SHELLS).splitlines()
    for code in [*lines, *re.findall(r"`([^`\n]+)`", prose(text))]:
        for said in re.findall(r"(?:^|[;&|]|\bsudo )\s*\$?\s*make((?:\s+[\w=./-]+)+)", code.partition("#")[0]):
            named = {word for word in said.split() if "=" not in word and not word.startswith("-")}
            yield from sorted(named - targets)


@EVERY_PAGE
def test_make_targets_exist(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+)[\w -]*:(?!=)", makefile, re.MULTILINE))
    assert list(missing_targets(path.read_text(encoding="utf-8"), targets)) == []


# -- metrics --------------------------------------------------------------------------------------


def unknown_metrics(text):
    """Names like ours that no page of ours has; a name that ends in _ may be the beginning of several."""
    exposed = set(CATALOG) | {
        f"{name}_{suffix}"
        for name, metric in CATALOG.items()
        if metric.type == HISTOGRAM
        for suffix in ("bucket", "sum", "count")
    }
    for name in set(re.findall(r"(?<![\w:./-])inferometer_[a-z0-9_]+(?![\w:])", text)):
        begins = name.endswith("_") and any(known.startswith(name) for known in exposed)
        if name not in exposed and not begins:
            yield name


@EVERY_PAGE
def test_metrics_are_in_the_catalog(path):
    assert list(unknown_metrics(path.read_text(encoding="utf-8"))) == []


# -- the repository -------------------------------------------------------------------------------


def tracked():
    """Text files that are under version control or would be added; all files where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [
            str(path.relative_to(ROOT)) for part in ("agent", "docs", "tests") for path in (ROOT / part).rglob("*")
        ]
    for name in filter(None, names):
        path = ROOT / name
        body = path.read_bytes() if path.is_file() else b""
        if b"\0" not in body:
            yield name, body.decode("utf-8", "replace")


def machine_paths(text):
    """Absolute paths that only one machine has: into home folders, and into this checkout."""
    homes = r"(?<![\w.])/(?:home|Users)/\w[\w.-]*/|(?<![\w.])/root/(?!\.cache\b)\w"
    return re.findall(rf"{homes}|(?<![\w.]){re.escape(str(ROOT))}/", text)


def test_no_path_of_one_machine():
    assert {name: paths for name, text in tracked() if (paths := machine_paths(text))} == {}


# -- the checks -----------------------------------------------------------------------------------


def test_links_and_headings_are_read_as_a_forge_reads_them():
    """Code is no link, and a heading that comes twice is told apart."""
    page = '# A b\n## `c`: d!\n## A b\n[x](#a-b-1) `[no](link)`\n```\n[no](link)\n```\n<img src="gone.png">\n'
    assert links(page) == ["#a-b-1", "gone.png"]
    assert anchors(page) == {"a-b", "c-d", "a-b-1"}


def test_broken_links_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# Here\n")
    page = tmp_path / "page.md"
    page.write_text("[](there.md#here) [](there.md#gone) [](gone.md) [](../x) [](#no) [](https://example.com/gone)")
    assert [fault.split(":")[0] for fault in broken(page)] == ["there.md#gone", "gone.md", "../x", "#no"]


def test_commands_are_found_and_refused():
    """Also after variables, in pipes, over several lines and with the brackets of a usage line."""
    one = "$ A=1 inferometer run --nope 1 | tee x  # say"
    two = "cd x && .venv/bin/python -m inferometer \\\n  check F"
    (block,) = blocks(f"Do:\n\n```sh\n{one}\n{two}\n```\n")
    assert (block.language, block.before) == ("sh", "Do:")
    first, second = commands(block)
    assert first == ["run", "--nope", "1"]
    assert "--nope" in refusal(first)
    assert (second, refusal(second)) == (["check", "F"], "")
    assert refusal(["record", "URL…", "--out", "DIR", "[--for", "60s]"]) == ""
    assert "no-such-command" in refusal(["no-such-command"])


def test_unknown_names_are_seen():
    page = "`make tset X=1` and make sure\n```sh\ncd a && make test\n```\n"
    assert list(missing_targets(page, {"test"})) == ["tset"]
    names = "inferometer_cost_totals inferometer_cost_total inferometer_gpu_* x:inferometer_y:z"
    assert list(unknown_metrics(names)) == ["inferometer_cost_totals"]


@pytest.mark.parametrize("home", ["home", "Users"])
def test_machine_paths_are_seen(home):
    path = f"/{home}/me/"
    assert machine_paths(f"in {path}x, not https://host{path}x, {ROOT}/a") == [path, f"{ROOT}/"]
