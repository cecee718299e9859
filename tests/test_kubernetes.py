"""The watch of pods against an API server that behaves as real ones do, and what pods say of themselves."""

import asyncio
import contextlib
import itertools
import ssl
import subprocess
import sys
import time

import aiohttp
import msgspec
import pytest
from apiserver import ApiServer, pod
from certificates import Authority
from inferometer.app.cluster import cluster_of
from inferometer.config.schema import Kubernetes
from inferometer.errors import ConfigError
from inferometer.sources import credentials, kubernetes
from inferometer.sources.kubernetes import REASONS, Cluster, PodWatch, Query
from inferometer.sources.podobjects import PodObject, serving
from live import environment
from yarl import URL

NODE = Query(node="n1")


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Pauses as after many failures would hold tests up."""
    monkeypatch.setattr(kubernetes, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(kubernetes, "_LONGEST_PAUSE_SECONDS", 0.05)


def following(api, steps, query=NODE, **cluster):
    """Run ``steps(seen, until)`` beside a watch: ``until(condition)`` waits for a Pods that it is true of."""

    async def scene():
        seen = []
        watch = PodWatch(Cluster(api.url, **cluster), query, time.monotonic)
        task = asyncio.create_task(watch.follow(seen.append))

        async def until(condition):
            async with asyncio.timeout(20):
                while not (seen and condition(seen[-1])):  # noqa: ASYNC110 - what another thread does
                    await asyncio.sleep(0.01)
            return seen[-1]

        try:
            await steps(seen, until)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(scene())


def names(pods):
    return [one.name for one in pods.pods]


def good(*wanted):
    """That the watch is up and shows these pods."""
    return lambda pods: not pods.error and sorted(names(pods)) == sorted(wanted)


def test_without_a_file_of_authorities_the_machines_are_trusted_and_no_others(tmp_path, monkeypatch):
    """Not those that aiohttp's client trusts, which are none in an agent."""
    authority = Authority(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(*authority.signs("api"))

    async def listed(url):
        credentials.default_tls.cache_clear()
        async with aiohttp.ClientSession(url) as session:
            return (await kubernetes._Server(session, Cluster(url)).pods("/api/v1/pods", {})).items

    with ApiServer(tls=served) as api:
        api.add(pod("a-0", 8000))
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            asyncio.run(listed(api.url))
        monkeypatch.setenv("SSL_CERT_FILE", authority.pair.cert)
        assert len(asyncio.run(listed(api.url))) == 1
    credentials.default_tls.cache_clear()


def test_pods_come_change_and_go(api):
    """Only those of the node; a pod without an address or a wish is none; a change that says nothing is not told."""
    api.add(pod("a-0", 8000))
    api.add(pod("elsewhere-0", 8000, node="n2"))

    async def steps(seen, until):
        first = await until(good("a-0"))
        assert first.pods[0].url == "http://127.0.0.1:8000/metrics"
        api.add(pod("b-0", 8001, ip=""))
        api.change("b-0", lambda pod: pod["status"].update(podIP="127.0.0.1"))
        await until(good("a-0", "b-0"))
        told = len(seen)
        api.change("b-0", lambda pod: pod["metadata"]["labels"].update(more="1"))
        api.terminate("a-0")
        ending = await until(lambda pods: any(one.ending for one in pods.pods))
        assert len(seen) == told + 1, "a new label is no news"
        assert {one.name: one.ending for one in ending.pods} == {"a-0": True, "b-0": False}
        api.remove("a-0")
        await until(good("b-0"))
        api.change("b-0", lambda pod: pod["metadata"].update(annotations={}))
        await until(good())

    following(api, steps)


def test_one_list_and_then_a_watch_from_its_version(api):
    """The first list may come out of the server's memory: a thousand agents that start must not wake etcd."""
    api.add(pod("a-0", 8000))

    async def steps(_seen, until):
        await until(good("a-0"))
        while len(api.asked) < 2:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        (path, listed), (_, watched) = api.asked[:2]
        assert path == "/api/v1/pods"
        assert listed == {"fieldSelector": "spec.nodeName=n1", "limit": "500", "resourceVersion": "0"}
        assert watched["watch"] == watched["allowWatchBookmarks"] == "true"
        assert watched["resourceVersion"] == "101"
        assert 240 <= int(watched["timeoutSeconds"]) <= 300

    following(api, steps)


def test_a_watch_that_breaks_off_goes_on_where_it_was(api):
    """In the middle of a line, after a bookmark: nothing is listed again, and what happened meanwhile is told."""
    api.add(pod("a-0", 8000))

    async def steps(_seen, until):
        await until(good("a-0"))
        api.bookmark()
        await asyncio.sleep(0.1)
        api.cut()
        api.add(pod("b-0", 8001))
        await until(good("a-0", "b-0"))
        lists = [query for _, query in api.asked if "watch" not in query]
        assert len(lists) == 1
        assert api.asked[-1][1]["resourceVersion"] == "102", "from the bookmark on"

    following(api, steps)


def test_after_410_all_is_listed_anew(api):
    """As an event on the watch and as an answer; a pod that went meanwhile is gone, one that came is there."""
    api.add(pod("a-0", 8000))
    api.add(pod("b-0", 8001))

    async def steps(_seen, until):
        await until(good("a-0", "b-0"))
        api.remove("a-0")
        api.add(pod("c-0", 8002))
        api.forget()
        api.cut()
        await until(good("b-0", "c-0"))
        api.fail(410)
        api.cut()
        api.add(pod("d-0", 8003))
        await until(good("b-0", "c-0", "d-0"))
        relists = [query for _, query in api.asked if "watch" not in query][1:]
        assert relists, "listed anew"
        assert all("resourceVersion" not in query for query in relists), "the newest, not what the server remembers"

    following(api, steps)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(500, "status"), (429, "status"), (403, "forbidden"), (302, "status"), ("<html>", "protocol")],
)
def test_pods_outlast_a_server_that_fails(api, failure, reason):
    """A list and every watch may fail, again and again: pods stay, and the reason is told."""
    api.add(pod("a-0", 8000))

    async def steps(seen, until):
        await until(good("a-0"))
        api.fail(*[failure] * 6)
        api.cut()
        await until(lambda pods: pods.error == reason)
        assert reason in REASONS
        assert all(names(pods) == ["a-0"] for pods in seen if pods.pods)
        api.add(pod("b-0", 8001))
        await until(good("a-0", "b-0"))

    following(api, steps)


def test_a_server_that_is_not_there_yet():
    api = ApiServer()
    api._server.server_close()

    async def steps(_seen, until):
        pods = await until(lambda pods: bool(pods.error))
        assert (pods.error, pods.pods) == ("refused", ())
        assert "NetworkPolicy" in pods.detail

    following(api, steps)


def test_a_token_is_read_again_when_it_is_replaced(api, tmp_path):
    """Kubernetes replaces them every hour; a token that is refused says so."""
    token = tmp_path / "token"
    token.write_text("old")
    api.token = "old"
    api.add(pod("a-0", 8000))

    async def steps(_seen, until):
        await until(good("a-0"))
        api.token = "renewed"
        api.cut()
        assert "token is refused" in (await until(lambda pods: pods.error == "forbidden")).detail
        token.write_text("renewed")
        await until(good("a-0"))

    following(api, steps, token_file=str(token))


def test_namespaces_are_watched_one_by_one(api):
    """So that a Role in each will do; one that is forbidden does not hide the others."""
    api.add(pod("a-0", 8000, namespace="x"))
    api.add(pod("b-0", 8001, namespace="y"))
    api.add(pod("c-0", 8002, namespace="z"))

    async def steps(_seen, until):
        await until(good("a-0", "b-0"))
        assert {path for path, _ in api.asked} == {f"/api/v1/namespaces/{name}/pods" for name in "xy"}

    following(api, steps, Query(namespaces=("x", "y")))


def test_long_lists_come_in_pages(api, monkeypatch):
    monkeypatch.setattr(kubernetes, "_PAGE", 2)
    for number in range(5):
        api.add(pod(f"a-{number}", 8000 + number))

    async def steps(_seen, until):
        await until(good(*(f"a-{number}" for number in range(5))))

    following(api, steps)


# -- what a pod says of itself


def said(annotations=None, *, labels=None, owner=("StatefulSet", "chat"), gpus=0, **changes):
    made = pod("chat-0", 9000, annotations=annotations, labels=labels, owner=owner, gpus=gpus, **changes)
    return serving(msgspec.convert(made, PodObject))


OURS = {"inferometer.dev/scrape": "true"}


@pytest.mark.parametrize(
    ("annotations", "gpus", "url"),
    [
        (OURS, 0, "http://127.0.0.1:9000/metrics"),
        ({**OURS, "inferometer.dev/port": "8001", "inferometer.dev/path": "/m"}, 0, "http://127.0.0.1:8001/m"),
        ({**OURS, "inferometer.dev/port": "http", "prometheus.io/path": "x/y"}, 0, "http://127.0.0.1:9000/x/y"),
        ({**OURS, "prometheus.io/port": "7000", "inferometer.dev/port": "7001"}, 0, "http://127.0.0.1:7001/metrics"),
        ({"prometheus.io/scrape": "true", "prometheus.io/scheme": "https"}, 1, "https://127.0.0.1:9000/metrics"),
        ({"prometheus.io/scrape": "true"}, 0, None),  # half the cluster says so
        ({"prometheus.io/scrape": "true", "inferometer.dev/scrape": "false"}, 1, None),
        ({"inferometer.dev/scrape": "yes"}, 1, None),
        ({}, 1, None),
    ],
)
def test_where_a_page_is(annotations, gpus, url):
    found, faults = said(annotations, gpus=gpus)
    assert (found.url if found else None, faults) == (url, ())


PATHS = (
    "//169.254.169.254/x", "http://evil.example/x", "@evil.example/x", ":80@evil.example", "\\\\evil.example", "?x",
    "/../../x", "%2f%2fevil.example", " ", "x\r\nHost: evil.example",
)  # fmt: skip
PORTS = ("", "80@evil.example", "8000/..", "-1", "99999", "169.254.169.254:80")


def test_an_annotation_cannot_name_another_host():
    """Who may annotate a pod may choose a port and a path of that pod, and nothing else."""
    for path, port in itertools.product(PATHS, PORTS):
        found, _ = said({**OURS, "inferometer.dev/path": path, "inferometer.dev/port": port})
        url = URL(found.url)
        assert (url.scheme, url.host, url.port, url.user) == ("http", "127.0.0.1", 9000, None)
        assert "\r" not in found.url


@pytest.mark.parametrize(
    ("owner", "labels", "annotations", "workload"),
    [
        (("ReplicaSet", "chat-7d9f8c6b5"), {"pod-template-hash": "7d9f8c6b5"}, {}, "llm/chat"),
        (("ReplicaSet", "bare"), {}, {}, "llm/bare"),
        (("StatefulSet", "chat"), {}, {}, "llm/chat"),
        (("StatefulSet", "big-0"), {"leaderworkerset.sigs.k8s.io/name": "big"}, {}, "llm/big"),
        (("Job", "batch"), {}, {"inferometer.dev/workload": "team/chat"}, "llm/team/chat"),
    ],
)
def test_a_workload_is_called_after_what_a_person_made(owner, labels, annotations, workload):
    found, faults = said({**OURS, **annotations}, owner=owner, labels=labels)
    assert (found.workload, faults) == (workload, ())


def test_a_pod_without_an_owner_is_its_own_workload():
    made = pod("solo", 9000)
    made["metadata"]["ownerReferences"] = None
    assert serving(msgspec.convert(made, PodObject)).pod.workload == "llm/solo"


def test_a_pod_that_is_over_is_ending():
    made = pod("job-0", 9000)
    made["status"]["phase"] = "Failed"
    assert serving(msgspec.convert(made, PodObject)).pod.ending


def test_an_annotation_that_cannot_be_used_is_named():
    """The pod is read all the same, as if it were not there."""
    wrong = {"port": "web", "role": "both?", "scheme": "ftp", "workload": "a b"}
    found, faults = said({**OURS, **{f"inferometer.dev/{name}": value for name, value in wrong.items()}})
    assert (found.url, found.role, found.workload) == ("http://127.0.0.1:9000/metrics", "both", "llm/chat")
    assert sorted(faults) == [
        f"pod llm/chat-0: annotation inferometer.dev/{fault}"
        for fault in (
            "port is 'web'; a number or the name of a container's port is expected",
            "role is 'both?'; one of both, prefill, decode, frontend is expected",
            "scheme is 'ftp'; http or https is expected",
            "workload is 'a b'; letters, digits and . _ - / are expected",
        )
    ]


def test_an_ipv6_address_stands_in_brackets():
    assert said(OURS, ip="fd00::7")[0].url == "http://[fd00::7]:9000/metrics"


# -- the cluster


def test_in_a_pod_the_cluster_needs_no_configuration():
    found = cluster_of(Kubernetes(), {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"})
    assert found.url == "https://[fd00::1]:6443"
    assert found.token_file.endswith("/serviceaccount/token")
    assert found.ca_file.endswith("/serviceaccount/ca.crt")


def test_elsewhere_it_has_to_be_named():
    with pytest.raises(ConfigError, match=r"no pod of a cluster; give kubernetes\.api_url"):
        cluster_of(Kubernetes(), {})
    assert cluster_of(Kubernetes(api_url="http://127.0.0.1:8001"), {}).url == "http://127.0.0.1:8001"


def test_nobody_else_carries_it():
    """An agent that looks for no pods does not import the code for it."""
    code = "import sys, inferometer.app.agent; sys.exit('inferometer.sources.kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
