"""Content negotiation: what a client would rather have (RFC 9110 §12)."""

from __future__ import annotations

_OPENMETRICS, _TEXT = "application/openmetrics-text", "text/plain"


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is asked for by name and not less than plain text."""
    weights = _weights(accept)
    return weights.get(_OPENMETRICS, 0.0) > 0 and weights[_OPENMETRICS] >= weights.get(_TEXT, 0.0)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is allowed, by name or by ``*``."""
    weights = _weights(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(header: str) -> dict[str, float]:
    """The highest q by name, other parameters ignored; what cannot be read counts as 0."""
    found: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            found[name] = max(found.get(name, 0.0), _quality(parameters))
    return found


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
