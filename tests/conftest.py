"""What all tests share: the option that rewrites golden files, and certificates."""

from __future__ import annotations

import pytest
from certificates import Authority


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what comes out now")


@pytest.fixture
def update_golden(request):
    """Whether golden files are to be rewritten rather than compared."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Two authorities and what they sign: their making takes a while."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    authority.signs("server")
    authority.signs("next")
    authority.signs("client", "DNS:prometheus", "IP:2001:db8::1", "email:a@b.example", "URI:spiffe://x/y")
    stranger.signs("foreign")
    return folder


@pytest.fixture
def folder(certificates, tmp_path):
    """A folder of one's own with the certificates in it."""
    for path in certificates.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path
