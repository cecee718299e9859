"""``inferometer top`` as a person has it: in a real terminal, tmux, beside a real agent."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from live import Agent, Engines, Scoped, environment, eventually, free_port, inferometer_says

FLAGS = ("--gpus=2", "--price.gpu-hour=2.50", "--slo.ttft=500ms", "--interval=200ms", "--workload=chat")


class Terminal(Scoped):
    """A tmux of its own, of one window."""

    def __init__(self, folder, *command, columns=110, rows=24):
        self._socket = str(folder / "tmux")
        line = f"{shlex.join([sys.executable, '-m', 'inferometer', *command])}; echo ended with $?; sleep 60"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), line)

    def begin(self):
        """It began when it was made."""

    def tmux(self, *arguments):
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", "-u", *arguments]
        environ = environment(TERM="xterm-256color", LANG="C.UTF-8", PYTHONIOENCODING="utf-8")
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=20).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def until(self, words):
        """The first screen on which these words are."""
        return eventually(lambda: (seen := self.screen()) and any(words in line for line in seen) and seen, words)

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def end(self):
        """No more terminal."""
        self.tmux("kill-server")


@pytest.fixture(autouse=True)
def _tmux():
    if shutil.which("tmux") is None:
        assert os.environ.get("CI") != "true", "tmux is missing; `make tools` installs it"
        pytest.skip("tmux is not installed")


def test_top_shows_the_agents_numbers_and_lives_with_the_keyboard(tmp_path):
    """Numbers, sorting, another window, a resize, an agent that goes and comes back, and the way out."""
    port = free_port()
    with Engines(tmp_path / "engines", 1, 5.0) as engines:
        flags = (f"--engine.url={engines.urls[0]}", *FLAGS)
        agent = Agent(tmp_path / "log", *flags, listen=f"127.0.0.1:{port}")
        try:
            agent.until(lambda page: page.sum("inferometer_cost_per_million_tokens"), "a cost")
            with Terminal(tmp_path, "top", f"127.0.0.1:{port}") as terminal:
                seen = terminal.until("over the last 1m")
                assert seen[0].startswith(f"Inferometer http://127.0.0.1:{port}")
                assert seen[2].startswith("WORKLOAD▲")
                chat = eventually(lambda: next((row for row in terminal.screen() if row.startswith("chat")), ""))
                assert chat.split()[-1] == "1/1"
                hourly = eventually(lambda: next((c for c in terminal.screen()[3].split() if c.startswith("5.0")), ""))
                assert hourly.endswith("*"), "2 GPUs at 2.50 that nobody saw: 5 an hour, marked as assumed"
                assert "q quit" in terminal.screen()[23]
                terminal.press("Right")
                terminal.until("COST/M▲")
                terminal.press("r")
                terminal.until("COST/M▼")
                terminal.press("w")
                terminal.until("over the last 5m")
                terminal.tmux("resize-window", "-x", "60", "-y", "12")
                eventually(lambda: len(terminal.screen()) == 12 and "q quit" in terminal.screen()[11], "12 rows")
                assert max(map(len, terminal.screen())) <= 60
                agent.stop()
                terminal.until("does not answer as an agent")
                assert any(row.startswith("chat") for row in terminal.screen()), "the last numbers stay"
                agent = Agent(tmp_path / "log", *flags, listen=f"127.0.0.1:{port}")
                eventually(lambda: not any("does not answer" in row for row in terminal.screen()), "recovery")
                terminal.press("q")
                assert terminal.until("ended with 0")[0] == "ended with 0", "the screen from before is back"
        finally:
            agent.end()


def test_top_without_a_terminal_prints_once(tmp_path):
    """In a pipe there are no colours and nothing to press."""
    with Engines(tmp_path / "engines") as engines, Agent(tmp_path / "log", "--engine.url", engines.urls[0]) as agent:
        agent.ready()
        code, out, said = inferometer_says("top", agent.url)
        assert (code, said) == (0, "")
        assert out.startswith(f"Inferometer {agent.url}")
        assert "\x1b" not in out
        assert "missing  default: no price configured, so no cost: add --price.gpu-hour 2.50" in out
        code, out, said = inferometer_says("top", engines.urls[0])
        assert (code, out) == (2, "")
        assert "answers 404" in said


def test_top_where_nothing_answers_says_what_to_do():
    code, out, said = inferometer_says("top", f"127.0.0.1:{free_port()}")
    assert (code, out) == (2, "")
    assert "does not answer as an agent (connection refused); start one with `inferometer run`" in said
    assert inferometer_says("top", "ftp://x")[0] == 2
