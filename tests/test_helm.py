"""What can be said of the charts without Helm: nothing is stale, nothing is open, every value says what it means."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from inferometer import config

HELM = Path(__file__).parents[1] / "helm"
SPEC = importlib.util.spec_from_file_location("helm_build", HELM / "build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)
CHARTS = (build.CHART, build.LIBRARY)


def values_of(chart):
    return yaml.safe_load((chart / "values.yaml").read_text())


def schema_of(chart):
    return json.loads((chart / "values.schema.json").read_text())


def merged(values, over):
    """As Helm lays a file of values over the chart's."""
    if not (isinstance(values, dict) and isinstance(over, dict)):
        return over
    return values | {key: merged(values.get(key), value) for key, value in over.items()}


def objects(schema):
    """Every schema of a mapping with keys of its own, with the keys that lead there."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


@pytest.mark.parametrize("path", [*build.copies(), *build.readmes()], ids=lambda path: str(path.relative_to(HELM)))
def test_what_follows_from_other_files_is_not_stale(path):
    """Copies of the sidecar's template, of dashboards and rules, and the lists of values: make charts."""
    made = build.copies() | build.readmes()
    assert path.read_text() == made[path]


def test_the_sidecar_has_the_same_values_everywhere():
    library = values_of(build.LIBRARY)
    assert values_of(build.CHART)["injector"]["sidecar"] == library
    assert schema_of(build.CHART) == build.schema()


def test_the_kustomize_component_is_made_of_the_template_as_it_is():
    for kind in build.KINDS:
        first = (build.KUSTOMIZE / f"{kind.lower()}.yaml").read_text().splitlines()[0]
        assert build.source_digest() in first, "make charts"


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_says_what_it_means(chart):
    """And is in the schema, which knows no others."""
    told = {path for path, _, _ in build.rows(chart)}

    def named(values, path=""):
        for key, value in values.items():
            here = f"{path}.{key}".lstrip(".")
            assert here in told or (isinstance(value, dict) and any(t.startswith(f"{here}.") for t in told)), here
            if here not in told:
                named(value, here)

    named(values_of(chart))
    for schema in objects(schema_of(chart)):
        assert schema["additionalProperties"] is False, sorted(schema["properties"])


@pytest.mark.parametrize("file", [None, *sorted((build.CHART / "ci").glob("*-values.yaml"))], ids=str)
def test_shipped_values_fit_the_schema(file):
    over = yaml.safe_load(file.read_text()) if file else {}
    jsonschema.validate(merged(values_of(build.CHART), over), schema_of(build.CHART))
    jsonschema.validate(values_of(build.LIBRARY), schema_of(build.LIBRARY))


@pytest.mark.parametrize("kind", build.KINDS)
def test_the_agent_takes_the_flags_of_the_sidecar(kind):
    patch = yaml.safe_load((build.KUSTOMIZE / f"{kind.lower()}.yaml").read_text())
    (container,) = patch["spec"]["template"]["spec"]["initContainers"]
    command, *flags = container["args"]
    told = {"$(POD_NAMESPACE)": "llm", "$(WORKLOAD)": "chat", "$(NODE_IP)": "10.0.0.1"}
    given = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        for variable, filled in told.items():
            value = value.replace(variable, filled)
        given[name] = value
    settings = config.load(None, given, {})
    assert command == "run"
    assert [workload.name for workload in settings.workloads] == ["llm/chat"]
    assert (settings.gpu.sources, settings.gpu.dcgm_url) == (("dcgm",), "http://10.0.0.1:9400/metrics")


def server(kind, labels):
    """Somebody's server with a container and a volume of its own."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": f"{kind.lower()}-{len(labels)}", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {
                    "initContainers": [{"name": "fetch", "image": "fetch"}],
                    "containers": [{"name": "vllm", "image": "vllm"}],
                    "volumes": [{"name": "model", "emptyDir": {}}],
                },
            },
        },
    }


def test_kustomize_puts_the_sidecar_where_it_is_asked_for(tmp_path):
    """Into Deployments and StatefulSets with the label; all else stays as it was."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is missing")
    asking = {"inferometer.dev/inject": "true"}
    given = [server(kind, labels) for kind in build.KINDS for labels in (asking, {})]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(given))
    shutil.copytree(build.KUSTOMIZE, tmp_path / "component")
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\ncomponents: [component]\n")
    said = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    found = {one["metadata"]["name"]: one for one in yaml.safe_load_all(said)}
    for one in given:
        name, asks = one["metadata"]["name"], one["metadata"]["labels"]
        spec = found[name]["spec"]["template"]["spec"]
        assert spec["containers"] == one["spec"]["template"]["spec"]["containers"]
        if asks:
            assert [c["name"] for c in spec["initContainers"]] == ["inferometer", "fetch"]
            assert [v["name"] for v in spec["volumes"]] == ["inferometer-ledger", "model"]
        else:
            assert found[name] == one
