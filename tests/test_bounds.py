"""Goodput bounds hold on thousands of random workloads whose every request is known (formulas §7.4).

The truth of every posted increment lies within its bounds, and cutting a run into strata costs no more than what is
in flight where it is cut.
"""

import random
from dataclasses import dataclass, field

import pytest
from inferometer.economics.goodput import judge
from inferometer.interval import Meter, Watch, Watched
from inferometer.interval.marks import merge
from inferometer.model import Batch, EngineSignal, Stratum, Traits
from workloads import THRESHOLDS, Pages, Request, alive, workload

BLOCKS, RUNS_PER_BLOCK = 20, 100


@dataclass
class Run:
    """What came of one workload: its SLO, and by process the posted strata with the requests that finished in each.

    ``unused``: by process the finished requests that no stratum has yet.
    """

    slo: dict[str, float]
    unused: dict[int, list[Request]]
    posted: dict[int, list[tuple[Stratum, list[Request]]]] = field(default_factory=dict)

    def take(self, process, stratum):
        """Give a stratum the next finished requests of its process."""
        unused, count = self.unused[id(process)], int(stratum.finished)
        self.posted.setdefault(id(process), []).append((stratum, unused[:count]))
        self.unused[id(process)] = unused[count:]


def run(seed):
    """Read a random workload through the meter."""
    rng = random.Random(seed)
    engines, seconds = workload(rng)
    slo = {name: rng.choice(values) for name, values in THRESHOLDS.items() if rng.random() < 0.8} or {"ttft": 0.5}
    result = Run(slo, {id(process): process.finished() for processes in engines for process in processes})
    for first, *_ in engines:  # what ended before the first page is not the agent's
        result.unused[id(first)] = [r for r in first.finished() if r.end > 0]
    names = {f"e{i}": processes for i, processes in enumerate(engines)}
    for interval in intervals(rng, names, seconds):
        for stratum in interval.strata:
            result.take(alive(names[interval.engine], stratum.began), stratum)
    return result


def intervals(rng, names, seconds):
    """All that a meter makes of the engines' pages, read at random times."""
    traits, failed_show = Traits(single_token_has_tpot=rng.random() < 0.7), rng.random() < 0.7
    pages = {id(p): Pages(p, name, traits, failed_show=failed_show) for name, life in names.items() for p in life}
    meter = Meter([Watch("w", tuple(Watched(name, 1.0) for name in names))], 5.0)
    at, step = 0.0, rng.choice([step for step in (0.2, 1.0, 5.0, 15.0) if seconds / step <= 150])
    while at < seconds:
        serving = {name: alive(life, at) for name, life in names.items()}
        meter.add(
            Batch(at, at), [pages[id(p)](at) if p else EngineSignal(n, at, "refused") for n, p in serving.items()]
        )
        yield from meter.due(at)
        at += rng.uniform(0.5, 1.5) * step
    yield from meter.finish(at)


def whole(strata):
    """The strata of one process as one."""
    first = strata[0]
    one = Stratum("m", first.began, in_flight=first.in_flight, carried=first.carried,
                  single_token_has_tpot=first.single_token_has_tpot)  # fmt: skip
    for stratum in strata:
        one.ok += stratum.ok
        one.failed += stratum.failed
        one.rejected += stratum.rejected
        one.vanished += stratum.vanished
        for name, observed in stratum.latencies.items():
            merge(one.latencies, name, observed)
    return one


def width(stratum, slo):
    good = judge(stratum, slo).good
    return good.upper - good.lower


def check_bounds(stratum, requests, slo):
    """The truth of one increment lies within its bounds: of every SLO, and of all together."""
    verdict = judge(stratum, slo)
    assert len(requests) == stratum.finished
    good = sum(all(r.met(name, limit) for name, limit in slo.items()) for r in requests)
    assert verdict.good.lower <= good <= verdict.good.upper
    for name, limit in slo.items():
        met = sum(r.met(name, limit) for r in requests)
        assert verdict.met[name].lower <= met <= verdict.met[name].upper, name


def check_width(strata, slo):
    """Strata are together no wider than one over the whole process, but for what was in flight between them."""
    lost = sum(stratum.in_flight for stratum in strata[1:])
    ours, single = sum(width(stratum, slo) for stratum in strata), width(whole(strata), slo)
    assert ours <= single + 2 * lost
    return lost > 0, ours > single


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_posted_increment_holds_and_strata_cost_no_more_than_what_is_in_flight_between_them(block):
    posted = cut = 0
    for seed in range(block * RUNS_PER_BLOCK, (block + 1) * RUNS_PER_BLOCK):
        result = run(seed)
        for strata in result.posted.values():
            for stratum, requests in strata:
                check_bounds(stratum, requests, result.slo)
            check_width([stratum for stratum, _ in strata], result.slo)
            posted += len(strata)
            cut += len(strata) > 1
    assert posted > 3 * RUNS_PER_BLOCK  # the workloads are worth their name
    assert cut > RUNS_PER_BLOCK / 3
