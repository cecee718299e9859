"""Who holds which GPU, asked of a kubelet over real gRPC on a real socket; and every way in which that fails."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pytest
from inferometer.model import Pod
from inferometer.sources import boottime, podlist
from inferometer.sources.podresources import REASONS, PodResources
from kubelet import Kubelet, allocatable, listing, pod

GPU, SHARED, MIG = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb"


@pytest.fixture
def path():
    """Of a socket: short, as the system wants it, and in a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "kubelet.sock"


def source(path, seconds=5.0):
    return PodResources(str(path), boottime, seconds)


def asked(path, kubelet, seconds=5.0):
    async def ask():
        async with kubelet.serving(path):
            return await source(path, seconds).read()

    return asyncio.run(ask())


def names(holdings):
    return {device: [holder.name for holder in pods] for device, pods in holdings.pods.items()}


# -- answers --------------------------------------------------------------------------------------


def test_devices_and_their_pods(path):
    """Whole GPUs and instances by UUID; other resources are none of ours, and other containers hold nothing."""
    listed = listing(
        pod("vllm", {GPU: ["GPU-a", "GPU-b"], "rdma/hca": ["mlx5_0"], "nvidia.com/hostdev": ["0000:1b:00.0"]}),
        pod("phi", {MIG: ["MIG-7"]}, namespace="team-b", container="serve"),
        pod("old", {GPU: ["MIG-GPU-c/3/0"]}),
        pod("web"),
        pod("amd", {"amd.com/gpu": ["GPU-z"]}),
    )
    found = asked(path, Kubelet(listed, allocatable({GPU: ["GPU-a", "GPU-b"], MIG: ["MIG-7"]})))
    assert (found.source, found.error, found.detail, found.replicas) == ("kubelet", "", "", {})
    assert found.pods == {
        "GPU-a": (Pod("prod", "vllm", "c"),),
        "GPU-b": (Pod("prod", "vllm", "c"),),
        "MIG-7": (Pod("team-b", "phi", "serve"),),
        "MIG-GPU-c/3/0": (Pod("prod", "old", "c"),),
    }
    assert 0 < found.seconds < 5


def test_replicas_are_access_and_not_shares(path):
    """Two replicas of one GPU in one pod are one holding; into how many it is cut, the whole node's list says."""
    listed = listing(
        pod("a", {SHARED: ["GPU-a::0", "GPU-a::3"]}),
        pod("b", {SHARED: ["GPU-a::1"], "nvidia.com/mig-1g.10gb.shared": ["MIG-7::1"]}),
    )
    whole = allocatable({SHARED: [f"GPU-a::{k}" for k in range(4)], f"{MIG}.shared": ["MIG-7::0", "MIG-7::1"]})
    found = asked(path, Kubelet(listed, whole))
    assert names(found) == {"GPU-a": ["a", "b"], "MIG-7": ["b"]}
    assert found.replicas == {"GPU-a": 4, "MIG-7": 2}


def test_devices_of_gke(path):
    """There they have no UUID but a minor number, and replicas another spelling."""
    listed = listing(
        pod("a", {GPU: ["nvidia0"]}),
        pod("b", {GPU: ["nvidia1/gi1"]}),
        pod("c", {GPU: ["nvidia2/vgpu0", "nvidia2/vgpu1"]}),
        pod("d", {GPU: ["nvidia2/vgpu2", "nvidia3/gi2/vgpu1"]}),
    )
    found = asked(path, Kubelet(listed, allocatable({GPU: ["nvidia2/vgpu0", "nvidia2/vgpu1", "nvidia2/vgpu2"]})))
    assert names(found) == {"nvidia0": ["a"], "nvidia1/gi1": ["b"], "nvidia2": ["c", "d"], "nvidia3/gi2": ["d"]}
    assert found.replicas == {"nvidia2": 3}


def test_claimed_devices(path):
    """Dynamic resource allocation gives devices out by claim; other drivers' devices are none of ours."""
    claims = [("gpu.nvidia.com", "gpu-0"), ("compute-domain.nvidia.com", "channel-0"), ("gpu.nvidia.com", "")]
    found = asked(path, Kubelet(listing(pod("a", claims=claims), pod("b", claims=claims[:1]))))
    assert names(found) == {"gpu-0": ["a", "b"]}


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN])
def test_an_older_kubelet_lists_no_allocatable_devices(path, code):
    """Then nobody knows how many replicas there are, and who holds what is known as before."""
    found = asked(path, Kubelet(listing(pod("a", {SHARED: ["GPU-a::0"]})), code))
    assert (found.error, names(found), found.replicas) == ("", {"GPU-a": ["a"]}, {})


def test_a_node_without_pods(path):
    found = asked(path, Kubelet())
    assert (found.error, found.pods) == ("", {})


def test_a_long_answer(path):
    """A node may have more to tell than gRPC takes unasked."""
    found = asked(path, Kubelet(listing(pod("x" * (5 << 20), {GPU: ["GPU-0"]}))))
    assert (found.error, len(found.pods["GPU-0"][0].name)) == ("", 5 << 20)


# -- changes --------------------------------------------------------------------------------------


def test_pods_come_move_and_go(path):
    """Each reading is the state of now, not of some watch."""

    async def story():
        kubelet, kubelets = Kubelet(), source(path)
        seen = []
        async with kubelet.serving(path):
            for pods in (
                [pod("a", {GPU: ["GPU-0"]})],
                [pod("a", {GPU: ["GPU-0"]}), pod("b", {GPU: ["GPU-1"]})],
                [pod("a", {GPU: ["GPU-1"]})],
                [],
            ):
                kubelet.listed = listing(*pods)
                seen.append(names(await kubelets.read()))
        return seen

    assert asyncio.run(story()) == [{"GPU-0": ["a"]}, {"GPU-0": ["a"], "GPU-1": ["b"]}, {"GPU-1": ["a"]}, {}]


def test_a_kubelet_that_restarts_is_read_at_once(path):
    """Its socket is gone, then a new one is there; no back-off stands between."""

    async def story():
        kubelets, seen = source(path), []
        for name in ("a", "b", "c"):
            async with Kubelet(listing(pod(name, {GPU: ["GPU-0"]}))).serving(path):
                seen.append(names(await kubelets.read()))
            seen.append((await kubelets.read()).error)
        return seen

    assert asyncio.run(story()) == [
        {"GPU-0": ["a"]},
        "no_socket",
        {"GPU-0": ["b"]},
        "no_socket",
        {"GPU-0": ["c"]},
        "no_socket",
    ]


def test_a_kubelet_that_comes_back_to_a_dead_socket_is_read_at_once(path):
    """GRPC waits longer after each refusal, of which a new connection is not to know."""

    async def story():
        kubelets = source(path)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        refused = [(await kubelets.read()).error for _ in range(3)]
        async with Kubelet(listing(pod("a", {GPU: ["GPU-0"]}))).serving(path):
            return refused, names(await kubelets.read())

    assert asyncio.run(story()) == (["no_socket"] * 3, {"GPU-0": ["a"]})


# -- failures -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def talking(path, said):
    """Something else on the socket, which says this to whoever comes, and nothing if it has nothing to say."""
    writers = []

    async def talk(reader, writer):
        writers.append(writer)
        if said:
            writer.write(said)
            writer.close()
        else:
            await reader.read()

    server = await asyncio.start_unix_server(talk, path)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def told(path, said, seconds=5.0):
    async def ask():
        async with talking(path, said):
            return await source(path, seconds).read()

    return asyncio.run(ask())


@pytest.mark.parametrize("part", ["listed", "allocated"])
def test_a_kubelet_that_hangs(path, part):
    """A reading ends by its timeout, whichever answer does not come, and the next one succeeds."""

    async def story():
        kubelet = Kubelet(listing(pod("a", {GPU: ["GPU-0"]})))
        answer = getattr(kubelet, part)
        kubelets = source(path, 0.5)
        async with kubelet.serving(path):
            await kubelets.read()
            setattr(kubelet, part, None)
            began = boottime()
            hung = await kubelets.read()
            took = boottime() - began
            setattr(kubelet, part, answer)
            return hung, took, await kubelets.read()

    hung, took, after = asyncio.run(story())
    assert (hung.error, hung.pods) == ("timeout", {})
    assert "within 0.5 s" in hung.detail
    assert took < 3
    assert names(after) == {"GPU-0": ["a"]}


def test_something_that_never_speaks(path):
    assert told(path, b"", 0.5).error == "timeout"


@pytest.mark.parametrize("said", [b"\0" * 100, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"{}"])
def test_something_that_speaks_otherwise(path, said):
    found = told(path, said, 3.0)
    assert (found.error, found.pods) == ("protocol", {})
    assert "not the kubelet's" in found.detail


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        b"\x0a\x05ab",
        b"\x0a\x02\x0a\xff",
        b"\x0a\x03\x0a\x01\xff",
        b"\x0b\x0c",
        b"\x00\x00",
        b"\xff" * 20,
        listing(pod("a", {GPU: ["GPU-0"]}))[:-1],
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
    ],
)
def test_answers_that_are_none(path, answer):
    """Bytes that are no message, or end in the middle of one, and refusals: no reading, not one of no pods."""
    found = asked(path, Kubelet(answer))
    assert (found.error, found.pods) == ("protocol", {})


def test_no_socket(path):
    """Nothing there, something else there, or a socket that a dead kubelet left."""
    assert asyncio.run(source(path).read()).error == "no_socket"
    path.write_text("")
    found = asyncio.run(source(path).read())
    assert (found.error, found.detail) == ("no_socket", f"{path} is no socket")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    found = asyncio.run(source(path).read())
    assert found.error == "no_socket"
    assert "is the kubelet running?" in found.detail


def test_a_socket_whose_queue_is_full(path):
    """Connecting would wait for good: that is a timeout, and it does not hold up the event loop."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(path))
        server.listen(0)
        first.connect(str(path))
        assert asyncio.run(source(path, 0.5).read()).error == "timeout"


AS_NOBODY = """
import asyncio, os, sys
sys.path[:0] = sys.argv[2:]
from inferometer.sources.podresources import PodResources, _import
_import()
kubelets = PodResources(sys.argv[1], float, 2.0)
asyncio.run(PodResources(sys.argv[1] + "x", float, 2.0).read())
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = asyncio.run(kubelets.read())
print(found.error, found.detail)
"""


@pytest.mark.parametrize("refused", ["socket", "folder"])
def test_a_user_whom_the_socket_refuses(path, refused):
    """The kubelet's folder and socket are root's."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        target = path if refused == "socket" else path.parent
        target.chmod(0o700 if os.geteuid() == 0 else 0)
        command = [sys.executable, "-c", AS_NOBODY, str(path), *sys.path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        target.chmod(0o755)
    assert done.stdout.startswith("no_permission "), done
    assert "only root may ask the kubelet" in done.stdout
    assert done.stderr == ""


def test_without_the_extra(path, monkeypatch):
    """The sentence says what to install; without a kubelet nobody is asked to."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        found = asyncio.run(source(path).read())
    assert found.error == "no_extra"
    assert "pip install 'inferometer[grpc]'" in found.detail
    assert asyncio.run(source(path.with_name("x")).read()).error == "no_socket"


def test_grpc_is_imported_only_when_used():
    """It takes 0.2 s and memory that an agent without a kubelet need not spend."""
    code = "import sys, inferometer.sources.podresources; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_a_reading_can_be_cancelled(path):
    async def story():
        async with Kubelet(None).serving(path):
            reading = asyncio.create_task(source(path).read())
            await asyncio.sleep(0.3)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(story())


def test_every_reason_is_seen_above():
    assert REASONS == ("no_socket", "no_permission", "no_extra", "timeout", "protocol")


@pytest.mark.parametrize("at", range(0, 120, 7))
def test_no_cut_is_taken_for_an_answer_of_its_own(at):
    """Wherever the bytes end: an error, or the fields before the cut and no others."""
    whole = listing(pod("a", {GPU: ["GPU-0"]}), pod("b", {GPU: ["GPU-1"]}))
    try:
        found = podlist.holdings(whole[:at])
    except ValueError:
        return
    assert found.items() <= podlist.holdings(whole).items()
