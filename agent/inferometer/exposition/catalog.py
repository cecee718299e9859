"""Every metric, declared once, in the order in which it is rendered and documented.

An account is a metric's name and its label values in the order of ``Metric.label_names``.
"""

from __future__ import annotations

from inferometer.exposition.families.agent import AGENT
from inferometer.exposition.families.energy import ENERGY
from inferometer.exposition.families.engines import ENGINES
from inferometer.exposition.families.goodput import GOODPUT
from inferometer.exposition.families.gpus import GPUS
from inferometer.exposition.families.money import MONEY
from inferometer.exposition.families.work import WORK
from inferometer.exposition.metric import Metric, Subject
from inferometer.model import Account

SUBJECTS: tuple[Subject, ...] = (WORK, MONEY, GOODPUT, ENERGY, ENGINES, GPUS, AGENT)
CATALOG: dict[str, Metric] = {metric.name: metric for subject in SUBJECTS for metric in subject.metrics}
OVERLAPPING = frozenset(label.name for metric in CATALOG.values() for label in metric.labels if label.overlapping)
"""The labels over which sum() has no meaning."""


def known(account: Account) -> bool:
    """Whether the catalog has the account's name with as many labels."""
    name, values = account
    return name in CATALOG and len(CATALOG[name].labels) == len(values)


def fault(account: Account) -> str:
    """What is wrong with an account, as a sentence; empty when the catalog declares it."""
    name, values = account
    metric = CATALOG.get(name)
    if metric is None:
        return f"{name} is not in the catalog"
    if len(values) != len(metric.labels):
        return f"{name} has {len(values)} label values {values}, want {metric.label_names}"
    for label, value in zip(metric.labels, values, strict=True):
        if label.values and value not in label.values:
            return f"{name}: {label.name}={value!r} is none of {', '.join(label.values)}"
    return ""


def labels(account: Account) -> dict[str, str]:
    """The labels of a declared account by name."""
    name, values = account
    return dict(zip(CATALOG[name].label_names, values, strict=True))
