"""Who holds which GPU: lists, shares, MIG instances, pods, double claims, and what is left over."""

import pytest
from inferometer import config
from inferometer.app.holdings import UNATTRIBUTED, ownership
from inferometer.app.plan import plan
from inferometer.model import Gpu, Holdings, Instance, Pod

POD = Pod("llm", "vllm-0", "vllm")
OTHER = Pod("llm", "vllm-1", "vllm")
NODE = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NODE_NAME": "n"}
SIDECAR = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "llm", "POD_NAME": "vllm-0"}
BOX = tuple(Gpu(f"GPU-{n}", n) for n in range(4))


def workloads(*lines):
    return "workloads:\n" + "".join(f"  - {line}\n" for line in lines)


def owned(tmp_path, text, gpus=BOX, environ=None, kubelet=None):
    file = tmp_path / "inferometer.yaml"
    file.write_text(text)
    return ownership(config.load(str(file), {}, {}), gpus, environ or {}, kubelet)


def held(found):
    """By workload, its parts of each GPU."""
    return {
        name: [(h.gpu.removeprefix("GPU-"), h.instance, pytest.approx(h.fraction), h.method) for h in holds]
        for name, holds in found.holds.items()
        if holds
    }


def test_one_workload_on_a_plain_machine_has_every_gpu(tmp_path):
    found = owned(tmp_path, workloads("{name: a}"))
    assert found.charged == {"a": 4}
    assert [hold.fraction for hold in found.holds["a"]] == [1, 1, 1, 1]


def test_what_no_workload_lists_is_nobodys(tmp_path):
    """By UUID or index; the rest is unattributed, and costs what a GPU costs by default."""
    found = owned(tmp_path, workloads("{name: a, gpus: [GPU-0, 1]}", "{name: b, gpus: [2], share: 0.25}"))
    assert held(found) == {
        "a": [("0", "", 1, "exclusive"), ("1", "", 1, "exclusive")],
        "b": [("2", "", 0.25, "share")],
        UNATTRIBUTED: [("2", "", 0.75, "none"), ("3", "", 1, "none")],
    }
    assert found.charged == {"a": 2, "b": 0.25, UNATTRIBUTED: 1.75}


def test_gpus_that_are_listed_and_not_seen_are_paid_for(tmp_path):
    assert owned(tmp_path, workloads("{name: a, gpus: [GPU-0, GPU-9]}")).charged["a"] == 2


def test_a_number_of_gpus_is_paid_for_once(tmp_path):
    """Which ones they are nobody said: their joules are nobody's, their money is the workload's alone."""
    found = owned(tmp_path, workloads("{name: a, gpus: 4}"))
    assert found.charged == {"a": 4, UNATTRIBUTED: 0}
    assert len(found.holds[UNATTRIBUTED]) == 4


def test_a_gpu_that_is_claimed_twice_is_nobodys(tmp_path):
    """At start the configuration refuses it; here an index and a UUID turn out to be the same GPU."""
    found = owned(tmp_path, workloads("{name: a, gpus: [GPU-1]}", "{name: b, gpus: [1, 2]}"))
    assert held(found)["b"] == [("2", "", 1, "exclusive")]
    assert [hold.gpu for hold in found.holds[UNATTRIBUTED]] == ["GPU-0", "GPU-1", "GPU-3"]
    (fault,) = found.faults
    assert fault == (
        "GPU GPU-1 is claimed by a and b: its money and joules go to (unattributed); "
        "list it in one of them, or give each a share below 1"
    )


def cut(*profiles, pods=()):
    """A GPU in instances of (compute, memory) slices; ``pods``: of each."""
    pods = pods or ((),) * len(profiles)
    instances = tuple(
        Instance(f"MIG-{n}", n, "", *profile, pods=tuple(p))
        for n, (profile, p) in enumerate(zip(profiles, pods, strict=True))
    )
    return (Gpu("GPU-0", 0, instances=instances),)


def test_mig_instances_cost_what_they_block(tmp_path):
    """G2: 4g and 3g fill the GPU and share it as 8/15 and 7/15; of three 1g, 4/7 is left over."""
    both = owned(tmp_path, workloads("{name: a, gpus: [MIG-0]}", "{name: b, gpus: [MIG-1]}"), cut((4, 4), (3, 4)))
    assert both.charged == {"a": pytest.approx(8 / 15), "b": pytest.approx(7 / 15)}
    small = owned(tmp_path, workloads("{name: a, gpus: [MIG-0, MIG-1]}"), cut((1, 1), (1, 1), (1, 1)))
    assert small.charged == {"a": pytest.approx(2 / 7), UNATTRIBUTED: pytest.approx(5 / 7)}
    assert held(small)[UNATTRIBUTED] == [("0", "MIG-2", 1 / 7, "none"), ("0", "", 4 / 7, "none")]


def test_a_gpu_is_claimed_as_a_whole_or_by_its_instances(tmp_path):
    """Shares of both kinds cannot be added up; shares of the whole of it can."""
    gpus = cut((3, 4), (3, 4))
    lines = ("{name: a, gpus: [GPU-0], share: 0.5}", "{name: b, gpus: [MIG-0], share: 0.5}")
    mixed = owned(tmp_path, workloads(*lines), gpus)
    assert mixed.charged == {"a": 0, "b": 0, UNATTRIBUTED: pytest.approx(1)}
    (fault,) = mixed.faults
    assert fault == (
        "GPU GPU-0 is claimed by a and b as a whole and by its instances: its money and joules go to (unattributed); "
        "list either the whole of it or instances, not both"
    )
    whole = owned(tmp_path, workloads(lines[0]), gpus)
    assert (whole.charged, whole.faults) == ({"a": 0.5, UNATTRIBUTED: 0.5}, ())


def test_the_kubelet_goes_before_labels(tmp_path):
    """A label that is out of date divides no device whose holder the kubelet names; where it names none, labels do."""
    text = workloads('{name: a, engines: [{url: "http://a:1/metrics", pod: llm/vllm-0}]}')
    gpus = (Gpu("GPU-0", 0, pods=(OTHER,)), Gpu("GPU-1", 1, pods=(POD,)), Gpu("GPU-2", 2, pods=(POD,)))
    kubelet = Holdings("pod-resources", 0.0, pods={"GPU-0": (POD,), "GPU-1": (OTHER,)})
    assert held(owned(tmp_path, text, gpus, NODE, kubelet)) == {
        "a": [("0", "", 1, "exclusive"), ("2", "", 1, "exclusive")],
        UNATTRIBUTED: [("1", "", 1, "none")],
    }


def test_the_agent_of_a_node_goes_by_pods(tmp_path):
    """Labels of dcgm-exporter, for instances and for whole GPUs."""
    gpus = (*cut((3, 4), (3, 4), pods=((POD,), (OTHER,))), Gpu("GPU-1", 1, pods=(POD,)), Gpu("GPU-2", 2))
    text = workloads('{name: a, engines: [{url: "http://a:1/metrics", pod: llm/vllm-0}]}')
    found = owned(tmp_path, text, gpus, NODE)
    assert held(found) == {
        "a": [("0", "MIG-0", 0.5, "mig"), ("1", "", 1, "exclusive")],
        UNATTRIBUTED: [("0", "MIG-1", 0.5, "none"), ("2", "", 1, "none")],
    }


def test_a_gpu_that_pods_share_is_divided_by_their_number(tmp_path):
    """Two of four replicas are held, by two pods: the kubelet knows of four."""
    text = workloads('{name: a, engines: [{url: "http://a:1/metrics", pod: llm/vllm-0}]}')
    shared = (Gpu("GPU-0", 0, pods=(POD, OTHER)),)
    assert owned(tmp_path, text, shared, NODE).charged == {"a": 0.5, UNATTRIBUTED: 0.5}
    kubelet = Holdings("pod-resources", 0.0, pods={"GPU-0": (POD, OTHER)}, replicas={"GPU-0": 4})
    found = owned(tmp_path, text, (Gpu("GPU-0", 0),), NODE, kubelet)
    assert held(found) == {"a": [("0", "", 0.25, "replica")], UNATTRIBUTED: [("0", "", 0.75, "none")]}


def test_a_sidecar_looks_after_its_own_pod_alone(tmp_path):
    """It sees every GPU of its node, and charges nobody for those of others, not even nobody."""
    gpus = (Gpu("GPU-0", 0, pods=(POD,)), Gpu("GPU-1", 1, pods=(OTHER,)), Gpu("GPU-2", 2))
    found = owned(tmp_path, workloads("{name: a}"), gpus, SIDECAR)
    assert held(found) == {"a": [("0", "", 1, "exclusive")]}
    assert found.charged == {"a": 1}
    nameless = {name: value for name, value in SIDECAR.items() if not name.startswith("POD")}
    assert owned(tmp_path, workloads("{name: a}"), gpus, nameless).charged == {"a": 0}


def test_nobodys_gpus_have_the_default_price(tmp_path):
    file = tmp_path / "inferometer.yaml"
    file.write_text("prices: {default: {gpu_hour: 3}}\n" + workloads("{name: a, gpus: [0]}"))
    laid_out = plan(config.load(str(file), {}, {}), BOX, {})
    assert laid_out.policies[UNATTRIBUTED].price == laid_out.policies["a"].price
    assert [(watch.workload, watch.gpus) for watch in laid_out.watches] == [("a", 1), (UNATTRIBUTED, 3)]
