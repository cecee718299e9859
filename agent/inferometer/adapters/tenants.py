"""Who asked: one label of an engine's series becomes the tenant, within an allow-list and a limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from inferometer.adapters.models import OTHER, cut


class Tenants:
    """Names tenants by the value of ``label``; what is not in ``allow`` (if any) or over ``limit`` values is other."""

    def __init__(self, label: str, allow: Collection[str] = (), limit: int = 50) -> None:
        self.settings = (label, frozenset(allow), limit)
        self._known: set[str] = set()

    def know(self, tenants: Collection[str]) -> None:
        """Go on naming those that were named before the agent started again."""
        self._known |= set(tenants) - {OTHER}

    def of(self, labels: Mapping[str, str]) -> str:
        """The tenant of a series; '' where the series does not say."""
        label, allow, limit = self.settings
        value = labels.get(label, "")
        if not value:
            return ""
        if allow:
            return value if value in allow else OTHER
        value = cut(value)
        if value not in self._known and len(self._known) >= limit:
            return OTHER
        self._known.add(value)
        return value
