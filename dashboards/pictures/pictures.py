"""Pictures of the dashboards: ``python dashboards/pictures/pictures.py --prometheus URL --out docs/images``.

Asks a Prometheus that scrapes real agents every panel's queries, and lets Grafana's own components draw the answers in a
headless Chromium. Needs ``npm install`` in this folder, Chromium and Pillow; ``make pictures`` sees to it. The committed JSON is
what is drawn; only tables, heatmaps and the scatter are drawn by page.jsx.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).parent
WIDTH, CELL, HEAD = 1600, 38, 72
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="page"></div>
<script src="data.js"></script><script src="page.js"></script>
"""


def main() -> int:
    """Draw every dashboard, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="dashboards (default: all)")
    parser.add_argument("--prometheus", required=True, help="URL of a Prometheus with the recorded rules")
    parser.add_argument("--minutes", type=float, default=15.0, help="time shown")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modules", type=Path, default=FOLDER, help="folder that has node_modules")
    options = parser.parse_args()
    names = options.names or sorted(path.stem for path in FOLDER.parent.glob("*.json"))
    with tempfile.TemporaryDirectory() as work:
        bundle(options.modules, Path(work))
        for name in names:
            board = json.loads((FOLDER.parent / f"{name}.json").read_text(encoding="utf-8"))
            draw(board, asked(board, options.prometheus, options.minutes), Path(work), options.out / f"{name}.png")
    return 0


def bundle(modules: Path, work: Path) -> None:
    """page.jsx and Grafana's components as one script."""
    shutil.copy(FOLDER / "page.jsx", work)
    (work / "node_modules").symlink_to((modules / "node_modules").resolve())
    settings = [
        "--bundle",
        *[f"--loader:{kind}=dataurl" for kind in (".svg", ".ttf", ".woff2", ".png")],
        "--define:process.env.NODE_ENV='production'",
        "--log-level=error",
    ]
    run(modules / "node_modules/.bin/esbuild", work / "page.jsx", *settings, f"--outfile={work / 'page.js'}")
    (work / "page.html").write_text(PAGE, encoding="utf-8")


def asked(board: dict[str, Any], url: str, minutes: float) -> dict[str, Any]:
    """All answers: a range and an instant for each query."""
    end = int(time.time()) // 5 * 5
    span = {"from": end - int(60 * minutes), "to": end, "step": 5}
    answers = {}
    for panel in board["panels"]:
        answers[panel["id"]] = [answer(url, target, span) for target in panel["targets"]]
    return {"dashboard": board, "results": answers, "range": span, "width": WIDTH}


def answer(url: str, target: dict[str, Any], span: dict[str, int]) -> dict[str, Any]:
    """One query with everything chosen."""
    expr = target["expr"].replace("$__rate_interval", "30s").replace("$__from", str(1000 * span["from"]))
    expr = re.sub(r"\$(cluster|namespace|workload|model)", ".*", expr)
    window = {"start": span["from"], "end": span["to"], "step": span["step"]}
    rows = {"series": get(url, "query_range", query=expr, **window)}
    return rows | {"instant": get(url, "query", query=expr, time=span["to"]) if target.get("instant") else []}


def get(url: str, path: str, **query: object) -> list[Any]:
    """The rows of one API call."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=60) as reply:  # noqa: S310
        rows: list[Any] = json.load(reply)["data"]["result"]
        return rows


def draw(board: dict[str, Any], picture: dict[str, Any], work: Path, out: Path) -> None:
    """One PNG, as high as the dashboard."""
    (work / "data.js").write_text(f"window.PICTURE = {json.dumps(picture)}", encoding="utf-8")
    high = HEAD + CELL * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    out.parent.mkdir(parents=True, exist_ok=True)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    size = [f"--window-size={WIDTH},{high}", "--virtual-time-budget=15000", f"--screenshot={out.resolve()}"]
    run("chromium", *flags, *size, f"--user-data-dir={work / 'profile'}", f"file://{work / 'page.html'}")
    picture_of = Image.open(out).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture_of.save(out, optimize=True)
    sys.stdout.write(f"{out}: {out.stat().st_size / 1000:.0f} kB\n")


def run(*command: object) -> None:
    """A program to its end; SystemExit with what it said where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
