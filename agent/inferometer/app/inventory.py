"""The hardware that is there and who holds it, the engines that were found: the plan is laid anew when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from inferometer import adapters
from inferometer.adapters import Adapter
from inferometer.app.discovery import Discovery
from inferometer.app.fleet import Fleet
from inferometer.app.plan import Plan, label, plan
from inferometer.config import Config
from inferometer.model import EngineSignal, Gpu, GpuReading, Holdings, Pods, Signal

_log = logging.getLogger(__name__)


class Inventory:
    """Keeps a plan true. ``changed`` gets every new one that readings bring about; ``environ`` tells where we run.

    ``settings``: the configuration without what was found.
    """

    def __init__(self, first: Plan, environ: Mapping[str, str], changed: Callable[[Plan], None]) -> None:
        self.plan = first
        self.gpus: tuple[Gpu, ...] = ()
        self.settings = first.config
        self._fleet = Fleet(first.config.gpu.sources, first.config.limits.gpus)
        self._discovery = Discovery(first.config.limits.engines)
        self._environ, self._changed = environ, changed

    def see(self, signals: Iterable[Signal]) -> None:
        """Take what a batch brought. A GPU that is new, cut or held in another way changes who holds what.

        So does a pod that comes or goes.
        """
        for signal in signals:
            if isinstance(signal, GpuReading):
                changed = self._fleet.see(signal)
                self.gpus = self._fleet.gpus(signal.at)
                if changed:
                    _log.info("GPUs found", extra={"source": signal.source, "count": len(signal.gpus)})
                    self._lay()
            elif isinstance(signal, Holdings) and self._fleet.see_holdings(signal):
                self._lay()
            elif isinstance(signal, Pods) and self._discovery.see(signal):
                _log.info("pods found", extra={"source": signal.source, "count": len(signal.pods)})
                self._lay()
            elif isinstance(signal, EngineSignal) and self._discovery.see_page(signal):
                self._lay()

    @property
    def dropped(self) -> dict[str, int]:
        """GPUs and pods that were left out, each time they were seen, by the limit that they are over."""
        return {"gpus": self._fleet.dropped, "engines": self._discovery.dropped}

    def reload(self, settings: Config) -> Plan:
        """Another configuration for the same hardware; ConfigError or AdapterError where it cannot be used."""
        joined = self._discovery.joined(settings)
        self.plan = self._plan(joined)
        self.settings = settings
        self._fleet.limit, self._discovery.limit = settings.limits.gpus, settings.limits.engines
        return self.plan

    def reprice(self, settings: Config) -> Plan:
        """The same configuration at other prices."""
        joined = self._discovery.joined(settings)
        self.plan = self._plan(joined, _known(joined, self.plan.adapters))
        self.settings = settings
        return self.plan

    def _lay(self) -> None:
        before, joined = self.plan, self._discovery.joined(self.settings)
        self.plan = self._plan(joined, _known(joined, before.adapters))
        for hint in self.plan.hints:
            if hint not in before.hints:
                _log.warning(hint)
        self._changed(self.plan)

    def _plan(self, settings: Config, known: Mapping[str, tuple[Adapter, ...]] | None = None) -> Plan:
        gpus, kubelet = self._fleet.gpus(), self._fleet.kubelet
        return plan(settings, gpus, self._environ, known, kubelet, self._discovery.engines_since())


def _known(settings: Config, before: Mapping[str, tuple[Adapter, ...]]) -> dict[str, tuple[Adapter, ...]]:
    """The adapters by engine, as they were; an engine that was just found may be any."""
    any_engine = tuple(adapters.builtin().values())
    engines = [engine for workload in settings.workloads for engine in workload.engines]
    return {label(engine): before.get(label(engine), any_engine) for engine in engines}
