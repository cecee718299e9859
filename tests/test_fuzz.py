"""Every target of tests/fuzz on its seeds, on what once broke it, and on inputs that are the same every time."""

import pytest
from fuzz.names import NAMES, corpus, target
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = {
    "economics": 60,
    "marks": 60,
    "config": 100,
    "adapter": 100,
    "dcgm": 100,
    "exposition": 100,
    "kubernetes": 150,
}


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name in NAMES for path in corpus(name)],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_once_broke_it(name, path):
    target(name).check(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_any_input(name):
    """Bytes are decisions, so that random ones already build pages, pods, exports and configurations."""
    check = target(name).check
    for seed in target(name).seeds():
        check(seed)

    @settings(
        max_examples=EXAMPLES.get(name, 300), derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.binary(min_size=8, max_size=300))
    def some(data):
        check(data)

    some()
