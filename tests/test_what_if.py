"""What-if: each column says what a replay with that price or SLO says, and a busy share moves the bill by 1 ÷ share."""

import json
import re
from pathlib import Path

import pytest
from inferometer.app.what_if import Change, change
from inferometer.errors import ConfigError
from live import Page, inferometer_says

RECORDING = Path(__file__).parent / "recordings" / "vllm-0.32-closed-loop"
FLAGS = ("--gpus", "2", "--price.gpu-hour", "2.50", "--slo.ttft", "500ms", "--slo.tpot", "50ms")
SLOS = "slo.ttft=1s,slo.tpot=200ms"


@pytest.fixture(scope="module")
def columns():
    changes = ("price.gpu-hour=1.25", SLOS, "busy=0.5", "gpus=1", f"busy=1,price.gpu-hour=5,{SLOS}")
    asked = [word for each in changes for word in ("--with", each)]
    code, out, errors = inferometer_says("what-if", RECORDING, *FLAGS, *asked, "--format", "json")
    assert (code, errors) == (0, "")
    body = json.loads(out)
    assert body["currency"] == "USD"
    assert [row["change"] for row in body["outcomes"]] == ["as it is", *changes]
    return {row["change"]: row for row in body["outcomes"]}


def test_half_the_price_or_the_gpus_is_half_the_bill(columns):
    """And nothing else changes."""
    base = columns["as it is"]
    for other in (columns["price.gpu-hour=1.25"], columns["gpus=1"]):
        for name in ("cost", "cost_per_million_tokens", "cost_per_good_request_lower"):
            assert other[name] == pytest.approx(base[name] / 2, rel=1e-9), name
        assert (other["good_ratio_lower"], other["busy_share"]) == (base["good_ratio_lower"], base["busy_share"])


def test_a_column_is_what_a_replay_says(columns):
    """The same pipeline, so the same counts to the last request."""
    flags = ("--gpus", "2", "--price.gpu-hour", "2.50", "--slo.ttft", "1s", "--slo.tpot", "200ms")
    page = Page(inferometer_says("replay", RECORDING, *flags, "--format", "metrics")[1])
    judged, tokens = page.sum("inferometer_slo_requests_total"), page.sum("inferometer_tokens_total")
    cost, other = page.sum("inferometer_cost_total"), columns[SLOS]
    assert other["judged_requests"] == judged > 0
    assert other["cost"] == pytest.approx(cost, rel=1e-9)
    assert other["cost_per_million_tokens"] == pytest.approx(cost / tokens * 1e6, rel=1e-9)
    assert other["good_ratio_lower"] == page.sum("inferometer_good_requests_lower_total") / judged
    assert other["good_ratio_lower"] > columns["as it is"]["good_ratio_lower"]


def test_a_busy_share_moves_the_bill_and_hides_goodput(columns):
    """GPUs busy half as much cost twice as much per token; what latencies would be then, no recording tells."""
    base, other = columns["as it is"], columns["busy=0.5"]
    assert other["cost_per_million_tokens"] == pytest.approx(
        base["cost_per_million_tokens"] * base["busy_share"] / 0.5, rel=1e-9
    )
    assert other["judged_requests"] is other["good_ratio_lower"] is other["cost_per_good_request_upper"] is None
    both = columns[f"busy=1,price.gpu-hour=5,{SLOS}"]
    assert both["cost"] == pytest.approx(2 * base["cost"] * base["busy_share"], rel=1e-9)


def test_prices_of_a_file_by_name_and_over_them(tmp_path):
    """A price on the command line is meant for every workload, also where the file gives each its own."""
    file = tmp_path / "agent.yaml"
    source = (RECORDING / "index.tsv").read_text().splitlines()[1].split("\t")[1]
    file.write_text(
        f'workloads: [{{name: chat, engines: [{{url: "recording:{source}"}}], gpus: 1, price: dear}}]\n'
        "prices: {dear: {gpu_hour: 8}, cheap: {gpu_hour: 2}}\n"
    )
    asked = ("--with", "price=cheap", "--with", "price.gpu-hour=1")
    code, out, errors = inferometer_says("what-if", RECORDING, "--config.file", file, *asked, "--format", "json")
    assert (code, errors) == (0, "")
    costs = [row["cost"] for row in json.loads(out)["outcomes"]]
    assert costs == [pytest.approx(costs[0] / part, rel=1e-9) for part in (1, 4, 8)]
    code, out, errors = inferometer_says("what-if", RECORDING, "--config.file", file, "--with", "price=free")
    assert (code, out) == (1, "")
    assert "there is no 'free' under prices" in errors


def test_the_table_has_a_column_for_each_change():
    """Side by side for people, with a note where a busy share was asked for."""
    code, out, errors = inferometer_says("what-if", RECORDING, *FLAGS, "--with", "busy=0.5", "--with", SLOS)
    assert (code, errors) == (0, "")
    head, *rows = out.splitlines()
    assert re.split(r"\s{2,}", head) == ["default (USD)", "as it is", "busy=0.5", SLOS]
    good = next(row for row in rows if row.startswith("good requests"))
    assert re.split(r"\s{2,}", good)[2] == "-"
    assert "goodput at another load is not known" in out
    assert "not known" not in inferometer_says("what-if", RECORDING, *FLAGS)[1]


def test_changes_are_read_as_they_are_typed():
    """A comma inside a value stays in it."""
    typed = "gpus=GPU-a,GPU-b,slo.ttft=1s,busy=0.6,price=spot"
    assert change(typed) == Change(typed, {"gpus": "GPU-a,GPU-b", "slo.ttft": "1s"}, "spot", 0.6)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("slo.tftt=1s", "did you mean slo.ttft?"),
        ("price", "write KEY=VALUE"),
        ("slo.ttft=", "write KEY=VALUE"),
        ("busy=2", "busy is a share above 0 and at most 1"),
        ("busy=much", "busy is a share above 0 and at most 1"),
        ("storage.path=x", "write KEY=VALUE with a key of gpus, price.gpu-hour,"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(typed, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        change(typed)
