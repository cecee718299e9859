"""Rules and alerts: promtool takes them, every one is tested and explained, and they follow the configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from inferometer import config
from inferometer.app.rules import alerts, docs, document, levels, recorded
from inferometer.app.rules.shape import Record, scaled
from live import inferometer_says
from observed import here

ROOT = Path(__file__).parents[1]
RULES = ROOT / "dashboards" / "rules"
TESTS = sorted(RULES.glob("tests/**/*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
NEEDS_PROMTOOL = pytest.mark.skipif(not here("promtool"), reason="promtool is not installed: make tools")
OWN = RULES / "tests" / "own"


def rules_of(text):
    """Every rule of a rule file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- what is committed ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", docs.files())
def test_committed_rules_are_those_of_the_code(name):
    assert (RULES / name).read_text(encoding="utf-8") == docs.files()[name], "run `make docs`"


def test_alerts_page_is_that_of_the_code():
    assert docs.PATH.read_text(encoding="utf-8") == docs.page(), "run `make docs`"


@NEEDS_PROMTOOL
def test_promtool_checks_the_rules():
    said = promtool("check", "rules", *sorted(RULES.glob("*.yaml")))
    assert said.count("SUCCESS") == len(document.FILES)


@NEEDS_PROMTOOL
@pytest.mark.parametrize("path", [p for p in TESTS if p.parent != OWN], ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path):
    promtool("test", "rules", path)


@NEEDS_PROMTOOL
def test_rules_of_a_configuration_do_what_their_tests_say(tmp_path):
    code, text, said = inferometer_says("rules", "--config.file", OWN / "config.yaml")
    assert (code, said) == (0, "")
    (tmp_path / "generated.yaml").write_text(text)
    shutil.copy(OWN / "own.yaml", tmp_path)
    promtool("check", "rules", tmp_path / "generated.yaml")
    promtool("test", "rules", tmp_path / "own.yaml")


# -- completeness ---------------------------------------------------------------------------------


def alerts_in_tests():
    """By alert, how often its tests expect it to fire and how often to be silent."""
    counts = {}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8")).get("tests", ()):
            for case in test.get("alert_rule_test", ()):
                fires, silent = counts.get(case["alertname"], (0, 0))
                fired = bool(case["exp_alerts"])
                counts[case["alertname"]] = (fires + fired, silent + (not fired))
    return counts


@pytest.mark.parametrize("alert", docs.every(), ids=lambda alert: alert.name)
def test_every_alert_is_tested_and_explained(alert):
    """It fires in one test, is silent in another, says in words what is wrong and where to read on."""
    fires, silent = alerts_in_tests().get(alert.name, (0, 0))
    assert fires, "no test in which it fires"
    assert silent, "no test in which it is silent"
    assert alert.summary
    assert alert.description.endswith(".")
    text = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == ["What you see", "What it means", "First three checks", "Fix", "Silence"]
    checks = text.partition("## First three checks")[2].partition("## Fix")[0]
    assert re.findall(r"^(\d)\.", checks, re.MULTILINE) == ["1", "2", "3"]
    assert f"alertname={alert.name}" in text.partition("## Silence")[2]


def test_every_runbook_has_an_alert():
    names = {alert.name for alert in docs.every()} | {"README"}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} <= names
    assert set(alerts_in_tests()) <= names


def test_every_recorded_series_has_a_value_test():
    tested = {
        name
        for path in TESTS
        for test in yaml.safe_load(path.read_text(encoding="utf-8")).get("tests", ())
        for case in test.get("promql_expr_test", ())
        for name in re.findall(r"[a-z_]+:[\w:]+", case["expr"])
    }
    names = {rule.name for group in document.defaults() for rule in group.rules if isinstance(rule, Record)}
    assert names - tested == set()


def test_names_say_level_metric_and_operations():
    names = [rule.name for group in recorded.groups() for rule in group.rules]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"workload[a-z_]*:inferometer_[a-z_]+:(ratio_)?rate\d+[mhd]", name) for name in names)


def test_ratios_divide_sums_that_are_recorded_too():
    """Whoever has several Prometheus servers adds the sums and divides again."""
    names = {rule.name for group in recorded.groups() for rule in group.rules}
    for rule in (rule for group in recorded.groups() for rule in group.rules if ":ratio_" in rule.name):
        assert set(re.findall(r"workload\w*:[\w:]+", rule.expr)) <= names
        assert "avg" not in rule.expr


# -- a configuration of one's own -----------------------------------------------------------------


def own_rules(objective):
    flags = {"engine.url": "http://127.0.0.1:8000/metrics", "slo.ttft": "1s", "slo.objective": objective}
    return rules_of(document.text(document.own(config.load(None, flags, {}))))


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("0.99", ["BurnsFast", "Burns", "MayBurn", "MayLeak"]),
        ("0.95", ["BurnsFast", "Burns", "MayBurn", "MayLeak"]),  # 14.4 < 16
        ("0.9", ["Burns", "MayBurn", "MayLeak"]),  # at most 10 times too fast
        ("0.5", ["MayLeak"]),  # at most 2 times
    ],
)
def test_factors_out_of_reach_have_no_alert(objective, names):
    found = [rule["alert"] for rule in own_rules(objective) if "Goodput" in rule.get("alert", "")]
    assert found == [f"InferometerGoodput{name}" for name in names]


def test_reach_is_0_8_over_the_error_budget():
    burn = levels.BURNS[0]
    assert burn.factor == 14.4
    assert levels.reachable(burn, 1 - 0.8 / 14.4 + 1e-6)
    assert not levels.reachable(burn, 1 - 0.8 / 14.4 - 1e-6)


def test_alerts_of_both_kinds_are_the_same():
    """A configuration adds its budgets and changes nothing else."""
    plain = {rule["alert"] for rule in map_defaults() if "alert" in rule}
    own = rules_of(document.text(document.own(config.load(str(OWN / "config.yaml"), {}, {}))))
    assert {rule["alert"] for rule in own if "alert" in rule} == plain | {"InferometerBudgetBurns"}


def map_defaults():
    return rules_of(document.text(document.defaults()))


def test_time_is_scaled_in_windows_offsets_waits_and_intervals():
    assert scaled("x:rate5m / rate(y[5m] offset 7d)", 60) == "x:rate5m / rate(y[5s] offset 10080s)"
    assert scaled("rate(y[5m])", 1000) == "rate(y[300ms])"
    text = document.text(alerts.groups(), time_scale=60)
    (down,) = [rule for rule in rules_of(text) if rule.get("alert") == "InferometerAgentDown"]
    assert down["for"] == "2s"
    assert "[1440s]" in down["expr"]
    assert {group["interval"] for group in yaml.safe_load(text)["groups"]} == {"500ms"}


def test_runbooks_can_be_somewhere_else():
    code, text, _ = inferometer_says("rules", "--runbook-url", "https://wiki.example.com/llm/")
    links = {rule["annotations"]["runbook_url"] for rule in rules_of(text) if "alert" in rule}
    assert code == 0
    assert "https://wiki.example.com/llm/InferometerAgentDown.md" in links


def test_a_longer_time_is_refused():
    code, _, said = inferometer_says("rules", "--time-scale", "0.5")
    assert (code, "write 1 or more" in said) == (1, True)
