"""What all commands share: how one is added, which flags stand on the line, and the configuration they lead to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from inferometer import config, log
from inferometer.config import FLAGS, Config
from inferometer.errors import ConfigError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  it has no public name
EXIT_CODES = """\
exit codes:
  0  fine
  1  the answer is no: a bad configuration, an unknown page, failed readings, no price for a model
  2  wrong use, or it cannot start or read what it was given
"""


def add(
    commands: Commands,
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
    *,
    flags: bool = False,
) -> argparse.ArgumentParser:
    """A command with its one line of help; ``flags``: it takes a configuration."""
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command, config_file=None, log_level=None, log_format=None)
    if flags:
        parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="YAML, see docs/configuration.md")
        for flag in FLAGS:
            name, dest = f"--{flag.name}", _attribute(flag.name)
            if flag.switch:
                parser.add_argument(name, dest=dest, help=flag.help, action="store_const", const="true")
            else:
                action = "append" if flag.repeatable else "store"
                parser.add_argument(name, dest=dest, metavar=flag.metavar, help=flag.help, action=action)
    return parser


def teach(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Put lines to type, and what they give, under a command's flags."""
    examples = "".join(f"  {line}\n" for line in lines)
    parser.epilog = f"examples:\n{examples}\n{EXIT_CODES}"


def given(options: argparse.Namespace) -> dict[str, str | Sequence[str]]:
    """The flags that stand on the command line, by their dotted names."""
    values = {flag.name: getattr(options, _attribute(flag.name), None) for flag in FLAGS}
    return {name: value for name, value in values.items() if value is not None}


def loader(options: argparse.Namespace) -> Callable[[], Config]:
    """What loads the configuration that the command line means, at each start and reload."""
    return loader_of(options.config_file, given(options))


def loader_of(file: str | None, flags: dict[str, str | Sequence[str]]) -> Callable[[], Config]:
    """What loads this file with these flags over it, and sets the log up as they say."""

    def load() -> Config:
        settings = config.load(file, flags, os.environ)
        log.setup(settings.log.level, settings.log.format)
        return settings

    return load


def seconds(text: str, flag: str) -> float:
    """A duration given to a flag, in seconds. Raises ConfigError."""
    length = config.durations.seconds(text)
    if not length:
        raise ConfigError([f"{flag}: {text!r} is no duration; write it with a unit, e.g. 60s or 500ms"])
    return length


def _attribute(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")
