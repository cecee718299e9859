"""Reports: every figure against one worked out by hand, the formats against golden files, FOCUS against its columns."""

import csv
import io
import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import books
import pytest
from inferometer.app.report import Question, answer
from inferometer.errors import ConfigError
from live import Agent, Engines, inferometer_says

HERE = Path(__file__).parent
NOW = books.START + books.HOURS * books.HOUR  # the end of 2 November
LIST = {"models": {"big": {"input": 1, "input_cached": 0.5, "output": 4}, "vendor/small": {"input": 0.5, "output": 2}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return books.write(tmp_path_factory.mktemp("ledger"))


def said(folder, now=NOW, **question):
    out = io.StringIO()
    answer(Question(folder, **question), now, out)
    return out.getvalue()


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# -- figures


def test_a_day_of_a_workload(folder):
    """24 h × 4.00 over 24 × 2 M tokens; a quarter of it idle; 48 GPU-hours; the bounds of good requests."""
    (day,) = [line for line in json.loads(said(folder, form="json"))["lines"] if line["day"] == "2026-10-30"]
    assert day["workload"] == "chat"
    assert (day["cost"], day["cost_busy"], day["cost_idle"]) == (96.0, 72.0, 24.0)
    assert (day["gpu_hours"], day["busy_gpu_hours"]) == (48.0, 36.0)
    assert (day["input_uncached_tokens"], day["input_cached_tokens"], day["output_tokens"]) == (28.8e6, 9.6e6, 9.6e6)
    assert day["cost_per_million_tokens"] == pytest.approx(96 / 48, rel=1e-9)
    assert day["cost_per_million_output_tokens"] == pytest.approx(96 / 9.6, rel=1e-9)
    assert (day["requests"], day["judged_requests"]) == (240.0, 240.0)
    assert (day["good_requests_lower"], day["good_requests_upper"]) == (192.0, 216.0)
    assert (day["joules"], day["carbon_grams"]) == (48e6, 6000.0)


def test_the_total_is_a_ratio_of_sums(folder):
    """4 × 96 + 48 over 4 × 48 M tokens, not the mean of what the lines say."""
    total = json.loads(said(folder, form="json"))["total"]
    assert total["cost"] == 432.0
    assert total["cost_per_million_tokens"] == pytest.approx(432 / 192, rel=1e-9)


@pytest.mark.parametrize("by", [("model",), ("workload", "model"), ("day", "workload", "model"), ("day",), ()])
def test_every_cut_adds_up_to_the_bill(folder, by):
    """By model the money of idle time stands on a line without a model."""
    report = json.loads(said(folder, by=by, form="json"))
    assert sum(line["cost"] for line in report["lines"]) == pytest.approx(432, rel=1e-12)
    assert sum(line["output_tokens"] for line in report["lines"]) == 38.4e6
    assert sum(line["joules"] or 0 for line in report["lines"]) == 192e6


def test_by_model(folder):
    lines = {line["model"]: line for line in json.loads(said(folder, by=("model",), form="json"))["lines"]}
    assert {model: line["cost"] for model, line in lines.items()} == {"": 144.0, "big": 168.0, "small": 120.0}
    assert lines["big"]["cost_per_million_tokens"] == pytest.approx(1.75 / 1.2, rel=1e-9)
    assert lines["big"]["gpu_hours"] is None
    assert lines[""]["cost_idle"] == 144.0


def test_days_are_those_of_the_timezone(folder):
    """In Berlin (UTC+1) the first hour of a UTC day is the second of the day; four days touch five."""
    days = {line["day"] for line in json.loads(said(folder, form="json", timezone="Europe/Berlin"))["lines"]}
    assert days == {"2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"}


def test_month_to_date_and_forecast(folder):
    """Two days of November at 96 and 48 for batch; the pace is of all hours but the first, which is a part of one."""
    months = {month["workload"]: month for month in json.loads(said(folder, form="json"))["months"]}
    assert months["chat"]["month"] == "2026-11"
    assert (months["chat"]["spent"], months["chat"]["hours_left"]) == (192.0, 28 * 24.0)
    assert (months["chat"]["pace_hours"], months["chat"]["per_hour"]) == (95.0, 4.0)
    assert months["chat"]["forecast"] == pytest.approx(192 + 4 * 28 * 24, rel=1e-9)
    assert months["batch"]["forecast"] == pytest.approx(48 + 2 * 28 * 24, rel=1e-9)


def test_since_and_until_choose_whole_days(folder):
    lines = json.loads(said(folder, since="2026-10-31", until="2026-11-01", form="json"))["lines"]
    assert [(line["day"], line["cost"]) for line in lines] == [("2026-10-31", 96.0)]


# -- against a price list


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(json.dumps(LIST))
    return path


def test_against_a_price_list(folder, prices):
    """An hour there: 0.6 × 1 + 0.4 × 0.5 + 0.2 × 4 for big, 0.6 × 0.5 + 0.2 × 2 for small: 2.30; here 4.00."""
    (found,) = json.loads(said(folder, form="json", against=prices))["versus"]
    assert found["workload"] == "chat", "batch had no tokens to compare"
    assert found["priced_as"] == ["big", "vendor/small"]
    assert (found["cost"], found["list_cost"]) == (384.0, pytest.approx(96 * 2.3, rel=1e-9))
    assert (found["gpus"], found["busy_share"]) == (2.0, 0.75)
    # 2.00 a GPU-hour held; 2 M tokens in 1.5 busy GPU-hours, worth 2.30 there: 2.30 / 1.5 a busy GPU-hour
    assert found["break_even_busy_share"] == pytest.approx(2 / (2.3 / 1.5), rel=1e-9)
    assert found["break_even_tokens_per_month"] == pytest.approx(730 * 4 / (2.3 / 2e6), rel=1e-9)


def test_at_the_break_even_both_cost_the_same(folder, tmp_path):
    """A list on which owning wins: at the share and the tokens that are named, a month costs the same on both sides."""
    path = tmp_path / "dear.yaml"
    path.write_text("models: {any: {input: 4, output: 16}}")
    (found,) = json.loads(said(folder, form="json", against=path, like="any"))["versus"]
    each = found["list_cost"] / found["tokens"]
    assert found["break_even_tokens_per_month"] * each == pytest.approx(730 * 2 * 2.0, rel=1e-9)
    per_busy_hour = 2e6 / 1.5
    share = found["break_even_busy_share"]
    assert share < found["busy_share"]
    assert share * per_busy_hour * 2 * 730 == pytest.approx(found["break_even_tokens_per_month"], rel=1e-9)
    assert f"owning wins from a busy share of {share:.1%} on" in said(folder, against=path, like="any")


def test_litellm_s_map_is_taken_as_it_is(folder, tmp_path):
    """Its prices are per token; its first entry documents the format and is no model; no cached price: the input's."""
    path = tmp_path / "model_prices_and_context_window.json"
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6, "litellm_provider": "x", "mode": "chat"}
    body = {"sample_spec": {"input_cost_per_token": "some", "output_cost_per_token": "text"}, "x/big": entry}
    path.write_text(json.dumps(body | {"small": entry | {"cache_read_input_token_cost": 5e-7}}))
    (found,) = json.loads(said(folder, form="json", against=path))["versus"]
    assert found["list_cost"] == pytest.approx(96 * (0.6 + 0.4 + 0.8 + 0.6 + 0.8), rel=1e-9)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("models: {biig: {input: 1, output: 2}}", "no price of big; did you mean biig? Choose one with --like NAME"),
        ("models: {x: {input: 1}}", "has no model with an input and an output price"),
        ("[1, 2]", "is no price list"),
        ("a: [", "cannot be read"),
        ("currency: EUR\nmodels: {big: {input: 1, output: 2}}", "its money is EUR, the ledger's is USD"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(folder, tmp_path, body, sentence):
    path = tmp_path / "list.yaml"
    path.write_text(body)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        said(folder, against=path)


# -- formats


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("table.txt", {}),
        ("by-model.txt", {"by": ("workload", "model")}),
        ("days.csv", {"form": "csv"}),
        ("report.json", {"form": "json", "by": ("workload",)}),
        ("focus.csv", {"form": "focus", "since": "2026-11-02"}),
        ("against.txt", {"by": ("workload",), "against": "prices.yaml"}),
    ],
)
def test_golden(folder, update_golden, tmp_path, name, question):
    """What people and programs read, to the byte."""
    (tmp_path / "prices.yaml").write_text(json.dumps(LIST))
    if "against" in question:
        question = question | {"against": tmp_path / question["against"]}
    text = said(folder, **question).replace(f"{tmp_path}/", "")
    golden = HERE / "golden" / "report" / name
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()


# -- FOCUS


def columns():
    with (HERE / "focus" / "columns-1.2.csv").open(newline="") as file:
        return {row["column"]: row for row in csv.DictReader(file)}


def fault(rule, value):
    """What is wrong with a value by the specification's row of its column; '' where nothing is."""
    if value == "":
        return "" if rule["allows_nulls"] == "True" else "is null"
    allowed = [word.strip() for word in rule["allowed_values"].split(";") if word.strip()]
    if allowed and value not in allowed:
        return f"{value} is not allowed"
    if not re.fullmatch(_TYPES[rule["data_type"]], value):
        return f"{value} is no {rule['data_type']}"
    if not re.fullmatch(_FORMATS.get(rule["value_format"], ".*"), value):
        return f"{value} is in no {rule['value_format']}"
    if rule["data_type"] == "JSON" and not all(isinstance(v, str | int | float) for v in json.loads(value).values()):
        return f"{value} holds more than keys and values"
    return ""


_TYPES = {
    "Decimal": r"-?\d+(\.\d+)?([Ee][+-]?\d+)?",
    "Date/Time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "String": r".*\S.*",
    "JSON": r"\{.*\}",
}
_FORMATS = {"Currency Format": "[A-Z]{3}", "Unit Format": r"[A-Z][A-Za-z]*(-(Hours|Days|Months))?"}


def test_focus_follows_the_specification(folder):
    """Every column is one of FOCUS 1.2's, every mandatory one is there, and every value is of its type and allowed."""
    charges, rules = rows(said(folder, form="focus")), columns()
    assert len(charges) == 4 * 2 + 3
    assert set(charges[0]) <= set(rules)
    mandatory = {name for name, rule in rules.items() if rule["feature_level"] == "Mandatory"}
    assert mandatory - set(charges[0]) == set()
    faults = {(name, why) for row in charges for name, value in row.items() if (why := fault(rules[name], value))}
    assert faults == set()


def test_focus_is_the_bill(folder):
    """Each of the four costs adds up to the ledger's money; a charge lies in its day, the day in its billing period."""
    charges = rows(said(folder, form="focus"))
    for column in ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"):
        assert math.fsum(float(row[column]) for row in charges) == pytest.approx(432, rel=1e-12)
    for row in charges:
        begin, end = (datetime.fromisoformat(row[f"ChargePeriod{side}"]) for side in ("Start", "End"))
        assert (end - begin).days == 1
        assert datetime.fromisoformat(row["BillingPeriodStart"]) == begin.replace(day=1)
        assert (
            datetime.fromisoformat(row["BillingPeriodStart"]) <= begin < datetime.fromisoformat(row["BillingPeriodEnd"])
        )
        assert begin.tzinfo == UTC


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("BilledCost", "1,5", "no Decimal"),
        ("BilledCost", "", "null"),
        ("ChargeCategory", "Use", "not allowed"),
        ("BillingCurrency", "usd", "in no Currency Format"),
        ("ChargePeriodStart", "2026-11-01", "no Date/Time"),
        ("PricingUnit", "GPU hours", "in no Unit Format"),
        ("Tags", '{"a": {}}', "more than keys"),
    ],
)
def test_the_check_of_focus_sees_faults(column, value, why):
    assert why in fault(columns()[column], value)


# -- the command


def test_the_command(folder, tmp_path):
    """Out of a shell, with the ledger's directory as a flag, a variable or in a file; money of October only."""
    days = ("--since", "2026-10-30", "--until", "2026-11-01", "--format", "csv")
    code, out, errors = inferometer_says("report", "--storage.path", folder, *days)
    assert (code, errors) == (0, "")
    assert [(row["day"], row["cost"]) for row in rows(out)] == [("2026-10-30", "96"), ("2026-10-31", "96")]
    file = tmp_path / "agent.yaml"
    file.write_text(f"storage: {{path: {folder}}}\n")
    assert inferometer_says("report", "--config.file", file, *days) == (0, out, "")
    assert inferometer_says("report", *days, INFEROMETER_STORAGE_PATH=str(folder)) == (0, out, "")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 1, "no ledger: give --storage.path DIR"),
        (("--storage.path", "nowhere"), 2, "cannot be read"),
        (("--storage.path", "", "--by", "moon"), 1, "--by: 'moon' is none of day, workload, model"),
        (("--storage.path", "", "--since", "soon"), 1, "--since: 'soon' is neither a duration nor a date"),
        (("--storage.path", "", "--until", "2026-10-01"), 1, "the ledger has hours from 2026-10-30 00:00 UTC to"),
        (("--storage.path", "", "--timezone", "Mars"), 1, "--timezone: is 'Mars', which is no timezone"),
    ],
)
def test_what_cannot_be_answered_says_what_to_do(folder, arguments, code, sentence):
    """Exit code 1 where the question is at fault, 2 where there is no ledger; a sentence, never a traceback."""
    got, out, errors = inferometer_says("report", *(str(folder) if word == "" else word for word in arguments))
    assert (got, out) == (code, "")
    assert sentence in errors
    assert "Traceback" not in errors


def test_a_report_says_what_the_agent_exposed(tmp_path):
    """A real agent beside a real simulated server: money, tokens and requests to the last digit, while it runs."""
    flags = ("--gpus", "2", "--price.gpu-hour", "3600", "--interval", "100ms", "--storage.path", tmp_path / "ledger")
    with (
        Engines(tmp_path / "engines", load=10) as engines,
        Agent(tmp_path / "log", "--engine.url", engines.urls[0], *flags) as agent,
    ):
        agent.until(lambda page: (page.sum("inferometer_requests_total") or 0) > 5, "requests")
        before = agent.page()
        report = json.loads(inferometer_says("report", "--storage.path", tmp_path / "ledger", "--format", "json")[1])
        after = agent.page()
    total = report["total"]
    for field, name in (("cost", "cost"), ("requests", "requests"), ("gpu_hours", "gpu_seconds")):
        bounds = [
            page.sum(f"inferometer_{name}_total") / (3600 if field == "gpu_hours" else 1) for page in (before, after)
        ]
        assert bounds[0] * (1 - 1e-9) <= total[field] <= bounds[1] * (1 + 1e-9), field
    assert total["cost"] == pytest.approx(total["gpu_hours"] * 3600, rel=1e-9)
    assert report["lines"][0]["workload"] == "default"


def test_a_report_is_read_while_the_agent_holds_the_ledger(tmp_path):
    """Read-only, beside the writer's lock."""
    from inferometer.ledger import Ledger  # noqa: PLC0415  only here

    books.write(tmp_path, hours=30)
    writer = Ledger(tmp_path, "USD")
    try:
        assert "chat" in said(tmp_path, now=books.START + 30 * books.HOUR)
    finally:
        writer.close()
