"""The hardware that is there and who holds it: the plan is laid anew when either changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from inferometer.app.fleet import Fleet
from inferometer.app.plan import Plan, plan
from inferometer.config import Config
from inferometer.model import Gpu, GpuReading, Holdings, Signal

_log = logging.getLogger(__name__)


class Inventory:
    """Keeps a plan true. ``changed`` gets every new one that readings bring about; ``environ`` tells where we run."""

    def __init__(self, first: Plan, environ: Mapping[str, str], changed: Callable[[Plan], None]) -> None:
        self.plan = first
        self.gpus: tuple[Gpu, ...] = ()
        self._fleet = Fleet(first.config.gpu.sources)
        self._environ, self._changed = environ, changed

    def see(self, signals: Iterable[Signal]) -> None:
        """Take what a batch brought. A GPU that is new, cut or held in another way changes who holds what."""
        for signal in signals:
            if isinstance(signal, GpuReading):
                changed = self._fleet.see(signal)
                self.gpus = self._fleet.gpus(signal.at)
                if changed:
                    _log.info("GPUs found", extra={"source": signal.source, "count": len(signal.gpus)})
                    self._lay()
            elif isinstance(signal, Holdings) and self._fleet.see_holdings(signal):
                self._lay()

    def reload(self, settings: Config) -> Plan:
        """Another configuration for the same hardware; ConfigError or AdapterError where it cannot be used."""
        self.plan = plan(settings, self._fleet.gpus(), self._environ, kubelet=self._fleet.kubelet)
        return self.plan

    def reprice(self, settings: Config) -> Plan:
        """The same configuration at other prices."""
        self.plan = plan(settings, self._fleet.gpus(), self._environ, self.plan.adapters, kubelet=self._fleet.kubelet)
        return self.plan

    def _lay(self) -> None:
        before = self.plan
        self.plan = plan(before.config, self._fleet.gpus(), self._environ, before.adapters, kubelet=self._fleet.kubelet)
        for hint in self.plan.hints:
            if hint not in before.hints:
                _log.warning(hint)
        self._changed(self.plan)
