"""Owning against buying: what the same tokens would have cost at an API, and from where on owning wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from inferometer.app.report.book import Hour
from inferometer.app.report.lines import Line, lines
from inferometer.app.report.price_list import ListPrice, PriceList
from inferometer.config.zones import zone
from inferometer.errors import ConfigError

HOURS_PER_MONTH = 730.0
_ASSUMED = (
    "the same mix of input, cached and output tokens; the same tokens per busy GPU-hour at any busy share",
    "GPUs cost the same busy or idle; a month has 730 h; the list's prices without discounts, tiers or batches",
    "a cached token costs there what the list says, or as much as any input token where it says nothing",
    "both models do the job equally well, which no metric knows",
)


class Versus(Struct, frozen=True):
    """One workload against a price list.

    Owning costs r per GPU-hour held, whether busy or not, and makes t tokens per busy GPU-hour; there they cost p each.
    It wins from the busy share r ÷ (t·p) on: above 1, never at this speed. ``tokens_per_month`` is r ÷ p for ``gpus``
    held all month. None where nothing was held, busy or generated.
    """

    workload: str
    priced_as: tuple[str, ...]
    file: str
    cost: float
    list_cost: float
    tokens: float
    gpus: float
    busy_share: float | None = None
    break_even_busy_share: float | None = None
    break_even_tokens_per_month: float | None = None
    assumptions: tuple[str, ...] = _ASSUMED

    def sentences(self, currency: str) -> Iterator[str]:
        """The comparison for people."""
        names = ", ".join(self.priced_as)
        times = f": {self.cost / self.list_cost:.2f} times its price" if self.list_cost > 0 else ""
        yield f"{self.workload} against {names} in {self.file}:"
        paid, there = f"{self.cost:,.2f} {currency} paid here", f"{self.list_cost:,.2f} {currency} there"
        yield f"  {paid}, {there} for the same tokens{times}"
        if self.break_even_busy_share is None or self.busy_share is None or self.break_even_tokens_per_month is None:
            yield "  no break-even: no GPU was busy, or the list's price is 0"
        elif self.break_even_busy_share > 1:
            times = f"{self.break_even_busy_share:.2f} times as much"
            yield f"  owning never wins at this speed: GPUs busy all the time would still cost {times}"
        else:
            share, monthly = self.break_even_busy_share, self.break_even_tokens_per_month
            yield f"  owning wins from a busy share of {share:.1%} on (it was {self.busy_share:.1%}),"
            yield f"  that is from {monthly:,.0f} tokens a month on {self.gpus:.2f} GPUs"
        yield from (f"  assumed: {assumption}" for assumption in self.assumptions)


def versus(hours: Iterable[Hour], currency: str, prices: PriceList, like: str) -> list[Versus]:
    """Every workload with tokens and money. ``like``: the list's model to take for all; '' takes each one's own name.

    Raises ConfigError where the list has no price of a model or is in other money.
    """
    if prices.currency != currency:
        said = f"its money is {prices.currency}, the ledger's is {currency}; give a list in {currency}"
        raise ConfigError([f"{prices.file}: {said}"])
    rows = list(hours)
    mixes: dict[str, list[Line]] = {}
    for line in lines(rows, ("workload", "model"), zone("UTC")):
        if sum(line.tokens.values()) > 0:
            mixes.setdefault(line.workload, []).append(line)
    whole = {line.workload: line for line in lines(rows, ("workload",), zone("UTC"))}
    spans = {workload: sum(hour.workload == workload for hour in rows) for workload in mixes}
    return [
        _one(whole[workload], mix, [prices.price(like or line.model) for line in mix], (prices.file, spans[workload]))
        for workload, mix in mixes.items()
        if whole[workload].cost is not None
    ]


def _one(line: Line, mix: list[Line], prices: list[ListPrice], seen: tuple[str, int]) -> Versus:
    file, hours = seen
    list_cost = sum(price.cost(part.tokens) for price, part in zip(prices, mix, strict=True))
    cost, tokens = line.cost or 0.0, sum(line.tokens.values())
    held, busy = line.gpu_hours or 0.0, line.busy_gpu_hours or 0.0
    found = Versus(
        workload=line.workload,
        priced_as=tuple(dict.fromkeys(price.name for price in prices)),
        file=file,
        cost=cost,
        list_cost=list_cost,
        tokens=tokens,
        gpus=held / hours,
    )
    if not (held > 0 and busy > 0 and list_cost > 0):
        return found
    rate, each = cost / held, list_cost / tokens
    return replace(
        found,
        busy_share=busy / held,
        break_even_busy_share=rate / (tokens / busy * each),
        break_even_tokens_per_month=rate / each * HOURS_PER_MONTH * found.gpus,
    )
