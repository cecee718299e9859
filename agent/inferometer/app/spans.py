"""Whose spans are whose: exports in, the requests of each engine out, every span counted by what became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from inferometer import adapters
from inferometer.adapters import Adapter, Models, SpanReader
from inferometer.app.plan import Plan, counting, label
from inferometer.model import SPAN_OUTCOMES, Account, Export, Request, Traced, is_skewed

_log = logging.getLogger(__name__)
_NAMED_RESOURCES = 20
_TELLING = ("service.name", "service.instance.id", "host.name", "k8s.pod.name")


class _Owner(Struct, frozen=True):
    """An engine that spans may belong to: those of resources with all of these attributes."""

    engine: str
    wants: Mapping[str, str]
    read: SpanReader


class Spans:
    """Routes and counts spans. ``take``: whether a span's id is new, and remembers it.

    ``models``: what the models of an engine are called.
    """

    def __init__(self, take: Callable[[bytes], bool], models: Callable[[str], Models]) -> None:
        self._take, self._models = take, models
        self._owners: tuple[_Owner, ...] = ()
        self._everything: _Owner | None = None
        self._anybody = SpanReader(adapters.builtin().values())
        self._counts = dict.fromkeys(SPAN_OUTCOMES, 0)
        self._strangers: dict[str, None] = {}

    def follow(self, plan: Plan) -> None:
        """Route as this plan says from now on."""
        owners = [
            _Owner(label(engine), engine.spans, _reader(plan.adapters[label(engine)]))
            for workload in plan.config.workloads
            for engine in workload.engines
        ]
        keyed = [owner for owner in owners if owner.wants]
        self._owners = tuple(sorted(keyed, key=lambda owner: -len(owner.wants)))  # the most particular first
        self._everything = None
        if len(plan.config.workloads) == 1 and owners and not keyed:
            alone = label(counting(plan.config.workloads[0].engines))
            self._everything = next(owner for owner in owners if owner.engine == alone)

    def reader_for(self, resource: Mapping[str, str]) -> SpanReader:
        """How to read the spans of a resource; those of nobody's engines are read to name who sent them."""
        owner = self._owner(resource)
        return owner.read if owner is not None else self._anybody

    def signals(self, export: Export, wall: float) -> list[Traced]:
        """The new requests of an export that came at ``wall`` (unix), by engine."""
        for outcome, count in export.outcomes.items():
            self._counts[outcome] += count
        new: dict[str, list[Request]] = {}
        for resource, request in export.requests:
            owner = self._owner(resource)
            if owner is None:
                self._name(resource)
                self._counts["unmatched"] += 1
            elif self._take(request.id):
                self._counts["skewed" if is_skewed(request.ended, wall) else "accepted"] += 1
                model = self._models(owner.engine).of(request.model)
                named = request if model == request.model else replace(request, model=model)
                new.setdefault(owner.engine, []).append(named)
            else:
                self._counts["duplicate"] += 1
        return [Traced(engine, export.at, tuple(requests)) for engine, requests in new.items()]

    def values(self) -> dict[Account, float]:
        """Spans since the start, by outcome."""
        return {("inferometer_spans_total", (outcome,)): float(count) for outcome, count in self._counts.items()}

    def hints(self) -> tuple[str, ...]:
        """Who sends spans that are nobody's."""
        return tuple(
            f"spans come from {who}, which no engine claims: add spans: {{…}} to its engine under workloads"
            for who in self._strangers
        )

    def _owner(self, resource: Mapping[str, str]) -> _Owner | None:
        for owner in self._owners:
            if owner.wants.items() <= resource.items():
                return owner
        return self._everything

    def _name(self, resource: Mapping[str, str]) -> None:
        """Log a stranger once; a sender that renames itself all the time does not fill the memory."""
        who = ", ".join(f"{key}={resource[key]}" for key in _TELLING if resource.get(key)) or "a nameless resource"
        if who not in self._strangers and len(self._strangers) < _NAMED_RESOURCES:
            self._strangers[who] = None
            _log.warning("spans of no configured engine", extra={"resource": who})


def _reader(candidates: tuple[Adapter, ...]) -> SpanReader:
    """By its adapters; a server around another engine has a page of its own and the engine's spans."""
    traced = [adapter for adapter in candidates if adapter.traces is not None]
    return SpanReader(traced or adapters.builtin().values())
