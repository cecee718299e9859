"""Certificates as openssl makes them: an authority, and what it signs."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

import pytest


class Pair(NamedTuple):
    """A certificate and its key, as paths."""

    cert: str
    key: str


class Authority:
    """Signs certificates; ``pair`` is its own."""

    def __init__(self, folder, name="authority"):
        if shutil.which("openssl") is None:
            assert os.environ.get("CI") != "true", "openssl is not installed"
            pytest.skip("openssl is not installed")
        self._folder = folder
        self.pair = Pair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
        _openssl(*_new(f"/CN={name}", self.pair), "-x509", "-days", "2", "-out", self.pair.cert)

    def signs(self, name, *alternatives):
        """A new certificate for ``name`` and alternative names such as ``DNS:localhost``."""
        pair = Pair(str(self._folder / f"{name}.crt"), str(self._folder / f"{name}.key"))
        request, names = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        names.write_text(f"subjectAltName={','.join(alternatives or ('DNS:localhost', 'IP:127.0.0.1'))}\n")
        _openssl(*_new(f"/CN={name}", pair), "-out", request)
        signing = ("-CA", self.pair.cert, "-CAkey", self.pair.key, "-CAcreateserial", "-days", "2", "-extfile", names)
        _openssl("x509", "-req", "-in", request, *signing, "-out", pair.cert)
        return pair


def _new(subject, pair):
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", pair.key)
    return ("req", *key, "-subj", subject)


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
