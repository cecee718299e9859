"""The charts as Helm renders them: valid on every Kubernetes they claim, closed against typing errors, hardened."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import build
import jsonschema
import kubernetes_validate
import pytest
import yaml
from conftest import CI, HELM
from helm_python.chart import Chart, lint
from inferometer import config

CRDS = {crd["kind"]: crd["schema"] for crd in (json.loads(path.read_text()) for path in HELM.glob("tests/crds/*.json"))}
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
NEWER = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}  # 1.36, and off by default


def closed(schema):
    """As an API server prunes: a key that the schema does not know is a mistake."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in made and "additionalProperties" not in made:
        made["additionalProperties"] = False
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace("^(?i)", "(?i)^")  # Go's way to write it
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    return made


def one(objects, kind, name=""):
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(name)]
    return found


def pods(objects):
    """The spec of every pod and pod template."""
    for found in objects:
        if found["kind"] == "Pod":
            yield found["spec"]
        elif found["kind"] in {"DaemonSet", "Deployment"}:
            yield found["spec"]["template"]["spec"]


# -- valid


def test_helm_finds_nothing_to_complain_about():
    for chart in (build.CHART, build.LIBRARY):
        found = lint(chart, strict=True)
        assert not [m for m in found.get("messages", []) if "ERROR" in str(m) or "WARNING" in str(m)], found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(installed, version):
    for found in installed:
        kind = found["kind"]
        if kind in CRDS:
            schema = closed(CRDS[kind])
            schema["properties"]["metadata"] = {"type": "object"}
            jsonschema.validate(found, schema)
        elif kind not in NEWER or version not in {"1.29", "1.33"}:
            kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("PodMonitor", lambda o: o["spec"]["podMetricsEndpoints"][0].update(portt="http")),
        ("PodMonitor", lambda o: o["spec"]["podMetricsEndpoints"][0].update(interval=15)),
        ("PrometheusRule", lambda o: o["spec"]["groups"][0]["rules"][0].update(expression="1")),
    ],
)
def test_the_check_of_operator_objects_sees_a_typing_error(render, kind, spoil):
    objects, _ = render(yaml.safe_load((build.CHART / "ci/daemonset-values.yaml").read_text()))
    found = next(o for o in objects if o["kind"] == kind)
    spoil(found)
    schema = closed(CRDS[kind])
    schema["properties"]["metadata"] = {"type": "object"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema)


def test_names_are_unique(installed):
    names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in installed]
    assert len(names) == len(set(names))


def test_no_configmap_is_too_large(installed):
    """No more than etcd takes: 1 MiB."""
    assert all(len(json.dumps(o)) < 900_000 for o in installed if o["kind"] == "ConfigMap")


def test_the_agent_takes_every_configuration(installed, tmp_path):
    """As its own ``check`` reads it."""
    file = tmp_path / "inferometer.yaml"
    for found in installed:
        if found["kind"] == "ConfigMap" and "inferometer.yaml" in found.get("data", ()):
            file.write_text(found["data"]["inferometer.yaml"])
            settings = config.load(str(file), {}, {"NODE_NAME": "n1", "NODE_IP": "10.0.0.1"})
            assert settings.web.listen_address == ":10110"


# -- hardened


def test_pods_are_restricted(installed):
    """Pod Security Standard `restricted`, but for what asking the kubelet needs: root and two folders of the node."""
    for spec in pods(installed):
        (container,) = spec["containers"]
        security = container["securityContext"]
        asks_kubelet = any("pod-resources" in volume["name"] for volume in spec.get("volumes", []))
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"]["runAsNonRoot"] is not asks_kubelet
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not any("nvidia.com" in key for key in container["resources"]["limits"])
        assert "memory" in container["resources"]["limits"]


def test_a_token_is_there_only_where_pods_are_looked_for(render):
    for enabled in (True, False):
        objects, _ = render({"discovery": {"enabled": enabled}})
        assert one(objects, "DaemonSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is enabled
        assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
        assert any(o["kind"] == "ClusterRole" for o in objects) is enabled


def test_the_role_may_list_and_watch_pods_and_nothing_else(installed):
    for found in installed:
        if found["kind"] in {"Role", "ClusterRole"}:
            assert found["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]


def test_roles_go_where_pods_are_looked_for(render):
    objects, _ = render({"discovery": {"namespaces": ["x", "y"]}})
    assert not [o for o in objects if o["kind"].startswith("Cluster")]
    assert [o["metadata"]["namespace"] for o in objects if o["kind"] == "Role"] == ["x", "y"]


SKIPPED = {
    "CKV_K8S_11": ("", "no CPU limit: a throttled agent reads late"),
    "CKV_K8S_15": ("", "tags are immutable: to pull Always would need the registry at each start"),
    "CKV_K8S_43": ("", "image.digest is there; a chart cannot know the digest of its own release"),
    "CKV_K8S_38": ("DaemonSet.", "the token is there because discovery is on"),
    "CKV_K8S_23": ("DaemonSet.", "gpus.podResources: the kubelet answers root alone"),
    "CKV_K8S_40": ("DaemonSet.", "gpus.podResources: the kubelet answers root alone"),
    "CKV_K8S_8": ("Pod.", "the pod of helm test lives for a second"),
    "CKV_K8S_9": ("Pod.", "the pod of helm test lives for a second"),
    "CKV2_K8S_6": ("Pod.", "the pod of helm test is no part of the running system"),
}
"""By check, what it may fail on and why that is meant."""
ROOT = {"CKV_K8S_23", "CKV_K8S_40"}


@pytest.mark.parametrize("file", CI, ids=lambda path: path.stem.removesuffix("-values"))
def test_checkov_finds_nothing_that_is_not_meant(render, file, tmp_path):
    objects, _ = render(yaml.safe_load(file.read_text()))
    rendered = tmp_path / "all.yaml"
    rendered.write_text(yaml.safe_dump_all(o for o in objects if o["kind"] not in CRDS))
    passed, failed = checkov("kubernetes", rendered)
    assert passed > 100
    if "nvml" not in file.name:
        assert not ROOT & {check for check, _ in failed}
    assert [(c, where) for c, where in failed if c not in SKIPPED or not where.startswith(SKIPPED[c][0])] == []


def test_checkov_finds_nothing_in_the_dockerfile_that_is_not_meant():
    """Bases are arguments, which it takes for tags; whether the agent is well, Kubernetes asks by probes."""
    passed, failed = checkov("dockerfile", HELM.parent / "Dockerfile")
    assert passed > 50
    assert {check for check, _ in failed} <= {"CKV_DOCKER_7", "CKV_DOCKER_2"}


def checkov(framework, file):
    """How many checks passed, and each that failed with its resource."""
    command = os.environ.get("CHECKOV") or shutil.which("checkov")
    if not command:
        assert not os.environ.get("CI"), "checkov is missing: make check-charts installs it"
        pytest.skip("checkov is missing: make check-charts installs it")
    flags = ["--framework", framework, "--skip-download", "--compact", "--quiet", "-o", "json"]
    said = subprocess.run([command, "-f", file, *flags], capture_output=True, text=True, check=False).stdout
    report = json.loads(said)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    return report["summary"]["passed"], failed


# -- three ways to a sidecar, one container


def literal(text):
    """The value that a CEL expression of objects, lists, texts and numbers makes."""
    text = re.sub(r"Object[\w.]*\{", "{", text)
    text = re.sub(r"([{,] ?)([A-Za-z]\w*): ", r'\1"\2": ', text)
    return json.loads(text)


def test_three_ways_give_the_same_sidecar(render):
    """Library chart, kustomize component and admission policy."""
    for path, text in build.component().items():
        assert path.read_text() == text, f"{path.name} is stale: python helm/build.py"
        spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    library = yaml.safe_load(build.component()[build.KUSTOMIZE / "deployment.yaml"])["spec"]["template"]["spec"]
    assert spec == library
    objects, _ = render({"injector": {"enabled": True}})
    variables = {v["name"]: v["expression"] for v in one(objects, "MutatingAdmissionPolicy")["spec"]["variables"]}
    assert [literal(variables["container"])] == library["initContainers"]
    assert [literal(variables["volume"])] == library["volumes"]


def test_the_sidecar_is_a_native_one_and_asks_for_no_gpu():
    spec = yaml.safe_load((build.KUSTOMIZE / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = spec["initContainers"]
    assert container["restartPolicy"] == "Always"
    assert container["startupProbe"]["tcpSocket"] == {"port": "inferometer"}
    assert "readinessProbe" not in container, "our health is not the server's"
    assert "nvidia" not in json.dumps(container["resources"])
    assert "NODE_NAME" not in [variable["name"] for variable in container["env"]], "it looks after its own pod alone"


def test_nvml_in_a_sidecar_sees_the_driver_and_takes_no_gpu(render):
    objects, _ = render({"injector": {"enabled": True, "sidecar": {"gpus": {"source": "nvml", "held": "GPU-1"}}}})
    variables = {v["name"]: v["expression"] for v in one(objects, "MutatingAdmissionPolicy")["spec"]["variables"]}
    container = literal(variables["container"])
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in container["env"]
    assert "--gpus=GPU-1" in container["args"]
    assert not any("gpu.sources" in argument for argument in container["args"])


def test_kustomize_injects_into_a_chart_of_others(tmp_path):
    """As a post-renderer: a third party's chart, rendered by Helm, of which one Deployment asks for the sidecar."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is missing")
    Chart.create("server", tmp_path)
    with Chart.load(tmp_path / "server") as chart:
        texts = chart.render(name="demo", values={"serviceAccount": {"create": True}})
    objects = [o for name, text in texts.items() if name.endswith(".yaml") for o in yaml.safe_load_all(text) if o]
    one(objects, "Deployment")["metadata"]["labels"]["inferometer.dev/inject"] = "true"
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    shutil.copytree(build.KUSTOMIZE, tmp_path / "component")
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\ncomponents: [component]\n")
    said = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    after = list(yaml.safe_load_all(said))
    assert len(after) == len(objects)
    (sidecar,) = one(after, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["name"] == "inferometer"
    unchanged = [o for o in objects if o["kind"] != "Deployment"]
    assert all(o in after for o in unchanged)


# -- behind a web configuration file

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def container(objects, kind="DaemonSet"):
    (only,) = one(objects, kind)["spec"]["template"]["spec"]["containers"]
    return only


def test_without_a_web_configuration_all_is_plain(render):
    objects, notes = render({"podMonitor": {"enabled": True}})
    (endpoint,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert not {"scheme", "tlsConfig", "basicAuth"} & endpoint.keys()
    assert [container(objects)[probe]["httpGet"].get("scheme") for probe in PROBES] == [None] * 3
    assert "web" not in json.dumps(container(objects)["args"])
    assert "http://localhost:10110/" in notes


def test_a_web_configuration_reaches_agent_probes_and_monitor(render):
    """Passwords are not asked of probes; a certificate of the agent's is not verified by them."""
    login = {"username": {"name": "l", "key": "u"}, "password": {"name": "l", "key": "p"}}
    monitor = {"enabled": True, "sidecars": True, "tlsConfig": {"insecureSkipVerify": True}, "basicAuth": login}
    objects, notes = render({"webConfig": {"existingSecret": "web", "tls": True}, "podMonitor": monitor})
    agent, spec = container(objects), one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert "--web.config.file=/etc/inferometer-web/web-config.yml" in agent["args"]
    mount = {"name": "web-config", "mountPath": "/etc/inferometer-web", "readOnly": True}
    assert mount in agent["volumeMounts"]
    volume = {"name": "web-config", "secret": {"secretName": "web", "defaultMode": 0o440}}
    assert volume in spec["volumes"]
    assert [agent[probe]["httpGet"]["scheme"] for probe in PROBES] == ["HTTPS"] * 3
    (endpoint,) = one(objects, "PodMonitor", "demo-inferometer")["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["basicAuth"]) == ("https", login)
    assert endpoint["tlsConfig"] == {"insecureSkipVerify": True}
    (endpoint,) = one(objects, "PodMonitor", "sidecars")["spec"]["podMetricsEndpoints"]
    assert not {"scheme", "tlsConfig", "basicAuth"} & endpoint.keys(), "sidecars have no web configuration"
    assert "https://localhost:10110/" in notes
    assert container_of_test(objects)["command"][-2:] == ["https://demo-inferometer:10110/-/healthy", "ok"]


def container_of_test(objects):
    (only,) = one(objects, "Pod")["spec"]["containers"]
    return only


def test_passwords_alone_need_no_tls(render):
    objects, _ = render({"webConfig": {"existingSecret": "web"}, "serviceMonitor": {"enabled": True, "basicAuth": {}}})
    (endpoint,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert "scheme" not in endpoint
    assert container(objects)["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http"}


def test_probes_without_a_certificate_look_at_the_port(render):
    objects, _ = render({"webConfig": {"existingSecret": "web", "tls": True, "clientCertificates": True}})
    assert [container(objects)[probe]["tcpSocket"] for probe in PROBES] == [{"port": "http"}] * 3
    assert not any("httpGet" in container(objects)[probe] for probe in PROBES)
    assert container_of_test(objects)["command"][-2:] == ["demo-inferometer", "10110"]


@pytest.mark.parametrize("values", [{}, {"webConfig": {"existingSecret": "web"}}])
def test_the_program_of_helm_test_is_python(render, values):
    objects, _ = render(values)
    compile(container_of_test(objects)["command"][2], "helm test", "exec")


# -- wrong values

WRONG = [
    ({"mode": "sidecar"}, "mode"),
    ({"modes": "daemonset"}, "modes"),
    ({"image": {"tagg": "1"}}, "tagg"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"image": {"pullPolicy": "always"}}, "pullPolicy"),
    ({"gpus": {"source": "cuda"}}, "source"),
    ({"gpus": {"dcgmUrl": "10.0.0.1:9400"}}, "dcgmUrl"),
    ({"gpus": {"podResources": "yes"}}, "podResources"),
    ({"ledger": {"type": "disk"}}, "type"),
    ({"ledger": {"size": "big"}}, "size"),
    ({"ledger": {"hostPath": "var/lib"}}, "hostPath"),
    ({"service": {"port": 70000}}, "port"),
    ({"service": {"port": "10110"}}, "port"),
    ({"discovery": {"namespaces": "llm"}}, "namespaces"),
    ({"discovery": {"namespaces": ["Not_A_Name"]}}, "namespaces"),
    ({"podMonitor": {"interval": 15}}, "interval"),
    ({"podMonitor": {"enabled": "true"}}, "enabled"),
    ({"existingSecrets": [{"name": "x"}]}, "mountPath"),
    ({"imagePullSecrets": ["x"]}, "imagePullSecrets"),
    ({"networkPolicy": {"enginePorts": ["http"]}}, "enginePorts"),
    ({"injector": {"sidecar": {"port": 0}}}, "port"),
    ({"injector": {"sidecar": {"slo": {"ttft": "500"}}}}, "ttft"),
    ({"injector": {"sidecar": {"gpus": {"sorce": "dcgm"}}}}, "sorce"),
    ({"webConfig": {"existingSecret": "Not_A_Name"}}, "existingSecret"),
    ({"webConfig": {"tls": True}}, "webConfig.tls needs webConfig.existingSecret"),
    (
        {"webConfig": {"existingSecret": "x", "clientCertificates": True}},
        "webConfig.clientCertificates needs webConfig.tls",
    ),
    ({"podMonitor": {"basicAuth": {"user": {}}}}, "user"),
    ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
    ({"mode": "deployment", "gpus": {"podResources": True}}, "gpus.podResources is for mode daemonset"),
    ({"ledger": {"type": "claim"}}, "ledger.type claim is for mode deployment"),
    ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "every series would be scraped twice"),
]


@pytest.mark.parametrize(("values", "named"), WRONG, ids=lambda value: json.dumps(value)[:60])
def test_a_wrong_value_is_refused_by_name(render, values, named):
    with pytest.raises(Exception, match=re.escape(named)) as refused:
        render(values)
    assert len(str(refused.value)) < 1500, "a person has to read it"


# -- what a person reads


def test_notes_tell_the_next_three_commands(render):
    _, notes = render({})
    assert [line[0] for line in notes.splitlines() if line[:1].isdigit()] == ["1", "2", "3"]
    assert "kubectl -n monitoring port-forward svc/demo-inferometer 10110:10110" in notes
    assert "config.prices.default.gpu_hour" in notes
    _, priced = render({"config": {"prices": {"default": {"gpu_hour": 2.5}}}})
    assert "helm test demo -n monitoring" in priced


def test_dashboards_and_rules_arrive_unchanged(render):
    """A legend such as {{model}} is Grafana's business, not Helm's."""
    objects, _ = render({"dashboards": {"enabled": True}, "prometheusRule": {"enabled": True}})
    shown = {key: text for o in objects if "dashboard" in o["metadata"]["name"] for key, text in o["data"].items()}
    files = sorted((build.CHART / "files/dashboards").glob("*.json"))
    assert {key: json.loads(text) for key, text in shown.items()} == {
        f"inferometer-{path.name}": json.loads(path.read_text()) for path in files
    }
    rules = [o["spec"] for o in objects if o["kind"] == "PrometheusRule"]
    assert rules == [yaml.safe_load(p.read_text()) for p in sorted((build.CHART / "files/rules").glob("*.yaml"))]


def test_nothing_is_stale():
    stale = [path for path, text in build.everything().items() if path.read_text() != text]
    assert not stale, "python helm/build.py"
    assert Path(build.__file__).exists()
