"""The catalog declares every metric once, in the words of the contract, and the documentation follows it."""

from __future__ import annotations

import re

import pytest
from inferometer.exposition import docs
from inferometer.exposition.catalog import CATALOG, OVERLAPPING, SUBJECTS, fault, known
from inferometer.exposition.metric import COUNTER
from inferometer.model import OUTCOMES, STATES, TOKEN_TYPES

EVERY = [metric for subject in SUBJECTS for metric in subject.metrics]

# The contract with dashboards and with the ledger: names, and labels in account order.
LABELS = """
tokens_total                        workload engine model type
reasoning_tokens_total              workload engine model
wasted_tokens_total                 workload engine model
tenant_tokens_total         workload tenant type
requests_total                      workload engine model outcome
gpu_seconds_total                   workload engine state
unaccounted_gpu_seconds_total       workload
cost_total                          workload component state
token_cost_total                    workload model type method
energy_joules_total                 workload component state method
metered_gpu_seconds_total           workload
carbon_grams_total                  workload
water_liters_total                  workload
slo_requests_total                  workload model method
good_requests_lower_total           workload model method
good_requests_upper_total           workload model method
slo_met_requests_lower_total        workload model slo method
slo_met_requests_upper_total        workload model slo method
good_tokens_total                   workload model
slo_tokens_total                    workload model
good_tokens_ratio                   workload window
request_tokens                      workload model type
request_cost                        workload model
cost_per_million_tokens             workload tokens basis window
token_price_per_million             workload model type method basis window
cost_per_request                    workload window
cost_per_good_request_lower         workload window
cost_per_good_request_upper         workload window
cost_per_million_good_tokens        workload window
energy_per_token_joules             workload tokens boundary window
tokens_per_second                   workload type window
tokens_per_second_per_request       workload window
goodput_requests_per_second_lower   workload window
goodput_requests_per_second_upper   workload window
goodput_ratio_lower                 workload window
goodput_ratio_upper                 workload window
slo_requests_pending                workload
busy_ratio                          workload window
power_watts                         workload window
gpu_hourly_price                    workload
price_missing                       workload
slo_threshold_seconds               workload slo
slo_objective_ratio                 workload
slo_bucket_gap_seconds              workload engine slo
error_budget_remaining_ratio        workload
burn_rate                           workload window
budget_amount                       workload
budget_spent                        workload
budget_forecast                     workload
accounting_start_timestamp_seconds  workload
settled_until_timestamp_seconds     workload
energy_coverage_ratio               workload window
trace_coverage_ratio                workload window
gpu_up                              gpu
gpu_power_watts                     gpu
gpu_energy_joules_total             gpu
gpu_utilization_ratio               gpu
gpu_sm_active_ratio                 gpu mig
gpu_tensor_active_ratio             gpu mig
gpu_memory_used_bytes               gpu mig
gpu_memory_total_bytes              gpu mig
gpu_temperature_celsius             gpu
gpu_clock_hertz                     gpu clock
gpu_power_limit_watts               gpu
gpu_throttle_seconds_total          gpu reason
gpu_xid_errors_total                gpu xid
gpu_ecc_errors_total                gpu
gpu_pcie_bytes_total                gpu direction
gpu_nvlink_bytes_total              gpu direction
gpu_energy_consistency_ratio        gpu
gpu_info                            gpu name driver scope
gpu_activity_ratio                  gpu mig
gpu_dram_active_ratio               gpu mig
gpu_memory_temperature_celsius      gpu
gpu_share_ratio                     workload gpu mig method
gpu_idle_power_watts                gpu
engine_up                           workload engine
engine_state                        workload engine state
engine_requests                     workload engine model state
engine_kv_cache_ratio               workload engine model
engine_info                         workload engine kind version
signal_missing                      workload engine signal
ttft_seconds                        workload engine model
tpot_seconds                        workload engine model
e2e_seconds                         workload engine model
source_up                           source
source_read_seconds                 source
source_last_success_timestamp_seconds source
source_errors_total                 source reason
resets_total                        source
spans_total                         outcome
ledgers_set_aside
config_last_reload_successful
web_config_last_reload_successful
series_dropped_total limit
http_connections                    server
http_connections_refused_total      server reason
event_loop_lag_seconds
build_info                          version
"""
MONEY = {
    "inferometer_cost_total",
    "inferometer_token_cost_total",
    "inferometer_cost_per_million_tokens",
    "inferometer_token_price_per_million",
    "inferometer_cost_per_request",
    "inferometer_cost_per_good_request_lower",
    "inferometer_cost_per_good_request_upper",
    "inferometer_cost_per_million_good_tokens",
    "inferometer_gpu_hourly_price",
    "inferometer_request_cost",
    "inferometer_budget_amount",
    "inferometer_budget_spent",
    "inferometer_budget_forecast",
}


def test_names_and_label_orders_are_the_contract():
    rows = [line.split() for line in LABELS.strip().splitlines()]
    assert {m.name: m.label_names for m in EVERY} == {f"inferometer_{name}": tuple(labels) for name, *labels in rows}


def test_each_metric_is_declared_once():
    assert len(EVERY) == len(CATALOG)


def test_money_is_what_carries_the_currency():
    assert {metric.name for metric in EVERY if metric.money} == MONEY


def test_exactly_two_labels_are_marked_as_not_summable():
    assert {"slo", "reason"} == OVERLAPPING


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_a_declaration_is_well_formed(metric):
    """Prometheus naming; a help of one sentence; text that a table and a HELP line can hold."""
    assert re.fullmatch(r"inferometer(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.type == COUNTER)
    assert len(set(metric.label_names)) == len(metric.label_names)
    assert not {"currency", "le"} & set(metric.label_names)
    assert re.fullmatch(r"[A-Z0-9].*[^.]\.", metric.help)
    assert metric.formula
    for text in (metric.help, metric.formula, metric.unit):
        assert not set("|\n\\") & set(text)


def test_closed_labels_list_the_words_of_the_model():
    def values(name):
        return CATALOG[f"inferometer_{name}"].labels[-1].values

    assert values("tokens_total") == TOKEN_TYPES
    assert values("requests_total") == OUTCOMES
    assert values("gpu_seconds_total") == STATES


@pytest.mark.parametrize(
    ("account", "sentence"),
    [
        (("inferometer_cost_total", ("chat", "gpu", "busy")), ""),
        (("inferometer_tokens", ("chat",)), "inferometer_tokens is not in the catalog"),
        (
            ("inferometer_resets_total", ("a", "b")),
            "inferometer_resets_total has 2 label values ('a', 'b'), want ('source',)",
        ),
        (
            ("inferometer_slo_requests_total", ("chat", "m", "guess")),
            "inferometer_slo_requests_total: method='guess' is none of trace, histogram",
        ),
    ],
)
def test_an_account_that_is_not_declared_is_told_why(account, sentence):
    assert fault(account) == sentence


def test_a_wrong_value_of_a_closed_label_is_still_shown():
    """Showing money under a strange label beats losing it; only name and number of labels decide."""
    assert known(("inferometer_cost_total", ("chat", "tape", "busy")))
    assert not known(("inferometer_cost_total", ("chat", "gpu")))


def test_docs_are_fresh():
    """Run ``python -m inferometer.exposition.docs`` when this fails."""
    assert docs.PATH.read_text(encoding="utf-8") == docs.document()


def test_docs_name_every_metric_and_mark_what_must_not_be_added():
    text = docs.document()
    for metric in EVERY:
        assert f"| `{metric.name}` | {metric.exposed_type} |" in text
    assert "`slo` † (`ttft`, `tpot`, `e2e`)" in text
    assert "`model` †" not in text
