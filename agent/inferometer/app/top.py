"""``inferometer top``: the board in a terminal, by ANSI sequences alone: a container has no terminfo to ask."""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from inferometer.app.screen import COLUMNS, View, fit, lines
from inferometer.app.watch import Watch, address, read
from inferometer.web.client import client

KEYS = " q quit   ← → sort by   r turn round   w window "
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_LOOK_SECONDS = 0.25
_COLOURS = re.compile(r"\x1b\[\d*m")


def top(where: str, http_config: str | None = None) -> int:
    """Show the agent at ``where`` until q; where the output is no terminal, once. Raises InferometerError.

    ``http_config``: the file that says what to show to the agent and whom to trust.
    """
    base, who = address(where), client(http_config)
    first = read(base, who)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        shown = "\n".join(_COLOURS.sub("", line) for line in lines(first, View(), base))
        sys.stdout.write(f"{shown}\n")
        return 0
    with Watch(base, first, who) as watch, _screen():
        _loop(watch)
    return 0


def _loop(watch: Watch) -> None:
    view, drawn = View(), ("", shutil.get_terminal_size())
    while True:
        size = shutil.get_terminal_size()
        frame = fit(lines(watch.board, view, watch.base, watch.fault), size.columns, size.lines, KEYS)
        picture = "\x1b[H" + "\r\n".join(f"{line}\x1b[0m\x1b[K" for line in frame)
        if (picture, size) != drawn:
            sys.stdout.write(picture)
            sys.stdout.flush()
            drawn = (picture, size)
        if select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
            pressed = os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")
            if not pressed or pressed.startswith(("q", "Q", "\x03")):
                return
            view = press(view, pressed)


def press(view: View, keys: str) -> View:
    """The view after these keys: arrows or < > move the column, r turns the order round, w takes the next window."""
    for key in re.findall(r"\x1b\[[A-Z]|.", keys):
        if key in {"\x1b[C", ">", "s"}:
            view = view._replace(sort=(view.sort + 1) % len(COLUMNS))
        elif key in {"\x1b[D", "<"}:
            view = view._replace(sort=(view.sort - 1) % len(COLUMNS))
        elif key == "r":
            view = view._replace(descending=not view.descending)
        elif key == "w":
            view = view._replace(window=view.window + 1)
    return view


@contextmanager
def _screen() -> Iterator[None]:
    """A screen of our own and keys as they are pressed; the terminal is given back as it was."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
