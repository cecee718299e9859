"""The last stage: what was settled and what is seen become the snapshot that every reader renders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from inferometer import __version__
from inferometer.app.departed import Departed
from inferometer.app.gaps import Gaps
from inferometer.app.holdings import UNATTRIBUTED
from inferometer.app.periods import Periods
from inferometer.app.plan import Plan
from inferometer.config import Config
from inferometer.economics import Policy, Windows, ratios
from inferometer.economics.prices import hourly
from inferometer.interval import Meter
from inferometer.ledger import Ledger
from inferometer.model import Account, Batch, EngineView, Entry, Exemplar, Gpu, PriceView, Snapshot, SourceView


class Publisher:
    """Composes snapshots. ``sources``: how the sources are doing; ``agent``: values about the agent itself.

    ``hints``: what is missing by what was seen, beside what the plan knows to be missing.
    """

    def __init__(
        self,
        meter: Meter,
        ledger: Ledger,
        sources: Callable[[], tuple[SourceView, ...]] = tuple,
        agent: Callable[[], dict[Account, float]] = dict,
        hints: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self.gpus: tuple[Gpu, ...] = ()
        self.plan: Plan | None = None
        self.prices: Callable[[Config, float], tuple[PriceView, ...]] = lambda _settings, _wall: ()
        self._meter, self._ledger = meter, ledger
        self._sources, self._agent, self._hints = sources, agent, hints
        self._windows = Windows(())
        self._periods = Periods(ledger)
        self._gaps = Gaps()
        self._exemplars: dict[Account, dict[int, Exemplar]] = {}
        self.departed = Departed()

    def follow(self, plan: Plan) -> None:
        """Publish what this plan says from now on."""
        if plan.config.windows != self._windows.windows:
            self._windows = Windows(plan.config.windows)
        self._periods.follow(plan)
        self.plan = plan

    def __call__(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Take the entries of a batch and publish, at once."""
        for _ in self.steps(batch, entries):
            pass

    def steps(self, batch: Batch, entries: Sequence[Entry]) -> Iterator[None]:
        """The same a step at a time; the last one sets the snapshot."""
        for entry in entries:
            self._windows.post([entry], batch.wall - batch.at)
            yield
        self._windows.keep()
        self._periods.post(batch.wall, entries)
        self._keep_exemplars(entries)
        yield
        state, views = self._ledger.state, self._meter.views()
        self.departed.see(self.plan, chain(state.totals, state.histograms), batch.at)
        self._windows.forget(self.departed.workloads)
        yield
        values: dict[Account, float] = {}
        for some in self._values(batch.wall, views):
            values.update(some)
            yield
        sources = self._sources()
        yield
        self.snapshot = Snapshot(
            wall=batch.wall,
            totals=self.departed.shown(state.totals),
            created=dict(state.created),
            histograms=self.departed.shown(state.histograms),
            exemplars=self._exemplars,
            values=values,
            engines=views,
            gpus=self.gpus,
            sources=sources,
            hints=(*(self.plan.hints if self.plan else ()), *self._hints()),
            prices=self.prices(self.plan.config, batch.wall) if self.plan else (),
            currency=self.plan.config.currency if self.plan else "USD",
        )

    def _keep_exemplars(self, entries: Sequence[Entry]) -> None:
        """The newest exemplar of each bucket; those of buckets that are laid out anew go with the old layout."""
        kept = self.departed.shown(self._exemplars)  # the last snapshot has the old ones still
        for entry in entries:
            for account, shown in entry.exemplars.items():
                have = self._ledger.state.histograms.get(account)
                same = have is not None and have.edges == entry.histograms[account].edges
                kept[account] = {**kept.get(account, {}), **shown} if same else shown
        self._exemplars = kept

    def _values(self, wall: float, views: Iterable[EngineView]) -> Iterator[Mapping[Account, float]]:
        yield {("inferometer_build_info", (__version__,)): 1.0}
        yield self._agent()
        rates: dict[str, tuple[float, float]] = {}
        for workload, window, seconds, grown in self._windows.changes():
            yield ratios(workload, window, seconds, grown, self._objective(workload))
            money = sum(amount for (name, _), amount in grown.items() if name == "inferometer_cost_total")
            rates[workload] = max(rates.get(workload, (0.0, 0.0)), (window, money / seconds))
        yield self._periods.values(wall, {workload: rate for workload, (_, rate) in rates.items()})
        yield self._times()
        yield self._policies(wall, self._meter.pending())
        yield self._gaps.values(views, self._thresholds())
        yield self._devices()

    def _times(self) -> dict[Account, float]:
        """Since when workloads are watched and until when they are settled."""
        values: dict[Account, float] = {}
        for workload, settled_until in self._meter.settled_until().items():
            values["inferometer_settled_until_timestamp_seconds", (workload,)] = settled_until
            since = self._meter.watched_since.get(workload)
            if since is not None:  # a workload that a reload has just brought begins with the next batch
                values["inferometer_accounting_start_timestamp_seconds", (workload,)] = since
        return values

    def _devices(self) -> dict[Account, float]:
        """What is computed of single GPUs: who holds them, what they draw idle, how their meters agree."""
        values: dict[Account, float] = {}
        for watch in self.plan.watches if self.plan else ():
            for hold in watch.holds:
                where = (watch.workload, hold.gpu, hold.instance, hold.method)
                values["inferometer_gpu_share_ratio", where] = hold.fraction
        for uuid, ratio in self._meter.joules.consistency().items():
            values["inferometer_gpu_energy_consistency_ratio", (uuid,)] = ratio
        for uuid, watts in self._meter.joules.floors(self.plan.assumed.idle_watts if self.plan else None).items():
            values["inferometer_gpu_idle_power_watts", (uuid,)] = watts
        return values

    def _objective(self, workload: str) -> float | None:
        policy = self.plan.policies.get(workload) if self.plan else None
        return policy.slo.objective if policy is not None and policy.slo is not None else None

    def _policies(self, wall: float, pending: Mapping[str, float]) -> dict[Account, float]:
        """What the owner decided, as gauges, so that a dashboard can draw it beside what happened."""
        values: dict[Account, float] = {}
        for name, policy in self._watched_policies():
            if name != UNATTRIBUTED:
                values["inferometer_price_missing", (name,)] = float(policy.price is None)
            if policy.price is not None:
                values["inferometer_gpu_hourly_price", (name,)] = hourly(policy.price, wall)
            if policy.slo is not None:
                values["inferometer_slo_objective_ratio", (name,)] = policy.slo.objective
                values["inferometer_slo_requests_pending", (name,)] = pending.get(name, 0.0)
                for slo, threshold in policy.slo.thresholds.items():
                    values["inferometer_slo_threshold_seconds", (name, slo)] = threshold
        return values

    def _thresholds(self) -> dict[str, Mapping[str, float]]:
        """The SLOs of every workload that has some."""
        return {name: policy.slo.thresholds for name, policy in self._watched_policies() if policy.slo is not None}

    def _watched_policies(self) -> Iterator[tuple[str, Policy]]:
        """All but those of nobody's GPUs where there are none."""
        watched = {watch.workload for watch in self.plan.watches} if self.plan else set()
        for name, policy in self.plan.policies.items() if self.plan else ():
            if name in watched:
                yield name, policy
