"""Who used it: the tokens of an interval by tenant, where the engine's labels say so."""

from __future__ import annotations

from inferometer.interval.marks import Change
from inferometer.model import INPUT_CACHED, INPUT_UNCACHED, OUTPUT


def tokens_by_tenant(change: Change, *, cached_in_prompt: bool) -> dict[str, dict[str, float]]:
    """Tokens by tenant and type; cached prompt tokens that no prompt explains yet count as cached alone."""
    found: dict[str, dict[str, float]] = {}
    for tenant in {tenant for _, tenant in change.tenants}:
        prompt, cached, output = (
            change.tenants.get((signal, tenant), 0.0) for signal in ("prompt_tokens", "cached_tokens", "output_tokens")
        )
        uncached = max(0.0, prompt - cached) if cached_in_prompt else prompt
        found[tenant] = {INPUT_UNCACHED: uncached, INPUT_CACHED: cached, OUTPUT: output}
    return found
