"""``inferometer completion``: scripts for bash, zsh and fish, made of the parser, so that they know what it knows."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

_BASH = """\
# bash completion of inferometer; load it with: source <(inferometer completion bash)
_inferometer() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} flags= words=
    case "${COMP_WORDS[1]-}" in
%(commands)s
    esac
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "%(names)s --help --version" -- "$current"))
    elif [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    elif [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}
complete -o filenames -F _inferometer inferometer
"""
_ZSH = """\
#compdef inferometer
# zsh completion of inferometer; load it with: source <(inferometer completion zsh)
_inferometer() {
    local -a commands=(
%(named)s
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case "$words[2]" in
%(commands)s
    esac
}
compdef _inferometer inferometer
"""
_FISH = """\
# fish completion of inferometer; load it with: inferometer completion fish | source
complete -c inferometer -n __fish_use_subcommand -l help -d 'show help'
complete -c inferometer -n __fish_use_subcommand -l version -d 'show the version'
%(commands)s
"""


class _Flag(Struct, frozen=True):
    """An option as it is typed; ``takes`` '' where it stands alone."""

    name: str
    text: str
    takes: str
    choices: tuple[str, ...]


class _Command(Struct, frozen=True):
    name: str
    text: str
    flags: tuple[_Flag, ...]
    choices: tuple[str, ...]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for one of ``SHELLS``, to be sourced."""
    return SHELLS[shell](list(_commands(parser)))


def _commands(parser: argparse.ArgumentParser) -> Iterator[_Command]:
    """Every command of the parser. argparse has no public way to ask for them."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    for group in groups:
        texts = {choice.dest: choice.help or "" for choice in group._choices_actions}  # noqa: SLF001  likewise
        for name, command in group.choices.items():
            yield _command(name, texts.get(name, ""), command)


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> _Command:
    actions = parser._actions  # noqa: SLF001  likewise
    flags = [_flag(action) for action in actions if action.option_strings]
    choices = [tuple(map(str, action.choices)) for action in actions if not action.option_strings and action.choices]
    return _Command(name, text, tuple(flags), choices[0] if choices else ())


def _flag(action: argparse.Action) -> _Flag:
    takes = "" if action.nargs == 0 else str(action.metavar or "VALUE")
    text = " ".join((action.help or "").split())
    return _Flag(action.option_strings[-1], text, takes, tuple(map(str, action.choices or ())))


def _bash(commands: list[_Command]) -> str:
    lines = []
    for command in commands:
        flags = " ".join(flag.name for flag in command.flags)
        lines.append(f"        {command.name})\n            flags={shlex.quote(flags)}")
        if command.choices:
            lines.append(f"            [[ $COMP_CWORD -eq 2 ]] && words={shlex.quote(' '.join(command.choices))}")
        chosen = [flag for flag in command.flags if flag.choices]
        if chosen:
            cases = " ".join(f"{flag.name}) words={shlex.quote(' '.join(flag.choices))} ;;" for flag in chosen)
            lines.append(f"            case $previous in {cases} esac")
        lines.append("            ;;")
    return _filled(_BASH, commands="\n".join(lines), names=" ".join(command.name for command in commands))


def _zsh(commands: list[_Command]) -> str:
    named = "\n".join(f"        {shlex.quote(f'{each.name}:{each.text}')}" for each in commands)
    lines = []
    for command in commands:
        specs = [shlex.quote(_zsh_spec(flag)) for flag in command.flags]
        rest = f"'1:value:({' '.join(command.choices)})'" if command.choices else "'*:file:_files'"
        arguments = " \\\n                ".join([*specs, rest])
        lines.append(f"        {command.name})\n            shift words; (( CURRENT-- ))\n            _arguments \\")
        lines.append(f"                {arguments}\n            ;;")
    return _filled(_ZSH, commands="\n".join(lines), named=named)


def _zsh_spec(flag: _Flag) -> str:
    text = flag.text.translate(str.maketrans("[]:", "() "))
    if not flag.takes:
        return f"{flag.name}[{text}]"
    action = f"({' '.join(flag.choices)})" if flag.choices else "_files" if _is_path(flag) else " "
    return f"{flag.name}[{text}]:{flag.takes.replace(':', ' ')}:{action}"


def _fish(commands: list[_Command]) -> str:
    lines = []
    for command in commands:
        lines.append(
            f"complete -c inferometer -n __fish_use_subcommand -f -a {command.name} -d {_fish_word(command.text)}"
        )
        seen = f"complete -c inferometer -n '__fish_seen_subcommand_from {command.name}'"
        if command.choices:
            lines.append(f"{seen} -f -a {_fish_word(' '.join(command.choices))}")
        for flag in command.flags:
            line = f"{seen} -l {flag.name.removeprefix('--')} -d {_fish_word(flag.text)}"
            if flag.choices:
                line += f" -x -a {_fish_word(' '.join(flag.choices))}"
            elif flag.takes:
                line += " -r" if _is_path(flag) else " -x"
            lines.append(line)
    return _filled(_FISH, commands="\n".join(lines))


def _fish_word(text: str) -> str:
    """In single quotes, in which fish knows two escapes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _is_path(flag: _Flag) -> bool:
    return flag.takes in {"FILE", "DIR"}


def _filled(template: str, **parts: str) -> str:
    for name, text in parts.items():
        template = template.replace(f"%({name})s", text)
    return template


SHELLS: Mapping[str, Callable[[list[_Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
