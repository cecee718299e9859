"""Strata: the stretches over which goodput is bounded, one open per engine process and model (formulas §7.4)."""

from __future__ import annotations

from inferometer.interval.marks import merge
from inferometer.model import ModelChange, Stratum

_SETTLED_SECONDS = 60.0
_LONGEST_SECONDS = 300.0
_FINISHED_PER_IN_FLIGHT = 20.0


def grow(stratum: Stratum, change: ModelChange) -> None:
    """Add what one reading brought."""
    outcomes = change.outcomes
    stratum.ok += outcomes.get("ok", 0.0)
    stratum.failed += outcomes.get("error", 0.0) + outcomes.get("aborted", 0.0)
    stratum.rejected += outcomes.get("rejected", 0.0)
    stratum.vanished += outcomes.get("vanished", 0.0)
    for name, histogram in change.latencies.items():
        merge(stratum.latencies, name, histogram)


def following(stratum: Stratum, at: float, in_flight: float) -> Stratum:
    """The stratum that begins where one ends: it knows which TTFTs the requests in flight may have had."""
    first_tokens = stratum.latencies.get("ttft")
    carried = None
    if first_tokens is not None and stratum.in_flight <= 0:
        carried = first_tokens
    elif first_tokens is not None and stratum.carried is not None and stratum.carried.edges == first_tokens.edges:
        carried = stratum.carried.plus(first_tokens)
    return Stratum(
        stratum.model,
        at,
        in_flight=in_flight,
        carried=carried,
        single_token_has_tpot=stratum.single_token_has_tpot,
    )


def ended(stratum: Stratum, at: float, in_flight: float) -> bool:
    """Whether the stratum ends at a reading with ``in_flight`` requests between first token and end."""
    age = at - stratum.began
    if in_flight <= 0 or age >= _LONGEST_SECONDS:
        return True
    # What is in flight at either edge is what the bounds lose: up to one request each, on each side.
    edge = max(stratum.in_flight, in_flight)
    return age >= _SETTLED_SECONDS and stratum.finished >= _FINISHED_PER_IN_FLIGHT * edge
