"""Commands: each calls one composition root and returns an exit code, as ``EXIT_CODES`` says."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from inferometer import __version__, config, log
from inferometer.cli import completion, money
from inferometer.cli.loading import lightly
from inferometer.cli.options import EXIT_CODES, Commands, add, given, loader, loader_of, seconds, teach
from inferometer.config import Config
from inferometer.errors import ConfigError, InferometerError

_EPILOG = """\
first steps:
  inferometer demo                                                    see everything, without GPU or server
  inferometer run --engine.url http://localhost:8000/metrics --price.gpu-hour 2.50 --gpus 1
  inferometer explain http://localhost:8000/metrics                   what the agent sees on that page

then:
  inferometer report --storage.path DIR        what was spent, by day, workload and model, and the month's forecast
  inferometer what-if RECORDING --gpus 1 --price.gpu-hour 2.50 --with price.gpu-hour=1.10
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(argv)
    log.setup(options.log_level or "info", options.log_format or "logfmt")
    try:
        code: int = options.command(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except InferometerError as error:
        print(f"inferometer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


# -- commands -------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    asyncio.run(_agent(loader(options), lambda _: None))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from inferometer.sim.traffic import Shape  # noqa: PLC0415  only the demo needs the simulated world
    from inferometer.sim.world import World  # noqa: PLC0415  likewise

    shape = Shape(requests_per_second=options.load, day_seconds=600.0)
    with World(engines=options.engines, gpus=options.engines, shape=shape) as world:
        flags = {
            "engine.url": list(world.urls),
            "workload": "demo",
            "price.gpu-hour": "2.50",
            "slo.ttft": "500ms",
            "slo.tpot": "50ms",
            "slo.e2e": "10s",
            "interval": "1s",
            **given(options),
        }
        load = loader_of(options.config_file, flags)

        def started(url: str) -> None:
            print(f"live page  {url}/\nmetrics    {url}/metrics\nas JSON    {url}/api/v1/snapshot")
            print("engines    " + "  ".join(world.urls) + "\nStop with Ctrl-C.", flush=True)

        asyncio.run(_agent(load, started, world.nvml))
    return 0


async def _agent(
    load: Callable[[], Config], started: Callable[[str], None], nvml_library: object | None = None
) -> None:
    with lightly():
        from inferometer.app.agent import Agent  # noqa: PLC0415  the other commands start faster without it
        from inferometer.app.files import raise_open_files  # noqa: PLC0415  likewise

    raise_open_files()
    agent = Agent(load, os.environ, nvml_library)
    stop, loop = _stopped(), asyncio.get_running_loop()
    reloads: set[asyncio.Task[tuple[bool, str]]] = set()

    def hang_up() -> None:
        task = loop.create_task(agent.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    await agent.run(stop, started)


def _stopped() -> asyncio.Event:
    """Set by SIGTERM or Ctrl-C, also where a shell started us in the background with SIGINT ignored."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _check(options: argparse.Namespace) -> int:
    from inferometer.app.engines import candidates  # noqa: PLC0415  likewise
    from inferometer.app.pages import web_config  # noqa: PLC0415  likewise

    settings, references = config.load_to_show(options.file, os.environ)
    web_config(settings)  # raises where the web configuration file is wrong
    candidates(settings)  # raises where an adapter is wrong
    print(config.dump(settings, references), end="")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from inferometer.app.explain import explain  # noqa: PLC0415  likewise

    thresholds = config.load(None, {"engine.url": "http://none/metrics", **given(options)}, {}).workloads[0].slo
    explanation = asyncio.run(explain(options.where, thresholds.thresholds, options.adapter))
    print(explanation.text)
    return 0 if explanation.recognised else 1


def _record(options: argparse.Namespace) -> int:
    from inferometer.app.record import Pace, machine, record  # noqa: PLC0415  likewise

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    async def until_stopped() -> int:
        return await record(options.urls, options.out, pace, _stopped(), progress, nvml=nvml)

    pace = Pace(seconds(options.seconds, "--for"), seconds(options.every, "--every"))
    nvml = machine() if options.gpus else None
    failed = asyncio.run(until_stopped())
    print(f"{options.out}: recorded, {failed} readings failed; see it with: inferometer replay {options.out} --gpus 1")
    return 1 if failed else 0


def _replay(options: argparse.Namespace) -> int:
    from inferometer.app import replay  # noqa: PLC0415  likewise
    from inferometer.app.output import Output  # noqa: PLC0415  likewise

    flags = given(options)
    if options.config_file is None and "engine.url" not in flags:
        flags["engine.url"] = [f"recording:{name}" for name in replay.sources(options.folder)]
    settings = loader_of(options.config_file, flags)()
    output = Output(options.format, sys.stdout)
    snapshot = asyncio.run(replay.replay(options.folder, settings, os.environ, output.each))
    output.last(snapshot)
    return 0


def _rules(options: argparse.Namespace) -> int:
    from inferometer.app.rules import document  # noqa: PLC0415  likewise
    from inferometer.app.rules.shape import RUNBOOKS  # noqa: PLC0415  likewise

    if not options.time_scale >= 1:
        raise ConfigError([f"--time-scale: {options.time_scale:g} would make windows longer; write 1 or more"])
    groups = document.own(loader(options)()) if options.config_file or given(options) else document.defaults()
    print(document.text(groups, options.time_scale, options.runbook_url.rstrip("/") or RUNBOOKS), end="")
    return 0


def _top(options: argparse.Namespace) -> int:
    from inferometer.app.top import top  # noqa: PLC0415  likewise

    return top(options.url, options.http_config_file)


def _calibrate(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime  # noqa: PLC0415  likewise

    from inferometer.app.calibrate import calibrate  # noqa: PLC0415  likewise
    from inferometer.app.calibration import Calibration, Trial  # noqa: PLC0415  likewise

    if options.concurrency < 1:
        raise ConfigError([f"--concurrency: {options.concurrency} is no number of requests; write 1 or more"])
    trial = Trial(
        url=options.url,
        api=options.api,
        model=options.model,
        bearer_token_file=options.bearer_token_file,
        concurrency=options.concurrency,
        seconds=seconds(options.seconds, "--for"),
        force=options.force,
    )

    async def until_stopped() -> Calibration | None:
        stop = asyncio.create_task(_stopped().wait())
        work = asyncio.create_task(calibrate(trial, _progress()))
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        await asyncio.wait({work})
        return None if work.cancelled() else work.result()

    try:
        calibration = asyncio.run(until_stopped())
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if calibration is None:
        return 130
    print(calibration.text(datetime.now(UTC).date()))
    return 0


def _progress() -> Callable[[str, str], None]:
    """One line that changes on a terminal; elsewhere a line for each phase."""
    last = ""

    def show(phase: str, how_far: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            print(f"\r\x1b[K{phase} {how_far}", end="", file=sys.stderr, flush=True)
        elif phase != last:
            print(phase, file=sys.stderr, flush=True)
        last = phase

    return show


def _completion(options: argparse.Namespace) -> int:
    print(completion.script(options.shell, parser()), end="")
    return 0


# -- parsing --------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The whole command line; what completion and the tests of the documentation read."""
    root = argparse.ArgumentParser(
        prog="inferometer",
        description="What LLM inference costs while it runs: cost per token, goodput and energy for Prometheus.",
        epilog=f"{_EPILOG}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"inferometer {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND [FLAGS]", required=True)
    _add_live(commands)
    _add_recordings(commands)
    money.add_what_if(commands)
    money.add_report(commands)
    shells = add(commands, "completion", _completion, "a script that completes commands and flags in your shell")
    shells.add_argument("shell", choices=tuple(completion.SHELLS))
    teach(
        shells,
        "source <(inferometer completion bash)       in ~/.bashrc; zsh likewise, after compinit",
        "inferometer completion fish | source        in ~/.config/fish/config.fish",
    )
    return root


def _add_live(commands: Commands) -> None:
    """What needs a server, or pretends to be one."""
    run = add(commands, "run", _run, "the agent: measure running engines and serve /metrics", flags=True)
    teach(
        run,
        "inferometer run --engine.url http://localhost:8000/metrics --price.gpu-hour 2.50 --gpus 1",
        "inferometer run --config.file inferometer.yaml --storage.path /var/lib/inferometer",
    )
    demo = add(commands, "demo", _demo, "the whole thing on one machine, with simulated GPUs and engines", flags=True)
    demo.add_argument("--engines", type=int, default=2, help="simulated engines, one GPU each (default: 2)")
    demo.add_argument("--load", type=float, default=2.0, help="requests per second and engine (default: 2)")
    teach(demo, "inferometer demo --load 5", "inferometer demo --engines 4 --web.listen-address :8080")
    check = add(commands, "check", _check, "validate a configuration and print it with all defaults")
    check.add_argument("file", help="the configuration file")
    teach(check, "inferometer check inferometer.yaml")
    explain = add(commands, "explain", _explain, "what a metrics page tells the agent", flags=True)
    explain.add_argument("where", metavar="URL|FILE")
    explain.add_argument("--adapter", type=Path, metavar="FILE", help="your own adapter instead of those that ship")
    teach(explain, "inferometer explain http://localhost:8000/metrics --slo.ttft 500ms --slo.tpot 50ms")
    top = add(commands, "top", _top, "a running agent's numbers in the terminal: q quits, arrows sort, w window")
    top.add_argument("url", nargs="?", default="localhost:10110", metavar="URL", help="default: localhost:10110")
    top.add_argument(
        "--http.config.file", dest="http_config_file", metavar="FILE", help="password, token or certificate to show"
    )
    teach(
        top,
        "inferometer top http://localhost:10110",
        "inferometer top https://gpu-7:10110 --http.config.file client.yml",
    )
    calibrate = add(commands, "calibrate", _calibrate, "measure how fast a server computes prompts and answers")
    calibrate.add_argument("url", metavar="URL", help="the server, or its metrics page")
    calibrate.add_argument("--api", default="", metavar="URL", help="the server's API (default: beside the page)")
    calibrate.add_argument("--model", default="", metavar="NAME", help="which model (default: the server's only one)")
    calibrate.add_argument("--bearer-token-file", default="", metavar="FILE", help="the key for page and API")
    calibrate.add_argument("--concurrency", type=int, default=16, metavar="N", help="answers at a time (default: 16)")
    calibrate.add_argument("--for", dest="seconds", default="40s", metavar="DURATION", help="how long (default: 40s)")
    calibrate.add_argument("--force", action="store_true", help="even while the server has other traffic")
    teach(calibrate, "inferometer calibrate http://localhost:8000 --concurrency 32")
    rules = add(commands, "rules", _rules, "Prometheus rules and alerts, for your own SLOs and budgets", flags=True)
    rules.add_argument("--time-scale", type=float, default=1.0, metavar="N", help="divide every window and wait")
    rules.add_argument("--runbook-url", default="", metavar="URL", help="where your runbooks are")
    teach(
        rules,
        "inferometer rules --config.file inferometer.yaml",
        "inferometer rules --slo.ttft 500ms --slo.objective 0.99",
    )


def _add_recordings(commands: Commands) -> None:
    """What makes recordings and reads them."""
    record = add(commands, "record", _record, "write the pages of engines, and GPUs, into a recording")
    record.add_argument("urls", nargs="+", metavar="URL")
    record.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    record.add_argument("--for", dest="seconds", default="60s", metavar="DURATION", help="how long (default: 60s)")
    record.add_argument("--every", default="1s", metavar="DURATION", help="how often (default: 1s)")
    record.add_argument("--gpus", action="store_true", help="this machine's GPUs too, as their driver shows them")
    teach(record, "inferometer record http://localhost:8000/metrics --out recording --for 10m")
    replay = add(commands, "replay", _replay, "a recording through the same pipeline", flags=True)
    replay.add_argument("folder", type=Path, metavar="DIR")
    formats = ("text", "json", "metrics", "openmetrics")
    replay.add_argument("--format", choices=formats, default="text", help="of the final snapshot (default: text)")
    teach(
        replay,
        "inferometer replay recording --gpus 1 --price.gpu-hour 2.50 --slo.ttft 500ms",
        "inferometer replay recording --gpus 1 --price.gpu-hour 2.50 --format json",
    )
