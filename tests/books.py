"""Ledgers for tests of reports: two workloads, written by the real ledger, with amounts that can be checked by hand."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from inferometer.ledger import Ledger
from inferometer.model import Entry

HOUR = 3600
START = int(datetime(2026, 10, 30, tzinfo=UTC).timestamp())
HOURS = 96  # four days: two of October, two of November


def chat(until):
    """One hour of two GPUs at 2.00: 3.00 busy and 1.00 idle; two models; 8 of 10 judged were surely good, 9 perhaps."""
    tokens, cost = "inferometer_tokens_total", "inferometer_token_cost_total"
    amounts = {
        ("inferometer_cost_total", ("chat", "gpu", "busy")): 3.0,
        ("inferometer_cost_total", ("chat", "gpu", "idle")): 1.0,
        ("inferometer_gpu_seconds_total", ("chat", "e", "busy")): 5400.0,
        ("inferometer_gpu_seconds_total", ("chat", "e", "idle")): 1800.0,
        (tokens, ("chat", "e", "big", "input_uncached")): 6e5,
        (tokens, ("chat", "e", "big", "input_cached")): 4e5,
        (tokens, ("chat", "e", "big", "output")): 2e5,
        (tokens, ("chat", "e", "small", "input_uncached")): 6e5,
        (tokens, ("chat", "e", "small", "output")): 2e5,
        (cost, ("chat", "big", "input_uncached", "weights")): 0.5,
        (cost, ("chat", "big", "output", "weights")): 1.25,
        (cost, ("chat", "small", "input_uncached", "weights")): 0.25,
        (cost, ("chat", "small", "output", "weights")): 1.0,
        (cost, ("chat", "", "idle", "none")): 1.0,
        ("inferometer_requests_total", ("chat", "e", "big", "ok")): 9.0,
        ("inferometer_requests_total", ("chat", "e", "small", "ok")): 1.0,
        ("inferometer_slo_requests_total", ("chat", "big", "histogram")): 10.0,
        ("inferometer_good_requests_lower_total", ("chat", "big", "histogram")): 8.0,
        ("inferometer_good_requests_upper_total", ("chat", "big", "histogram")): 9.0,
        ("inferometer_energy_joules_total", ("chat", "gpu", "active", "counter")): 2e6,
        ("inferometer_carbon_grams_total", ("chat",)): 250.0,
    }
    return Entry("chat", until, amounts)


def batch(until):
    """One hour of an owned GPU with hosting and electricity, that did nothing."""
    parts = {"gpu": 1.25, "hosting": 0.5, "electricity": 0.25}
    amounts = {("inferometer_cost_total", ("batch", name, "idle")): money for name, money in parts.items()}
    amounts["inferometer_token_cost_total", ("batch", "", "idle", "none")] = 2.0
    amounts["inferometer_gpu_seconds_total", ("batch", "e", "idle")] = 3600.0
    return Entry("batch", until, amounts)


def write(folder, currency="USD", hours=HOURS, *, now=False):
    """A ledger of so many hours from START on, or up to now; ``batch`` is there on its last day only."""
    start = time.time() // HOUR * HOUR - hours * HOUR if now else START
    ledger = Ledger(folder, currency, lambda: float(START))
    try:
        for number in range(hours):
            middle = start + number * HOUR + HOUR / 2
            entries = [chat(middle), *([batch(middle)] if number >= hours - 24 else [])]
            assert asyncio.run(ledger.post(entries, {}))
    finally:
        ledger.close()
    return folder
