"""The commands about money that needs no running agent: what was spent, and what it would have been."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from inferometer.cli.options import Commands, add, given, loader_of, teach
from inferometer.config import Config
from inferometer.errors import ConfigError

_BY = ("day", "workload", "model")


def add_report(commands: Commands) -> None:
    """``inferometer report``."""
    report = add(commands, "report", _report, "money, tokens, joules and goodput out of the ledger")
    report.add_argument("--storage.path", dest="storage_path", metavar="DIR", help="directory of the ledger")
    report.add_argument("--config.file", dest="config_file", metavar="FILE", help="take storage.path from this file")
    report.add_argument("--since", default="30d", metavar="AGO|DATE", help="from midnight of that day (default: 30d)")
    report.add_argument("--until", default="", metavar="AGO|DATE", help="up to that midnight (default: now)")
    report.add_argument(
        "--by", default="day,workload", metavar="KEYS", help="of day, workload, model (default: day,workload)"
    )
    report.add_argument("--timezone", default="UTC", metavar="ZONE", help="whose days and months (default: UTC)")
    forms = ("table", "csv", "json", "focus")
    report.add_argument("--format", choices=forms, default="table", help="focus: FinOps FOCUS 1.2 (default: table)")
    report.add_argument("--provider", default="self-hosted", metavar="NAME", help="in FOCUS: who the GPUs are had from")
    report.add_argument("--against", type=Path, metavar="FILE", help="compare with a price list, LiteLLM's or yours")
    report.add_argument(
        "--like", default="", metavar="NAME", help="the list's model to compare with (default: by name)"
    )
    teach(
        report,
        "inferometer report --storage.path /var/lib/inferometer --since 7d",
        "inferometer report --storage.path /var/lib/inferometer --by workload,model --format csv",
        "inferometer report --storage.path /var/lib/inferometer --since 2026-11-01 --format focus > focus.csv",
        "inferometer report --storage.path /var/lib/inferometer --against prices.yaml --like gpt-4o-mini",
    )


def add_what_if(commands: Commands) -> None:
    """``inferometer what-if``."""
    text = "a recording at other prices, SLOs and busy shares, side by side"
    what_if = add(commands, "what-if", _what_if, text, flags=True)
    what_if.add_argument("folder", type=Path, metavar="DIR", help="the recording")
    what_if.add_argument(
        "--with",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="a column: price.gpu-hour, price (a name under prices), slo.*, gpus, busy (a share); may be repeated",
    )
    what_if.add_argument("--format", choices=("table", "json"), default="table", help="(default: table)")
    flags = "--gpus 1 --price.gpu-hour 2.50 --slo.ttft 500ms"
    teach(
        what_if,
        f"inferometer what-if recording {flags} --with price.gpu-hour=1.10 --with slo.ttft=1s",
        f"inferometer what-if recording {flags} --with busy=0.8 --with busy=0.8,price.gpu-hour=1.10",
    )


def _report(options: argparse.Namespace) -> int:
    from inferometer.app.report import Question, answer  # noqa: PLC0415  the other commands start faster without it

    by = [name for name in options.by.split(",") if name]
    if unknown := [name for name in by if name not in _BY]:
        raise ConfigError([f"--by: {unknown[0]!r} is none of {', '.join(_BY)}"])
    question = Question(
        folder=_folder(options),
        since=options.since,
        until=options.until,
        by=by,
        timezone=options.timezone,
        form=options.format,
        provider=options.provider,
        against=options.against,
        like=options.like,
    )
    answer(question, time.time(), sys.stdout)
    return 0


def _what_if(options: argparse.Namespace) -> int:
    from inferometer.app import what_if  # noqa: PLC0415  likewise

    flags = given(options)
    if options.config_file is None and "engine.url" not in flags:
        flags["engine.url"] = what_if.recorded_engines(options.folder)

    def load(changed: what_if.Flags) -> Config:
        return loader_of(options.config_file, {**flags, **changed})()

    changes = [what_if.Change("as it is", {}), *map(what_if.change, options.changes)]
    currency, found = asyncio.run(what_if.outcomes(options.folder, changes, load, os.environ))
    what_if.write(currency, found, options.format, sys.stdout)
    return 0


def _folder(options: argparse.Namespace) -> Path:
    """The ledger's directory: the flag's, the variable's or the file's."""
    path = loader_of(options.config_file, given(options))().storage.path
    if path is None:
        raise ConfigError(["no ledger: give --storage.path DIR, or --config.file of an agent that has one"])
    return Path(path)
