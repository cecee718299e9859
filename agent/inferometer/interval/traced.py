"""Spans judge where they come; what none judged is left to the histograms (design §7, traces).

An ended stratum waits for late spans. Then those that certainly ended in it judge their requests, and the rest is
bounded by what they leave of its histograms. A span so close to an edge that it may belong to either side judges only
where there are spans for every finished request: then it does not matter which of the two strata posts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from msgspec import Struct, field

from inferometer.interval.marks import merge
from inferometer.interval.skew import LATE_SECONDS, SLACK_SECONDS, Skew
from inferometer.interval.tally import grow
from inferometer.interval.told import Carry, Told, out_by, rest
from inferometer.model import Request, Stratum, Tally, Verdicts

WAIT_SECONDS = LATE_SECONDS + SLACK_SECONDS
_EXPECTED_SECONDS = 3600.0
_LONGEST_MERGED_SECONDS = 60.0
_MOST_LOOSE = 50_000
_MOST_SEALED = 8
Near = tuple[Request, float, float]
"""A request, and between which times it ended."""
Limits = Callable[[str], Mapping[str, float]]


class Waiting(Struct, omit_defaults=True):
    """A stratum of which spans may tell: of requests that ended after ``floor`` and until ``end``, on the steady clock.

    ``start``: where its own counts begin; ``floor`` is earlier where spans of the stratum before may be left over.
    ``last``: until when its process was seen, where it is the last of it; what ended later is on no page.
    """

    stratum: Stratum
    start: float
    floor: float
    end: float = inf
    told: Told = field(default_factory=Told)
    last: float | None = None

    def holds(self, low: float, high: float) -> bool:
        """Whether a request that ended between the two certainly ended in it."""
        return self.floor < low and high < self.end

    def may_hold(self, low: float, high: float) -> bool:
        """Whether it may have."""
        return self.floor <= high and low <= self.end


class ModelTraces(Struct, omit_defaults=True):
    """The strata of one model that wait, in the order of time, and the open one.

    ``sealed``: times across which nothing is known: a span that may have ended on either side judges nothing.
    """

    waiting: list[Waiting] = field(default_factory=list)
    open: Waiting | None = None
    carry: Carry = field(default_factory=Carry)
    edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    followed: bool = False
    sealed: list[float] = field(default_factory=list)

    @property
    def strata(self) -> list[Waiting]:
        """All that a span may belong to."""
        return self.waiting if self.open is None else [*self.waiting, self.open]

    def follow(self, stratum: Stratum, start: float | None) -> None:
        """``stratum`` is open now. ``start``: since when its first page counts, where it goes on from no other."""
        if self.open is None or self.open.stratum.began != stratum.began:
            since = stratum.began if start is None else start
            shape = Stratum(stratum.model, stratum.began, single_token_has_tpot=stratum.single_token_has_tpot)
            self.open = Waiting(shape, since, since)
            if start is not None or not self.followed:
                self.seal(since)
        self.followed = True
        self.edges.update({name: histogram.edges for name, histogram in stratum.latencies.items()})

    def seal(self, at: float) -> None:
        """What ended before is judged already, or on no page of the agent's."""
        self.sealed = [*self.sealed[-_MOST_SEALED:], at]

    def lost(self, low: float, high: float) -> bool:
        """Whether a request that ended between the two may have ended on either side of such a time."""
        return any(low <= at <= high for at in self.sealed)

    def hold(self, stratum: Stratum, end: float, start: float | None) -> None:
        """The open stratum ended."""
        self.follow(stratum, start)
        if self.open is not None:
            self.open.stratum, self.open.end = stratum, end
            self.waiting.append(self.open)
            self.open = None

    def judge(self, request: Request, low: float, high: float, limits: Mapping[str, float]) -> bool | None:
        """Give a request to the stratum in which it certainly ended: True; None where it may have in several."""
        if self.lost(low, high):
            return False
        for waiting in self.strata:
            if waiting.holds(low, high):
                self._tell(waiting.told, waiting, request, (low, high), limits)
                return True
        return None if any(waiting.may_hold(low, high) for waiting in self.strata) else False

    def _tell(
        self, told: Told, where: Waiting, request: Request, ended: tuple[float, float], limits: Mapping[str, float]
    ) -> None:
        told.add(request, limits, self.edges, single=where.stratum.single_token_has_tpot)
        if request.ttft is not None and request.e2e is not None:
            after = request.e2e - request.ttft
            if ended[0] - after > where.start:
                told.first_token(request, self.edges)
            elif ended[1] - after < where.start:
                told.before += 1

    def merge_next(self) -> bool:
        """Make the first two strata one, where they are of one process and the first is short."""
        first, *later = self.waiting
        if not later or first.last is not None or first.end - first.stratum.began >= _LONGEST_MERGED_SECONDS:
            return False
        one, more = first.stratum, later[0].stratum
        one.ok += more.ok
        one.failed += more.failed
        one.rejected += more.rejected
        one.vanished += more.vanished
        for name, histogram in more.latencies.items():
            merge(one.latencies, name, histogram)
        first.told.plus(later[0].told)
        first.end, first.last = later[0].end, later[0].last
        del self.waiting[1]
        return True

    def post(self, near: list[Near], limits: Mapping[str, float]) -> tuple[Stratum | None, list[Request]]:
        """The verdict of the first stratum that waits, and which of the spans ``near`` its edges are used up by it.

        None where a longer stratum can be judged better.
        """
        every = [request for request, _, _ in near]
        first = self.waiting[0]
        told, finished = first.told, first.stratum.finished
        short = finished - told.verdicts.requests
        if first.last is not None:
            near = [one for one in near if one[2] <= first.last]
        if 0 <= short <= len(near):
            taken = near[: int(short)]
            for request, low, high in taken:
                self._tell(told, first, request, (low, high), limits)
            return self._exact(first, [high for _, _, high in near], taken)
        if (near or short < 0 or self.carry.past(first.end).ahead) and self.merge_next():
            return None, []
        return self._bounded(first, told if short > 0 else Told()), every

    def _exact(self, first: Waiting, near: list[float], taken: list[Near]) -> tuple[Stratum, list[Request]]:
        """Spans told of all that finished: some were ``taken`` of those near its edges, which ended until ``near``."""
        posted = rest(first.stratum, first.told, self.carry)
        verdicts, stratum = first.told.verdicts, first.stratum
        differ = out_by(stratum, first.told, self.carry)
        ahead = [high for high in (*self.carry.ahead, *near[: len(taken)]) if high >= first.end]
        ok = stratum.ok + self.carry.ok - verdicts.ok
        if not ahead or first.last is not None:
            self.carry = Carry()
        else:
            self.carry = Carry(ahead=ahead, lost=True) if self.carry.lost else Carry(ok, -ok, differ, ahead)
        del self.waiting[0]
        following = self.strata[0] if self.strata and first.last is None else None
        if following is not None and near:
            following.floor = first.floor
        return posted, [request for request, _, _ in taken]

    def _bounded(self, first: Waiting, told: Told) -> Stratum:
        later = self.carry.past(first.end)
        carry = Carry(ahead=self.carry.ahead, lost=True) if later.ahead else self.carry
        posted = rest(first.stratum, told, carry)
        self.carry = Carry() if first.last is not None else later
        del self.waiting[0]
        return posted


class Traces(Struct, omit_defaults=True):
    """All about the spans of one engine.

    ``loose``: requests whose stratum is not certain yet. ``tallies``: what spans say by themselves since last asked.
    """

    skew: Skew = field(default_factory=Skew)
    seen_at: float | None = None
    loose: list[Request] = field(default_factory=list)
    models: dict[str, ModelTraces] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def add(self, requests: Sequence[Request], arrived: float, limits: Limits) -> None:
        """Take spans that came at ``arrived`` (unix time)."""
        self.seen_at = arrived
        by_model: dict[str, list[Request]] = {}
        for request in requests:
            by_model.setdefault(self._named(request) or request.model, []).append(request)
        for name, some in by_model.items():
            grow(self.tallies.setdefault(name, Tally()), some, limits(name))
        self.loose += [request for request in requests if self.skew.see(request.ended, arrived)]
        del self.loose[:-_MOST_LOOSE]  # a page that cannot be read for long; the histograms will bound these

    def expected(self, wall: float) -> bool:
        """Whether more may come."""
        return self.seen_at is not None and wall - self.seen_at < _EXPECTED_SECONDS

    def shift(self, seconds: float) -> None:
        """Move all times to another clock; those of spans are unix time."""
        for waiting in (waiting for model in self.models.values() for waiting in model.strata):
            waiting.start += seconds
            waiting.floor += seconds
            waiting.end += seconds
            waiting.last = None if waiting.last is None else waiting.last + seconds
            waiting.stratum.began += seconds
        for model in self.models.values():
            model.sealed = [at + seconds for at in model.sealed]
            model.carry.ahead = [at + seconds for at in model.carry.ahead]

    def page(self, open_now: Iterable[Stratum], ended: Iterable[Stratum], at: float, start: float | None) -> None:
        """A page was read ``at``. ``start``: since when it counts, where it does not go on from the last one."""
        ended = list(ended)
        for stratum in ended:
            self._model(stratum.model).hold(stratum, at, start)
        begun = {stratum.model for stratum in ended}
        for stratum in open_now:
            self._model(stratum.model).follow(stratum, None if stratum.model in begun else start)

    def over(self, ended: Iterable[Stratum], read_at: float) -> None:
        """The process ended, or the recording: no page after that of ``read_at`` shows what these strata count."""
        for stratum in ended:
            self._model(stratum.model).hold(stratum, read_at, None)
        for model in self.models.values():
            model.open = None
            if model.waiting and model.waiting[-1].last is None:
                model.waiting[-1].last = read_at

    def settle(self, read_at: float, ahead: float, limits: Limits) -> None:
        """Give every span that ended before the page of ``read_at`` to its stratum, if that is certain."""
        kept = []
        for request in self.loose:
            low, high = (at - ahead for at in self.skew.place(request.ended))
            name = self._named(request)
            if high > read_at or (
                name is not None and self.models[name].judge(request, low, high, limits(name)) is None
            ):
                kept.append(request)
        self.loose = kept

    def seal(self) -> None:
        """Nobody waited for spans so far: those that still come tell of what is judged already."""
        for model in self.models.values():
            if model.open is not None and model.open.start not in model.sealed:
                model.seal(model.open.start)

    def close(self, until: float, ahead: float, limits: Limits) -> list[Stratum]:
        """The verdicts of all strata that ended before ``until``."""
        done = []
        for name, model in self.models.items():
            while model.waiting and model.waiting[0].end <= until:
                near = self._near(name, model.waiting[0], ahead)
                posted, used = model.post(near, limits(name))
                if posted is None:
                    self.settle(model.waiting[0].end, ahead, limits)
                    continue
                gone = {id(request) for request in used}
                self.loose = [request for request in self.loose if id(request) not in gone]
                done.append(posted)
        return done

    def alone(self, until: float, ahead: float, limits: Limits) -> list[Stratum]:
        """The verdicts of spans that ended before ``until``, of an engine without any page."""
        found: dict[str, Stratum] = {}
        kept = []
        for request in self.loose:
            if self.skew.place(request.ended)[1] - ahead > until:
                kept.append(request)
                continue
            stratum = found.setdefault(request.model, Stratum(request.model, until, spans=Verdicts()))
            if stratum.spans is not None:
                stratum.spans.add(request, limits(request.model))
        self.loose = kept
        return list(found.values())

    def pending(self) -> float:
        """Requests that wait for late spans; of an engine without a page, spans that wait for being placed."""
        waiting = sum(waiting.stratum.judged for model in self.models.values() for waiting in model.waiting)
        return waiting if self.models else float(len(self.loose))

    def _near(self, name: str, waiting: Waiting, ahead: float) -> list[Near]:
        """The loose spans that may belong to a stratum, in the order of their ends."""
        near = []
        for request in self.loose:
            low, high = (at - ahead for at in self.skew.place(request.ended))
            model = self.models[name]
            if self._named(request) == name and waiting.may_hold(low, high) and not model.lost(low, high):
                near.append((request, low, high))
        return sorted(near, key=lambda one: one[0].ended)

    def _named(self, request: Request) -> str | None:
        """The span's model, else the page's only one; None where the page has neither."""
        if request.model in self.models:
            return request.model
        return next(iter(self.models)) if len(self.models) == 1 else None

    def _model(self, name: str) -> ModelTraces:
        return self.models.setdefault(name, ModelTraces())
