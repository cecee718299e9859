"""The words that every part shares: accounts, token types, outcomes, states, latencies."""

from __future__ import annotations

Labels = tuple[tuple[str, str], ...]
Account = tuple[str, tuple[str, ...]]
"""A metric's name and its label values, in the order in which the catalog lists the labels."""

PER_ENGINE = frozenset(
    {
        "inferometer_tokens_total",
        "inferometer_reasoning_tokens_total",
        "inferometer_wasted_tokens_total",
        "inferometer_requests_total",
        "inferometer_gpu_seconds_total",
    }
)
"""Accounts of a workload whose second label is the engine."""


def by_workload(account: Account) -> Account | None:
    """The account without its engine; None for accounts that are not a workload's."""
    name, labels = account
    if name == "inferometer_resets_total":
        return None
    return (name, (labels[0], *labels[2:])) if name in PER_ENGINE else account


def engine_of(account: Account) -> tuple[str, str] | None:
    """Workload and engine of what is one engine's; None for all other accounts."""
    name, labels = account
    return (labels[0], labels[1]) if name in PER_ENGINE or name in _LATENCY_HISTOGRAMS else None


INPUT_UNCACHED, INPUT_CACHED, OUTPUT = "input_uncached", "input_cached", "output"
TOKEN_TYPES = (INPUT_UNCACHED, INPUT_CACHED, OUTPUT)
OUTCOMES = ("ok", "error", "aborted", "rejected", "vanished")
STATES = ("busy", "idle", "stalled", "unknown")
SLOS = ("ttft", "tpot", "e2e")
LATENCIES = SLOS
_LATENCY_HISTOGRAMS = frozenset(f"inferometer_{latency}_seconds" for latency in LATENCIES)
REFUSALS = ("slow_request", "slow_reader", "large_head", "crowded", "full", "no_files")
"""Why connections to our own servers are ended or refused."""
