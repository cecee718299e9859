"""Who used it: tokens by one label of a gateway, within an allow-list and a limit."""

from __future__ import annotations

import pytest
from inferometer import adapters
from inferometer.adapters import Tenants, Translator
from inferometer.economics import Policy, settle
from inferometer.interval import Meter, Watch, Watched
from inferometer.model import Batch
from inferometer.sources.page import PageParser
from readings import scraped

T = 1_800_000_000.0


@pytest.mark.parametrize(
    ("tenants", "seen", "named"),
    [
        (Tenants("team"), ["a", "b", ""], ["a", "b", ""]),
        (Tenants("team", allow=("a",)), ["a", "b", ""], ["a", "other", ""]),
        (Tenants("team", limit=2), ["a", "b", "c", "a", "c"], ["a", "b", "other", "a", "other"]),
        (Tenants("user"), ["a"], [""]),
    ],
    ids=["every value", "an allow-list", "a limit", "a label that is not there"],
)
def test_a_label_becomes_a_tenant(tenants, seen, named):
    assert [tenants.of({"team": value}) for value in seen] == named


def litellm(**tokens: tuple[int, int]) -> bytes:
    """A LiteLLM page: input and output tokens by team."""
    lines = ["litellm_in_flight_requests 0"]
    for team, (given, made) in tokens.items():
        labels = f'{{requested_model="m",model="m",team="{team}"}}'
        lines += [
            f"litellm_input_tokens_metric_total{labels} {given}",
            f"litellm_output_tokens_metric_total{labels} {made}",
        ]
    return "\n".join([*lines, ""]).encode()


def settled(tenants: Tenants | None, *bodies: bytes) -> dict[tuple[str, ...], float]:
    """What pages a second apart add to the tokens of tenants, and ("",) to the tokens of all."""
    known = tuple(adapters.builtin().values())
    parser, translate = PageParser(adapters.wanted(known)), Translator("gate", known, tenants)
    meter = Meter([Watch("w", (Watched("gate"),))], 1.0)
    sums: dict[tuple[str, ...], float] = {}
    for second, body in enumerate(bodies):
        batch = Batch(T + second, T + second)
        meter.add(batch, [translate(scraped("gate", batch.at, parser.parse(body).series))])
        for interval in meter.due(batch.at):
            for (name, labels), amount in settle(interval, Policy("w")).amounts.items():
                where = labels[1:] if name == "inferometer_tenant_tokens_total" else ("",)
                if amount and name in {"inferometer_tenant_tokens_total", "inferometer_tokens_total"}:
                    sums[where] = sums.get(where, 0.0) + amount
    return sums


PAGES = (litellm(red=(10, 1), blue=(20, 2)), litellm(red=(15, 3), blue=(20, 2), green=(7, 5)))


def test_tokens_are_counted_by_tenant_and_once_in_all():
    """A tenant that is new on a page that was read before counts from zero, as any series does."""
    assert settled(Tenants("team"), *PAGES) == {
        ("red", "input_uncached"): 5,
        ("red", "output"): 2,
        ("green", "input_uncached"): 7,
        ("green", "output"): 5,
        ("",): 19,
    }


def test_what_is_not_allowed_is_other():
    assert settled(Tenants("team", allow=("red",)), *PAGES) == {
        ("red", "input_uncached"): 5,
        ("red", "output"): 2,
        ("other", "input_uncached"): 7,
        ("other", "output"): 5,
        ("",): 19,
    }


def test_nobody_is_named_unless_asked():
    assert settled(None, *PAGES) == {("",): 19}
