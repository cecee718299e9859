"""A whole agent on a machine with GPUs: a driver in C, a kubelet over gRPC, dcgm-exporter's page, RAPL's files."""

import asyncio
import contextlib
import gzip
import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fakenvml import Driver, build
from kubelet import Kubelet, listing, pod
from live import Agent, Engines, eventually

POWER_PAGE = gzip.decompress((Path(__file__).parent / "pages" / "dcgm-exporter.prom.gz").read_bytes())
GPU = "nvidia.com/gpu"
JOULES, DEVICE_JOULES = "inferometer_energy_joules_total", "inferometer_gpu_energy_joules_total"
UNATTRIBUTED = "(unattributed)"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library, tmp_path):
    """Two GPUs whose meters stand at 1,000 J."""
    shutil.copy(library, tmp_path)
    return Driver(tmp_path, gpus=2)


def run_meters(driver, watts):
    for card, drawn in zip(driver.world.gpus, watts, strict=False):
        card.watts = drawn
        card.since = time.clock_gettime(time.CLOCK_BOOTTIME)


def stop_meters(driver):
    """They keep what they have shown last."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for card in driver.world.gpus[:2]:
        card.joules += card.watts * (now - card.since)
        card.since = 0.0


def configured(tmp_path, **more):
    file = tmp_path / "inferometer.yaml"
    settings = {"interval": "100ms", "prices": {"default": {"gpu_hour": 3.6}}, "storage": {"path": "ledger"}} | more
    settings["storage"]["path"] = str(tmp_path / "ledger")
    file.write_text(json.dumps(settings))
    return f"--config.file={file}"


def held(page):
    return {(row.labels["workload"], row.labels["gpu"]): row.value for row in page.rows("inferometer_gpu_share_ratio")}


def rapl(tmp_path, microjoules):
    """A package zone and the memory below it."""
    root = tmp_path / "powercap"
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")):
        (root / zone).mkdir(parents=True, exist_ok=True)
        (root / zone / "name").write_text(name)
        (root / zone / "max_energy_range_uj").write_text("1000000000")
        (root / zone / "energy_uj").write_text(str(microjoules))
    return root


def test_joules_add_up_from_the_meters_to_the_tokens(driver, tmp_path):
    """Workload and (unattributed) have what the two meters counted, to 1e-9; host, overhead and boundaries beside them.

    The agent is killed in between: what the meters counted meanwhile is there afterwards.
    """
    root = rapl(tmp_path, 0)
    with Engines(tmp_path / "engines.log", 1, 20.0) as engines:
        flag = configured(
            tmp_path,
            workloads=[{"name": "chat", "engines": [{"url": engines.urls[0]}], "gpus": ["GPU-0"]}],
            electricity={"price_per_kwh": 0.12, "pue": 1.5},
            host={"rapl": str(root)},
        )
        with Agent(tmp_path / "agent.log", flag, **driver.environ) as agent:
            agent.until(lambda page: page.sum(DEVICE_JOULES) == 2_000)
            run_meters(driver, (300.0, 100.0))
            agent.until(lambda page: (page.sum(JOULES, component="gpu") or 0) > 100)
            agent.kill()
        time.sleep(0.5)
        with Agent(tmp_path / "agent.log", flag, **driver.environ) as agent:
            agent.ready()
            rapl(tmp_path, 50_000_000)
            agent.until(lambda page: page.sum(JOULES, component="host") == 100)
            stop_meters(driver)
            counted = agent.until(
                lambda page: page.sum(JOULES, component="gpu") == pytest.approx(page.sum(DEVICE_JOULES) - 2_000)
            )
            by_gpu = {row.labels["gpu"]: row.value - 1_000 for row in counted.rows(DEVICE_JOULES)}
            mine, nobodys = (counted.sum(JOULES, component="gpu", workload=name) for name in ("chat", UNATTRIBUTED))
            assert (mine, nobodys) == (pytest.approx(by_gpu["GPU-0"]), pytest.approx(by_gpu["GPU-1"]))
            assert mine == pytest.approx(3 * nobodys, rel=0.02)
            total = counted.sum(JOULES)
            assert counted.sum(JOULES, component="overhead") == pytest.approx(total / 3)
            boundaries = {
                row.labels["boundary"]: row.value
                for row in counted.rows("inferometer_energy_per_token_joules", tokens="all", window="1m")
            }
            assert boundaries["gpu"] < boundaries["it"] < boundaries["facility"]
            assert boundaries["facility"] == pytest.approx(1.5 * boundaries["it"])
            assert held(counted) == {("chat", "GPU-0"): 1, (UNATTRIBUTED, "GPU-1"): 1}
            assert counted.sum("inferometer_cost_total", workload=UNATTRIBUTED) > 0


def test_a_driver_that_is_reloaded_and_one_that_is_released(driver, tmp_path):
    """A counter that fell is one reset, and what it shows is counted; a release lets go of the driver for a while."""
    run = ("--interval", "100ms", "--gpus", "all", "--engine.url", "http://127.0.0.1:9/metrics")
    with Agent(tmp_path / "agent.log", *run, **driver.environ) as agent:
        agent.until(lambda page: page.sum(DEVICE_JOULES) == 2_000)
        driver[0].joules = 7.0
        page = agent.until(lambda page: page.sum("inferometer_resets_total", source="nvml"))
        assert page.sum("inferometer_resets_total", source="nvml") == 1
        assert agent.until(lambda page: page.sum(JOULES, component="gpu")).sum(JOULES, component="gpu") == 7
        assert agent.get("/-/release?seconds=1", "POST") == (200, "the GPU driver is released for 1 s\n")
        assert driver.world.users == 0
        agent.until(lambda page: page.sum("inferometer_source_up", source="nvml") == 0)
        agent.until(lambda page: page.sum("inferometer_source_up", source="nvml") == 1)
        assert driver.world.users == 1


@contextlib.contextmanager
def running(kubelet, path):
    """The kubelet in a thread of its own."""
    loop, ended, listens = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def live():
        async with kubelet.serving(path):
            listens.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    listens.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_gpu_that_moves_to_another_pod(driver, tmp_path):
    """The kubelet says who holds what; the node's agent follows without a restart, and each second is paid once."""
    path = tmp_path / "kubelet.sock"
    kubelet = Kubelet(listing(pod("a-0", {GPU: ["GPU-0"]})))
    dead = "http://127.0.0.1:9/metrics"
    flag = configured(
        tmp_path,
        gpu={"pod_resources": str(path)},
        workloads=[
            {"name": "a", "engines": [{"url": dead, "pod": "prod/a-0"}]},
            {"name": "b", "engines": [{"url": dead.replace(":9", ":19"), "pod": "prod/b-0"}]},
        ],
    )
    node = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NODE_NAME": "n"}
    with running(kubelet, path), Agent(tmp_path / "agent.log", flag, **driver.environ, **node) as agent:
        first = {("a", "GPU-0"): 1, (UNATTRIBUTED, "GPU-1"): 1}
        agent.until(lambda page: held(page) == first)
        kubelet.listed = listing(pod("b-0", {GPU: ["GPU-0", "GPU-1"]}))
        page = agent.until(lambda page: held(page) == {("b", "GPU-0"): 1, ("b", "GPU-1"): 1})
        before = page.sum("inferometer_gpu_seconds_total", workload="a")
        page = agent.until(lambda page: (page.sum("inferometer_gpu_seconds_total", workload="b") or 0) > 1)
        assert page.sum("inferometer_gpu_seconds_total", workload="a") == before
        money = page.sum("inferometer_cost_total")
        assert money == pytest.approx(page.sum("inferometer_gpu_seconds_total") * 3.6 / 3600)


class _Exporter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(POWER_PAGE)))
        self.end_headers()
        self.wfile.write(POWER_PAGE)

    def log_message(self, *_):
        """Not on the test's output."""


def test_the_page_of_dcgm_exporter_over_http(tmp_path):
    """A sidecar that reads its node's exporter shows every GPU, and holds those of its own pod."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Exporter)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        flag = configured(
            tmp_path,
            gpu={"sources": ["dcgm"], "dcgm_url": "http://$(NODE_IP):$(DCGM_PORT)/metrics"},
            workloads=[{"name": "chat", "engines": [{"url": "http://127.0.0.1:9/metrics"}]}],
        )
        pod_of = POWER_PAGE.decode().partition('namespace="')[2]
        namespace, name = pod_of.partition('"')[0], pod_of.partition('pod="')[2].partition('"')[0]
        environ = {
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "POD_NAMESPACE": namespace,
            "POD_NAME": name,
            "NODE_IP": "127.0.0.1",
            "DCGM_PORT": str(server.server_port),
        }
        with Agent(tmp_path / "agent.log", flag, **environ) as agent:
            page = agent.until(lambda page: len(page.rows("inferometer_gpu_power_watts")) == 8)
            own = {row.labels["workload"] for row in page.rows("inferometer_gpu_share_ratio")}
            assert own == {"chat"}
            assert page.rows("inferometer_gpu_info")[0].labels["driver"] == "590.48.01"
            source = f"http://127.0.0.1:{server.server_port}/metrics"
            assert page.sum("inferometer_source_up", source=source) == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_library_that_appears_is_used(library, tmp_path):
    """The agent starts before the driver's library is there; the next attempt finds it."""
    (tmp_path / "driver").mkdir()
    driver = Driver(tmp_path / "driver")
    run = ("--interval", "100ms", "--gpus", "all", "--engine.url", "http://127.0.0.1:9/metrics")
    with Agent(tmp_path / "agent.log", *run, **driver.environ) as agent:
        agent.until(lambda page: page.sum("inferometer_source_up", source="nvml") == 0)
        shutil.copy(library, driver.folder)
        assert agent.get("/-/release?seconds=0.1", "POST")[0] == 200
        eventually(lambda: agent.page().sum("inferometer_source_up", source="nvml") == 1, seconds=90)
