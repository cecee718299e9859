"""What loading the agent costs: nothing that is not needed, and nothing that stays."""

import gc
import mimetypes
import os
import ssl
import subprocess
import sys

import pytest
from certificates import Authority
from inferometer.cli.loading import lightly
from live import environment

SELDOM_NEEDED = {
    "csv",
    "difflib",
    "google.protobuf.json_format",
    "google.rpc.error_details_pb2",
    "statistics",
    "zoneinfo",
}
"""Modules that only faults, catalogs of prices, time zones, traces in JSON and refused ones are in need of."""


def test_what_only_some_need_is_not_loaded():
    """Memory and start of everybody else."""
    agent = "inferometer.cli, inferometer.app.agent, inferometer.sources.otlp.http, inferometer.sources.otlp.grpc"
    code = f"import sys, {agent}; print(*{SELDOM_NEEDED} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == []


def authorities():
    """How many a client trusts that is given no context."""
    return ssl.create_default_context().cert_store_stats()["x509_ca"]


def load_a_module_that_fails():
    raise ImportError("somebody is trusted" if authorities() else "nobody is trusted")


@pytest.mark.parametrize("before", [None, "another"])
def test_nobody_is_trusted_within_and_everybody_again_after(tmp_path, monkeypatch, before):
    """The machine's variables are as they were, also when loading fails."""
    monkeypatch.setenv("SSL_CERT_FILE", Authority(tmp_path).pair.cert)
    if before is None:
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    else:
        monkeypatch.setenv("SSL_CERT_DIR", before)
    found = authorities()
    assert found > 0
    with pytest.raises(ImportError, match="nobody is trusted"), lightly():
        load_a_module_that_fails()
    assert (authorities(), os.environ.get("SSL_CERT_DIR")) == (found, before)


def test_the_tables_of_file_names_are_read_only_after(tmp_path, monkeypatch):
    """Those that aiohttp reads when it is loaded; whoever reads them again later has them."""
    table = tmp_path / "mime.types"
    table.write_text("text/inferometer inferometer\n")
    monkeypatch.setattr(mimetypes, "knownfiles", [str(table)])
    with lightly():
        mimetypes.init()
        assert mimetypes.guess_type("x.inferometer") == (None, None)
    mimetypes.init()
    assert mimetypes.guess_type("x.inferometer") == ("text/inferometer", None)


def test_collections_begin_again():
    """And do not where they were off."""
    assert gc.isenabled()
    with lightly():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with lightly():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
