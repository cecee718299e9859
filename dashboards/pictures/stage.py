"""``python dashboards/pictures/stage.py --out docs/images``: two demos and a Prometheus for ten minutes, then pictures."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
RULES = FOLDER.parents[0] / "rules"
MINUTES = 6.0  # to fill the window of five minutes before anything is drawn
DEMOS = (
    ("--workload", "chat", "--engines", "3", "--load", "2.2"),
    ("--workload", "batch", "--engines", "2", "--load", "0.5", "--slo.ttft", "2s", "--slo.e2e", "30s"),
)
SETTINGS = """\
global: {{scrape_interval: 5s, evaluation_interval: 15s}}
rule_files: ["{rules}/*.yaml"]
scrape_configs:
  - job_name: inferometer
    static_configs: [{{targets: {targets}, labels: {{cluster: eu-1, namespace: llm}}}}]
"""


def main() -> int:
    """Everything on loopback; every child is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="time shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as children:
        targets = []
        for flags in DEMOS:
            targets.append(f"127.0.0.1:{free_port()}")
            demo = (sys.executable, "-m", "inferometer", "demo", *flags, "--web.listen-address", targets[-1])
            children.enter_context(running(demo))
        (Path(work) / "prometheus.yaml").write_text(SETTINGS.format(rules=RULES.resolve(), targets=targets))
        address = f"127.0.0.1:{free_port()}"
        children.enter_context(running(prometheus(Path(work), address)))
        sys.stdout.write(f"measuring for {MINUTES + options.minutes:g} minutes\n")
        time.sleep(60 * (MINUTES + options.minutes))
        draw = (sys.executable, str(FOLDER / "pictures.py"), "--prometheus", f"http://{address}")
        shown = ("--minutes", str(options.minutes), "--out", str(options.out))
        return subprocess.run((*draw, *shown), check=False).returncode  # noqa: S603


def prometheus(work: Path, address: str) -> tuple[str, ...]:
    """The command line of the server."""
    files = (f"--config.file={work / 'prometheus.yaml'}", f"--storage.tsdb.path={work / 'data'}")
    return (shutil.which("prometheus") or "prometheus", *files, f"--web.listen-address={address}", "--log.level=warn")


@contextlib.contextmanager
def running(command: tuple[str, ...]) -> Iterator[None]:
    """A child for as long as the block."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
    finally:
        child.terminate()
        child.wait(30)


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
