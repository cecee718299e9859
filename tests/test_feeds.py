"""Prices from where they are kept: read, dated, refreshed, kept when a reading fails, and never guessed."""

import contextlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from inferometer.errors import SourceError
from inferometer.model import Page, Series
from inferometer.sources.gpu_prices import NODE_PRICE, catalog_price, opencost_price
from live import Agent, eventually, inferometer_says
from readings import scraped

RECORDING = Path(__file__).parent / "recordings" / "vllm-0.32-closed-loop"
CATALOG = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,AvailabilityZone
p5.48xlarge,H100,8.0,192.0,2048.0,40.0,16.0,us-east-1,us-east-1a
p5.48xlarge,H100,8.0,192.0,2048.0,40.0,16.0,us-east-1,us-east-1b
p5.48xlarge,H100,8.0,192.0,2048.0,48.0,,eu-north-1,eu-north-1a
p5.4xlarge,H100,1.0,16.0,256.0,6.0,2.0,us-east-1,us-east-1a
m5.large,,,2.0,8.0,0.096,0.04,us-east-1,us-east-1a
"""


@pytest.fixture
def catalog(tmp_path):
    path = tmp_path / "vms.csv"
    path.write_text(CATALOG)
    return path


# -- a catalog


@pytest.mark.parametrize(
    ("wanted", "spot", "price"),
    [
        ({"InstanceType": "p5.48xlarge", "Region": "us-east-1"}, False, 5.0),
        ({"InstanceType": "p5.48xlarge", "Region": "us-east-1"}, True, 2.0),
        ({"InstanceType": "p5.48xlarge"}, True, 2.0),
        ({"AcceleratorName": "H100", "Region": "eu-north-1"}, False, 6.0),
        ({"AcceleratorName": "H100", "InstanceType": "p5.4xlarge"}, False, 6.0),
    ],
)
def test_a_catalog_gives_the_instance_s_price_over_its_gpus(catalog, wanted, spot, price):
    """40.00 for eight GPUs are 5.00 each; the same price in two zones is one price; no spot price is none."""
    assert catalog_price(catalog, wanted, spot=spot) == price


@pytest.mark.parametrize(
    ("wanted", "reason", "sentence"),
    [
        ({"AcceleratorName": "H100"}, "several_prices", "AcceleratorName=H100 has 2 prices (5, 6); choose by region"),
        ({"AcceleratorName": "H200"}, "no_price", "there is no price for AcceleratorName=H200"),
        ({"InstanceType": "m5.large"}, "no_price", "there is no price for InstanceType=m5.large"),
    ],
)
def test_what_leads_to_no_one_price_is_an_error(catalog, wanted, reason, sentence):
    """Of two prices none is the right one by chance."""
    with pytest.raises(SourceError, match=re.escape(sentence)) as raised:
        catalog_price(catalog, wanted, spot=False)
    assert raised.value.reason == reason


def test_what_is_no_catalog_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        catalog_price(tmp_path / "none.csv", {}, spot=False)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="has no column InstanceType; it is no SkyPilot catalog"):
        catalog_price(tmp_path / "other.csv", {}, spot=False)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="is no CSV file"):
        catalog_price(tmp_path / "binary.csv", {}, spot=False)


# -- OpenCost


def node(name, price, **labels):
    return (Series(NODE_PRICE, (("node", name), *labels.items())), price)


def test_opencost_is_per_gpu_and_nodes_without_gpus_do_not_count():
    """The gauge of a node with eight GPUs is what one of them costs."""
    page = scraped("opencost", 0.0, (node("gpu-1", 2.5), node("gpu-2", 2.5), node("cpu-1", 0.0)))
    assert opencost_price(page, {}) == 2.5
    page = scraped("opencost", 0.0, (node("gpu-1", 2.5), node("gpu-2", 3.5, region="x")))
    assert opencost_price(page, {"node": "gpu-2"}) == opencost_price(page, {"region": "x"}) == 3.5
    with pytest.raises(SourceError, match=re.escape("anything has 2 prices (2.5, 3.5); choose by node or instance")):
        opencost_price(page, {})
    with pytest.raises(SourceError, match="there is no price for node=gpu-9"):
        opencost_price(page, {"node": "gpu-9"})
    with pytest.raises(SourceError, match="down"):
        opencost_price(Page("opencost", 0.0, "refused", detail="down"), {})


@contextlib.contextmanager
def opencost():
    """A page like OpenCost's, whose price can be changed; None answers 503."""
    state = {"price": 2.0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            price = state["price"]
            body = f'# TYPE {NODE_PRICE} gauge\n{NODE_PRICE}{{node="gpu-1"}} {price}\nup 1\n'.encode()
            self.send_response(200 if price is not None else 503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics", state
    finally:
        server.shutdown()
        server.server_close()


def config(path, prices, name="listed"):
    workloads = f"[{{name: chat, engines: [], gpus: 1, price: {name}}}]"
    path.write_text(f"interval: 100ms\nworkloads: {workloads}\nprices: {json.dumps(prices)}\n")
    return path


def priced(agent):
    """The price of the workload, None while it has none."""
    rows = agent.page().rows("inferometer_gpu_hourly_price", workload="chat")
    return rows[0].value if rows else None


def seen(agent):
    """What the agent's API says of prices, sources and what is missing."""
    body = json.loads(agent.get("/api/v1/snapshot")[1])
    return {price["name"]: price for price in body["prices"]}, {s["source"]: s for s in body["sources"]}, body["hints"]


def test_a_price_of_opencost_is_refreshed_and_outlives_its_source(tmp_path):
    """The first settled second has a price; a new one is charged from then on; a failure keeps it and says so."""
    with opencost() as (url, state):
        file = config(tmp_path / "a.yaml", {"listed": {"from": {"opencost": url, "refresh": "100ms"}}})
        with Agent(tmp_path / "log", "--config.file", file) as agent:
            agent.ready()
            assert priced(agent) == 2.0
            prices, sources, hints = seen(agent)
            assert (prices["listed"]["gpu_hour"], prices["listed"]["source"]) == (2.0, url)
            assert prices["listed"]["at"] > 1.7e9
            assert sources["prices.listed"]["up"] is True
            assert not any("prices.listed" in hint for hint in hints)
            state["price"] = 3.0
            eventually(lambda: priced(agent) == 3.0, "the new price")
            state["price"] = None
            (hint,) = eventually(lambda: [h for h in seen(agent)[2] if "prices.listed" in h], "a hint")
            assert re.fullmatch(r"prices\.listed: the price of \S+ \S+ UTC is charged on: .*answered 503", hint)
            assert priced(agent) == 3.0
            page = agent.page()
            assert page.sum("inferometer_source_up", source="prices.listed") == 0
            assert page.sum("inferometer_source_errors_total", source="prices.listed", reason="status") >= 1
            assert page.sum("inferometer_price_missing", workload="chat") == 0


def test_a_price_that_was_never_read_is_missing_and_no_default(tmp_path, catalog):
    """No cost at all, a gauge and a sentence; when the file is good, the price is there without a restart."""
    choice = {"csv": "vms.csv", "accelerator": "H100", "refresh": "100ms"}
    file = config(tmp_path / "a.yaml", {"listed": {"from": choice}, "default": {"gpu_hour": 9}})
    with Agent(tmp_path / "log", "--config.file", file) as agent:
        agent.ready()
        page = agent.page()
        assert page.sum("inferometer_price_missing", workload="chat") == 1
        assert not page.rows("inferometer_cost_total", workload="chat")
        prices, _, hints = seen(agent)
        assert prices["listed"]["gpu_hour"] is prices["listed"]["at"] is None
        assert prices["default"] == {"name": "default", "source": "configuration", "gpu_hour": 9.0, "at": None}
        (hint,) = [hint for hint in hints if hint.startswith("prices.listed")]
        assert "it was never read, so what it prices costs nothing yet: " in hint
        assert "has 2 prices (5, 6); choose by region or instance" in hint
        catalog.write_text("\n".join(CATALOG.splitlines()[:2]) + "\n")
        eventually(lambda: priced(agent) == 5.0, "the price")
        eventually(lambda: agent.page().rows("inferometer_cost_total", workload="chat"), "cost")


def test_a_source_that_hangs_delays_neither_start_nor_ticks(tmp_path):
    """A server that accepts and says nothing: the agent is ready, counts GPU time, and has no price."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"
        file = config(tmp_path / "a.yaml", {"listed": {"from": {"opencost": url}}})
        with Agent(tmp_path / "log", "--config.file", file) as agent:
            agent.ready()
            eventually(lambda: (agent.page().sum("inferometer_gpu_seconds_total") or 0) > 0.5, "time goes on")
            assert agent.page().sum("inferometer_price_missing", workload="chat") == 1


def test_a_reload_changes_where_a_price_is_from(tmp_path, catalog):
    """From a number to a catalog row to another row; a reload that fails keeps the price that runs."""
    file = config(tmp_path / "a.yaml", {"listed": {"gpu_hour": 1}})
    with Agent(tmp_path / "log", "--config.file", file) as agent:
        agent.ready()
        assert priced(agent) == 1.0
        for choice, price in (({"instance": "p5.4xlarge"}, 6.0), ({"instance": "p5.48xlarge", "spot": True}, 2.0)):
            config(file, {"listed": {"from": {"csv": str(catalog), **choice}}})
            assert agent.get("/-/reload", "POST")[0] == 200
            eventually(lambda wanted=price: priced(agent) == wanted, f"{price}")
        file.write_text("interval: 0s\n")
        assert agent.get("/-/reload", "POST")[0] != 200
        assert priced(agent) == 2.0


def test_a_replay_reads_prices_once_or_says_why_not(tmp_path, catalog):
    """Money of a replay is never at a price that nobody read."""
    source = (RECORDING / "index.tsv").read_text().splitlines()[1].split("\t")[1]
    head = f'workloads: [{{name: chat, engines: [{{url: "recording:{source}"}}], gpus: 1, price: listed}}]\n'
    file = tmp_path / "a.yaml"
    costs = {}
    for name, price in (("fixed", "{gpu_hour: 6}"), ("feed", "{from: {csv: vms.csv, instance: p5.4xlarge}}")):
        file.write_text(f"{head}prices: {{listed: {price}}}\n")
        code, out, errors = inferometer_says("replay", RECORDING, "--config.file", file, "--format", "json")
        assert (code, errors) == (0, "")
        costs[name] = json.loads(out)["workloads"]["chat"]["totals"]["cost"]["total"]
    assert costs["feed"] == costs["fixed"] > 0
    catalog.unlink()
    code, out, errors = inferometer_says("replay", RECORDING, "--config.file", file)
    assert (code, out) == (1, "")
    assert errors.startswith("prices.listed.from: ")
    assert "No such file or directory; check the path" in errors
