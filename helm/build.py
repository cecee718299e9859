"""Everything under helm/ that follows from something else: ``python helm/build.py [--check]``.

Copies (the sidecar's template, dashboards, rules), the READMEs out of the comments in values.yaml, the schema of the
sidecar's values, and, where Helm's library is installed, the kustomize component out of the sidecar's template.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART, LIBRARY, KUSTOMIZE = HERE / "inferometer", HERE / "inferometer-sidecar", HERE / "kustomize"
DASHBOARDS = HERE.parent / "dashboards"
KINDS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1"}

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):")
_CONSUMER = """
initContainers:
  {{- include "inferometer.sidecar.container" .Values | nindent 2 }}
volumes:
  {{- include "inferometer.sidecar.volume" .Values | nindent 2 }}
"""


def copies() -> dict[Path, str]:
    """By the path of each copy what it should hold."""
    made = {CHART / "templates/_sidecar.tpl": (LIBRARY / "templates/_sidecar.tpl").read_text()}
    made |= {CHART / "files/dashboards" / path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    made |= {CHART / "files/rules" / path.name: path.read_text() for path in (DASHBOARDS / "rules").glob("*.yaml")}
    return made


def readmes() -> dict[Path, str]:
    """Likewise, of the pages that list the values."""
    return {chart / "README.md": _readme(chart) for chart in (CHART, LIBRARY)}


def rows(chart: Path) -> Iterator[tuple[str, str, Any]]:
    """Every value that has a comment: its path, the comment, its default."""
    text = (chart / "values.yaml").read_text()
    values, path, comment = yaml.safe_load(text), [""] * 9, ""
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip().removeprefix("# -- ")
        elif (found := _KEY.match(line)) is not None:
            depth = len(found["indent"]) // 2
            path[depth:] = [found["key"], *[""] * (8 - depth)]
            if comment:
                yield ".".join(path[: depth + 1]), comment, _at(values, path[: depth + 1])
            comment = ""


def schema() -> dict[str, Any]:
    """The chart's schema with that of the sidecar's values in its place, which the library chart has too."""
    whole = json.loads((CHART / "values.schema.json").read_text())
    whole["properties"]["injector"]["properties"]["sidecar"] = sidecar_schema()
    return whole


def sidecar_schema() -> dict[str, Any]:
    """The part of the library chart's schema that describes a sidecar."""
    whole = json.loads((LIBRARY / "values.schema.json").read_text())
    del whole["$schema"]
    whole["properties"].pop("global", None)
    return whole


def source_digest() -> str:
    """Of all that the kustomize component is made of."""
    parts = (LIBRARY / "templates/_sidecar.tpl", LIBRARY / "values.yaml")
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def component() -> dict[Path, str]:
    """The patches of the kustomize component, rendered by Helm's library."""
    from helm_python.chart import Chart  # noqa: PLC0415 - only who changes the sidecar needs it

    patches = {}
    with _consumer() as folder, Chart.load(folder) as chart:
        (text,) = (text for name, text in chart.render().items() if name.endswith("spec.yaml"))
        for kind, version in KINDS.items():
            patch = {"apiVersion": version, "kind": kind, "metadata": {"name": "any"}}
            patch["spec"] = {"template": {"spec": yaml.safe_load(text)}}
            head = f"# Made by helm/build.py out of the library chart inferometer-sidecar, sha256 {source_digest()}.\n"
            patches[KUSTOMIZE / f"{kind.lower()}.yaml"] = head + yaml.safe_dump(patch, sort_keys=False)
    return patches


@contextlib.contextmanager
def _consumer() -> Iterator[str]:
    """A folder with a chart that uses the library's template and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "templates").mkdir()
        (root / "Chart.yaml").write_text("{apiVersion: v2, name: consumer, version: 0.0.0}\n")
        (root / "values.yaml").write_text((LIBRARY / "values.yaml").read_text())
        (root / "templates/_sidecar.tpl").write_text((LIBRARY / "templates/_sidecar.tpl").read_text())
        (root / "templates/spec.yaml").write_text(_CONSUMER)
        yield folder


def _readme(chart: Path) -> str:
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    intro = (chart / "README.head.md").read_text()
    table = "".join(f"| `{path}` | {text} | `{json.dumps(value)}` |\n" for path, text, value in rows(chart))
    head = f"# {about['name']}\n\n<!-- Made by helm/build.py out of README.head.md and values.yaml. -->\n\n"
    return f"{head}{about['description']}\n\n{intro}\n## Values\n\n| key | means | default |\n|---|---|---|\n{table}"


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def everything() -> dict[Path, str]:
    """All that can be made here, by path."""
    made = copies() | readmes()
    made[CHART / "values.schema.json"] = json.dumps(schema(), indent=2) + "\n"
    try:
        made |= component()
    except ImportError:
        sys.stderr.write("helm-python-sdk is not installed: helm/kustomize stays as it is\n")
    return made


def main(arguments: list[str]) -> int:
    """Write what differs; with --check only say so."""
    stale = [path for path, text in everything().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        sys.stderr.write(f"{path.relative_to(HERE)} is stale\n")
    if "--check" in arguments:
        return 1 if stale else 0
    for path, text in everything().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
