"""Standalone simulated engines: ``python -m inferometer.sim --engines 1 --port 9000``; SIGTERM ends them."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from inferometer.sim.engine import Machine
from inferometer.sim.traffic import Shape
from inferometer.sim.world import World


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; prints one metrics URL a line when all answer."""
    flags = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ports = tuple(flags.port + i if flags.port else 0 for i in range(flags.engines))
    shape = Shape(
        requests_per_second=flags.load,
        day_seconds=flags.day_seconds,
        cached_ratio=flags.cached,
        disconnect_ratio=flags.disconnect,
    )
    machine = Machine(model=flags.model, max_num_queued=flags.max_num_queued)
    with World(ports, 0, flags.seed, shape, machine) as world:
        sys.stdout.write("".join(f"{url}\n" for url in world.urls))
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="inferometer.sim", description=__doc__)
    parser.add_argument("--engines", type=int, default=1, help="how many")
    parser.add_argument("--port", type=int, default=0, help="of the first; the others follow; 0: free ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", type=float, default=2.0, help="requests a second for each engine, mean of a day")
    parser.add_argument("--day-seconds", type=float, default=600.0, help="how long a day of the traffic lasts")
    parser.add_argument("--cached", type=float, default=0.3, help="mean share of a prompt found in the prefix cache")
    parser.add_argument("--disconnect", type=float, default=0.02, help="share of clients that may not wait")
    parser.add_argument("--max-num-queued", type=int, default=None, help="waiting requests before rejections")
    parser.add_argument("--model", default="small", help="the served model name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
