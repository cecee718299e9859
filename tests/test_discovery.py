"""Engines that are found by their pods: a whole agent beside an API server and a kubelet, and the rules one by one."""

import contextlib
import json
import shutil

import pytest
from apiserver import ApiServer
from apiserver import pod as api_pod
from fakenvml import Driver, build
from inferometer import config
from inferometer.app.discovery import Discovery
from inferometer.model import EngineSignal, Pods, ServingPod
from kubelet import Kubelet, listing
from kubelet import pod as kubelet_pod
from live import Agent, Engines, Page, Proxy, eventually, fetch
from test_agent_gpus import held, running

NODE = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NODE_NAME": "n1"}
TOKENS, UP = "inferometer_tokens_total", "inferometer_engine_up"
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("nvml"))


def owned_by(name):
    return {"owner": ("ReplicaSet", f"{name}-7d9f8c"), "labels": {"pod-template-hash": "7d9f8c"}}


def flag_of(tmp_path, api, **more):
    tmp_path.mkdir(exist_ok=True)
    file = tmp_path / "inferometer.yaml"
    settings = {
        "interval": "100ms",
        "prices": {"default": {"gpu_hour": 3.6}, "dear": {"gpu_hour": 36}},
        "kubernetes": {"api_url": api.url, "node": "n1"},
        "storage": {"path": str(tmp_path / "ledger")},
    }
    file.write_text(json.dumps({key: value for key, value in (settings | more).items() if value is not None}))
    return f"--config.file={file}"


def moved(proxy, since_first):
    """Tokens by type on the pages that a pod served: up to the last one, from its first one or from zero."""
    pages = [Page(served.text) for served in proxy.served]

    def tokens(page):
        prompt, cached = page.sum("vllm:prompt_tokens_total") or 0, page.sum("vllm:prompt_tokens_cached_total") or 0
        return {
            "input_uncached": prompt - cached,
            "input_cached": cached,
            "output": page.sum("vllm:generation_tokens_total") or 0,
        }

    last, first = tokens(pages[-1]), tokens(pages[0])
    return {kind: last[kind] - (first[kind] if since_first else 0) for kind in last}


def generated(url):
    return Page(fetch(url)[1]).sum("vllm:generation_tokens_total") or 0


def counted(page, engine):
    return {row.labels["type"]: row.value for row in page.rows(TOKENS, engine=engine)}


def test_a_pod_is_replaced_and_no_token_is_lost_or_doubled(library, tmp_path):
    """The old one is read until it refuses, though the cluster has forgotten it; the new one counts from its start.

    Meanwhile the API server forgets, breaks off and fails. GPUs and their money move as the kubelet says.
    """
    shutil.copy(library, tmp_path)
    driver = Driver(tmp_path, gpus=2)
    kubelet, socket = Kubelet(listing(kubelet_pod("chat-a", {GPU: ["GPU-0"]}, namespace="llm"))), tmp_path / "k.sock"
    with (
        ApiServer() as api,
        running(kubelet, socket),
        Engines(tmp_path / "a.log", 1, 40.0) as first,
        Engines(tmp_path / "b.log", 1, 40.0) as second,
        Proxy(first.urls[0]) as old,
        Proxy(second.urls[0]) as new,
    ):
        api.add(api_pod("chat-a", port_of(old), **owned_by("chat")))
        api.add(api_pod("other", port_of(new), node="n2", **owned_by("chat")))
        flag = flag_of(
            tmp_path, api, gpu={"pod_resources": str(socket)}, workloads=[{"name": "llm/chat", "price": "dear"}]
        )
        with Agent(tmp_path / "agent.log", flag, **driver.environ, **NODE) as agent:
            agent.until(lambda page: counted(page, "llm/chat-a").get("output", 0) > 100)
            agent.until(lambda page: held(page).get(("llm/chat", "GPU-0")) == 1)
            with Engines(tmp_path / "c.log", 1, 40.0) as third, Proxy(third.urls[0]) as fresh:
                eventually(lambda: generated(third.urls[0]) > 100, "tokens before anybody looks")
                api.fail(500, 429)
                api.cut()
                api.add(api_pod("chat-b", port_of(fresh), **owned_by("chat")))
                kubelet.listed = listing(kubelet_pod("chat-b", {GPU: ["GPU-1"]}, namespace="llm"))
                agent.until(lambda page: counted(page, "llm/chat-b").get("output", 0) > 100)
                api.terminate("chat-a")
                api.forget()
                api.cut()
                api.remove("chat-a")
                pages = len(old.served)
                eventually(lambda: len(old.served) > pages + 5, "read though the cluster has forgotten it")
                first.kill()
                agent.until(lambda page: not page.rows(UP, engine="llm/chat-a"))
                third.kill()
                agent.until(lambda page: page.sum(UP, engine="llm/chat-b") == 0)
                page = agent.page()
                assert counted(page, "llm/chat-a") == moved(old, since_first=True)
                assert counted(page, "llm/chat-b") == moved(fresh, since_first=False)
            page = agent.until(lambda page: held(page).get(("llm/chat", "GPU-1")) == 1)
            assert not new.served, "a pod of another node is another agent's"
            money, seconds = page.sum("inferometer_cost_total", workload="llm/chat"), "inferometer_gpu_seconds_total"
            assert money == pytest.approx(page.sum(seconds, workload="llm/chat") * 36 / 3600)
            assert page.sum("inferometer_source_up", source="kubernetes") == 1


def port_of(proxy):
    return int(proxy.name.partition(":")[2])


def test_a_stateful_pod_is_replaced_and_then_moves_to_another_node(tmp_path):
    """It keeps its name: each agent counts what it did on its node, and together they have every token once."""
    with ApiServer() as api, Engines(tmp_path / "e.log", 3, 40.0) as engines, contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(url)) for url in engines.urls]
        flags = {
            node: flag_of(tmp_path / node, api, kubernetes={"api_url": api.url, "node": node}) for node in ("n1", "n2")
        }
        here, there = (
            stack.enter_context(Agent(tmp_path / f"{n}.log", flag, NODE_NAME=n)) for n, flag in flags.items()
        )
        for agent in (here, there):
            agent.until(lambda page: page.sum("inferometer_source_up", source="kubernetes") == 1)
        started = [here, here, there]
        for number, (agent, node) in enumerate(zip(started, ("n1", "n1", "n2"), strict=True)):
            engines.control(number, "restart")  # its process is younger than the agents
            api.add(
                api_pod("chat-0", port_of(proxies[number]), uid=f"u{number}", node=node, owner=("StatefulSet", "chat"))
            )
            before = counted(agent.page(), "llm/chat-0").get("output", 0) if number else 0
            agent.until(lambda page, b=before: counted(page, "llm/chat-0").get("output", 0) > b + 100)
            api.terminate("chat-0")
            proxies[number].upstream = "http://127.0.0.1:9/metrics"  # it has stopped
            api.remove("chat-0")
        agents = {"n1": here, "n2": there}
        for node, agent in agents.items():
            agent.until(lambda page: not page.rows(UP))
            served = [
                moved(proxy, since_first=False)
                for proxy, where in zip(proxies, ("n1", "n1", "n2"), strict=True)
                if where == node
            ]
            total = {kind: sum(each[kind] for each in served) for kind in served[0]}
            assert counted(agent.page(), "llm/chat-0") == total


def test_an_agent_that_was_away_takes_pods_up_where_it_left_them(tmp_path):
    """Killed and started again, it goes on counting; without the key nothing is looked for."""
    with ApiServer() as api, Engines(tmp_path / "a.log", 1, 40.0) as engine, Proxy(engine.urls[0]) as proxy:
        api.add(api_pod("chat-0", port_of(proxy), owner=("StatefulSet", "chat"), gpus=4))
        flag = flag_of(tmp_path, api, kubernetes={"api_url": api.url, "namespaces": ["llm"]})
        with Agent(tmp_path / "1.log", flag) as agent:
            agent.until(lambda page: counted(page, "llm/chat-0").get("output", 0) > 100)
        with Agent(tmp_path / "2.log", flag) as agent:
            agent.until(lambda page: counted(page, "llm/chat-0").get("output", 0) > 300)
            engine.kill()
            agent.until(lambda page: page.sum(UP, engine="llm/chat-0") == 0)
            page = agent.page()
            assert counted(page, "llm/chat-0") == moved(proxy, since_first=True)
            seconds = page.sum("inferometer_gpu_seconds_total", workload="llm/chat")
            money = page.sum("inferometer_cost_total", workload="llm/chat")
            assert money == pytest.approx(seconds * 3.6 / 3600), "four GPUs, as the pod asks for"
            flag_of(tmp_path, api, kubernetes=None)
            agent.hangup()
            agent.until(lambda page: not page.rows(UP))


# -- the rules


def one(name="chat-0", *, uid="u1", port=8000, **more):
    more = {"workload": "llm/chat", "gpus": 2} | more
    return ServingPod("llm", name, uid, url=f"http://10.0.0.1:{port}/metrics", **more)


def seen(at, *pods, **more):
    return Pods("kubernetes", at, pods=pods, since=1.0, **more)


def page(at, engine="llm/chat-0", error=""):
    return EngineSignal(engine, at, error)


def settings(tmp_path, **more):
    file = tmp_path / "c.yaml"
    kept = {"kubernetes": {"node": "n1"}} | more
    file.write_text(json.dumps({key: value for key, value in kept.items() if value is not None}))
    return config.load(str(file), {}, {})


def engines(discovery, given):
    return {w.name: [engine.name or engine.url for engine in w.engines] for w in discovery.joined(given).workloads}


def test_pods_become_engines_of_the_workload_that_owns_them(tmp_path):
    """One that is configured by that name keeps its price and its own engines; a page is never read twice."""
    listed = {"name": "llm/chat", "price": "p", "engines": [{"url": "http://10.0.0.1:8000/metrics"}]}
    given = settings(tmp_path, workloads=[listed], prices={"p": {"gpu_hour": 1}})
    discovery = Discovery()
    assert discovery.see(
        seen(2, one(), one("chat-1", uid="u2", port=8001), one("b-0", uid="u3", port=1, workload="llm/b"))
    )
    assert engines(discovery, given) == {
        "llm/chat": ["http://10.0.0.1:8000/metrics", "llm/chat-1"],
        "llm/b": ["llm/b-0"],
    }
    joined = discovery.joined(given).workloads[0]
    assert (joined.price, joined.engines[1].pod, joined.engines[1].gpus) == ("p", "llm/chat-1", None)
    assert not discovery.see(
        seen(3, one(), one("chat-1", uid="u2", port=8001), one("b-0", uid="u3", port=1, workload="llm/b"))
    )
    assert discovery.engines_since()["llm/chat-1"] == 1.0


def test_where_no_node_is_named_pods_hold_what_they_ask_for(tmp_path):
    discovery = Discovery()
    discovery.see(seen(2, one()))
    assert discovery.joined(settings(tmp_path, kubernetes={})).workloads[0].engines[0].gpus == 2


def test_without_the_key_nothing_is_joined(tmp_path):
    discovery = Discovery()
    discovery.see(seen(2, one()))
    given = settings(tmp_path, kubernetes=None)
    assert discovery.joined(given) is given


@pytest.mark.parametrize("last", [(one(ending=True),), ()], ids=["terminating", "forgotten"])
def test_a_pod_that_ends_is_read_until_it_refuses(tmp_path, last):
    """And then no more, though the cluster may go on to list it; its workload stays for an hour."""
    discovery, given = Discovery(), settings(tmp_path)
    discovery.see(seen(2, one()))
    assert not discovery.see_page(page(3, error="refused")), "one that is not ending is restarting"
    discovery.see(seen(4, *last))
    assert not discovery.see_page(page(5))
    assert engines(discovery, given) == {"llm/chat": ["llm/chat-0"]}
    assert discovery.see_page(page(6, error="refused"))
    discovery.see(seen(7, *last))
    assert engines(discovery, given) == {"llm/chat": []}
    discovery.see(seen(3599))
    assert engines(discovery, given) == {"llm/chat": []}
    discovery.see(seen(3606))
    assert engines(discovery, given) == {}


def test_a_pod_that_is_forgotten_and_answers_on_is_not_read_for_ever(tmp_path):
    discovery = Discovery()
    discovery.see(seen(2, one()))
    discovery.see(seen(3))
    assert not discovery.see_page(page(123))
    assert discovery.see_page(page(124))
    assert engines(discovery, settings(tmp_path)) == {"llm/chat": []}


@pytest.mark.parametrize("new", [one("chat-9", uid="u2"), one(uid="u2", port=9000)], ids=["address", "name"])
def test_an_address_or_a_name_that_is_given_again_is_the_new_pods(tmp_path, new):
    """Read as the old one, the tokens of the new one would count twice."""
    discovery = Discovery()
    discovery.see(seen(2, one()))
    discovery.see(seen(3, new))
    assert engines(discovery, settings(tmp_path)) == {"llm/chat": [new.engine]}
    assert discovery.joined(settings(tmp_path)).workloads[0].engines[0].url == new.url


def test_what_a_pod_asks_for_in_vain_is_logged_once(caplog):
    discovery = Discovery()
    discovery.see(seen(2, one(), faults=("pod llm/chat-0: annotation …",)))
    discovery.see(seen(3, one(), faults=("pod llm/chat-0: annotation …",)))
    assert [record.message for record in caplog.records] == ["pod llm/chat-0: annotation …"]
