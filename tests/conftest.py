"""What all tests share: the option that rewrites golden files."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what comes out now")


@pytest.fixture
def update_golden(request):
    """Whether golden files are to be rewritten rather than compared."""
    return request.config.getoption("--update-golden")
