"""Every target of tests/fuzz on its seeds, on what once broke it, and on inputs that are the same every time."""

import logging

import pytest
from fuzz import run
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


@pytest.fixture(autouse=True)
def loud():
    """A target that silences its server does so for itself alone."""
    logger = logging.getLogger("aiohttp.server")
    level = logger.level
    yield
    logger.setLevel(level)


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


SAID = """
#2	INITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 40Mb
#50	pulse  cov: 9 ft: 9 corp: 2/9b lim: 4 exec/s: 25 rss: 44Mb
#100	DONE   cov: 9 ft: 9 corp: 2/9b lim: 4 exec/s: 25 rss: 47Mb
Done 100 runs in 4 second(s)
stat::number_of_executed_units: 100
"""


@pytest.mark.parametrize(("said", "crashes"), [(SAID, 0), (SAID.replace("Done", ""), 1), ("", 1)])
def test_a_run_that_did_not_end_well_is_a_crash(said, crashes, tmp_path):
    """Memory grows from a quarter of the run on; what it takes to start is no growth."""
    (tmp_path / "slowest").write_text("0.25")
    row = run.row("page", said, 4.0, 0, tmp_path / "slowest")
    assert row["crashes"] == crashes
    if said:
        assert (row["executions"], row["exec/s"], row["coverage"], row["slowest s"]) == (100, 25, 9, 0.25)
        assert row["memory growth MB"] == 3
