"""A price list of APIs: our own short form, or LiteLLM's map of models (model_prices_and_context_window.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from inferometer.composed import construct
from inferometer.config.faults import near
from inferometer.errors import ConfigError
from inferometer.model import INPUT_CACHED, INPUT_UNCACHED, OUTPUT

_MILLION = 1e6
_OURS = {INPUT_UNCACHED: "input", INPUT_CACHED: "input_cached", OUTPUT: "output"}
_LITELLM = {
    INPUT_UNCACHED: "input_cost_per_token",
    INPUT_CACHED: "cache_read_input_token_cost",
    OUTPUT: "output_cost_per_token",
}


class ListPrice(Struct, frozen=True):
    """What one token of each type costs at an API; without a price of its own a cached token costs what others do."""

    name: str
    per_token: Mapping[str, float]

    def cost(self, tokens: Mapping[str, float]) -> float:
        """What tokens by type would have cost."""
        return sum(count * self.per_token[kind] for kind, count in tokens.items())


class PriceList(Struct, frozen=True):
    """Prices by model out of one file."""

    file: str
    currency: str
    models: Mapping[str, Mapping[str, float]]

    def price(self, model: str) -> ListPrice:
        """The price of a model, also where the list has it under a provider's name. ConfigError where it has none."""
        name = model if model in self.models else self._elsewhere(model)
        if name is None:
            guess = near(model, self.models)
            meant = f"did you mean {guess}? " if guess else ""
            what = model or "a model without name"
            raise ConfigError([f"{self.file}: no price of {what}; {meant}Choose one with --like NAME"])
        return ListPrice(name, self.models[name])

    def _elsewhere(self, model: str) -> str | None:
        """The one entry whose last part is the model's: provider/model for model, and the other way round."""
        last = model.rpartition("/")[2]
        found = [name for name in self.models if name.rpartition("/")[2] == last]
        return found[0] if model and len(found) == 1 else None


def load(path: Path) -> PriceList:
    """Read a list. Raises ConfigError where there is none in the file."""
    try:
        text = path.read_text(encoding="utf-8")
        is_json = text.lstrip().startswith("{") and path.suffix == ".json"
        body = json.loads(text) if is_json else construct(text)
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else next(iter(str(error).splitlines()), "no text")
        raise ConfigError([f"{path}: cannot be read: {said}; give a price list in YAML or JSON"]) from error
    if not isinstance(body, dict):
        raise ConfigError([f"{path}: is no price list; write models: {{NAME: {{input: 0.15, output: 0.60}}}}"])
    ours = isinstance(body.get("models"), dict)
    rows = body["models"] if ours else body
    models = {name: prices for name, row in rows.items() if (prices := _prices(row, ours=ours)) is not None}
    if not models:
        raise ConfigError([f"{path}: has no model with an input and an output price"])
    return PriceList(str(path), str(body.get("currency", "USD")) if ours else "USD", models)


def _prices(row: Any, *, ours: bool) -> dict[str, float] | None:
    """Money per token by type; None where the row has no usable price of both input and output."""
    if not isinstance(row, dict):
        return None
    names, unit = (_OURS, _MILLION) if ours else (_LITELLM, 1.0)
    found = {kind: row[name] / unit for kind, name in names.items() if _is_price(row.get(name))}
    if INPUT_UNCACHED not in found or OUTPUT not in found:
        return None
    return {INPUT_CACHED: found[INPUT_UNCACHED]} | found


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
