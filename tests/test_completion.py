"""Completion scripts, run by the shells themselves: what the parser knows is offered, and nothing else."""

import os
import shutil
import subprocess

import pytest
from inferometer import cli
from inferometer.cli import completion
from live import inferometer_says

FLAGS_OF_REPORT = ("--since", "--by", "--against", "--storage.path", "--format")


@pytest.fixture
def script(request, tmp_path):
    """The script of the shell that the test is for, in a file."""
    shell = request.param
    if shutil.which(shell) is None:
        assert os.environ.get("CI") != "true", f"{shell} is missing; `make tools` installs it"
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(completion.script(shell, cli.parser()))
    return path


def ran(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")


def bash(script, *words):
    typed = " ".join(f"'{word}'" for word in ("inferometer", *words))
    ask = f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _inferometer"
    return set(filter(None, ran("bash", "--norc", "-c", ask + '; printf "%s\\n" "${COMPREPLY[@]}"')))


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_offers_commands_flags_and_words(script):
    """Commands first, a command's own flags after a dash, the words of a flag that has some, else files."""
    assert bash(script, "re") == {"record", "report", "replay"}
    assert {"--version", "--help", "what-if"} <= bash(script, "")
    assert set(FLAGS_OF_REPORT) <= bash(script, "report", "--")
    assert bash(script, "report", "--format", "f") == {"focus"}
    assert bash(script, "replay", "--format", "") == {"text", "json", "metrics", "openmetrics"}
    assert bash(script, "completion", "") == {"bash", "zsh", "fish"}
    assert bash(script, "check", str(script)[:-3]) == {str(script)}
    assert bash(script, "run", "--price.") == {"--price.gpu-hour"}


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_offers_the_same(script):
    def offered(typed):
        return {
            line.split("\t")[0] for line in ran("fish", "--no-config", "-c", f"source {script}; complete -C '{typed}'")
        }

    assert offered("inferometer re") - {""} == {"record", "report", "replay"}
    assert set(FLAGS_OF_REPORT) <= offered("inferometer report --")
    assert offered("inferometer report --format f") - {""} == {"focus"}
    assert {"bash", "zsh", "fish"} <= offered("inferometer completion ")


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_describes_the_same(script):
    """Its completion needs a terminal; what it would be told to offer does not."""
    stub = "compdef() { : }; _arguments() { print -rl -- $@ }; _describe() { print -rl -- $commands }"
    said = ran("zsh", "-f", "-c", f"{stub}; source {script}; words=(inferometer ''); CURRENT=2; _inferometer")
    assert {"record", "report", "replay"} <= {line.split(":")[0] for line in said}
    said = ran("zsh", "-f", "-c", f"{stub}; source {script}; words=(inferometer report ''); CURRENT=3; _inferometer")
    assert set(FLAGS_OF_REPORT) <= {line.split("[")[0] for line in said}
    assert any(line.startswith("--format[") and line.endswith(":(table csv json focus)") for line in said)


@pytest.mark.parametrize("shell", sorted(completion.SHELLS))
def test_every_command_and_flag_is_in_every_script(shell):
    """And the command prints what the function makes."""
    text = completion.script(shell, cli.parser())
    assert inferometer_says("completion", shell) == (0, text, "")
    for command in completion._commands(cli.parser()):
        assert command.name in text
        assert all(flag.name.removeprefix("--") in text for flag in command.flags)
    assert inferometer_says("completion", "tcsh")[0] == 2
