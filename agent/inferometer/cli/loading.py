"""What loading the agent need not cost."""

from __future__ import annotations

import gc
import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables by which OpenSSL finds the certificates that a client trusts."""


@contextmanager
def lightly() -> Iterator[None]:
    """Modules that are loaded within are not searched for cycles, and aiohttp's client comes to trust no authority.

    aiohttp reads the machine's authorities twice when it is imported, which is slow, and keeps them for requests that
    bring no TLS context. The agent's bring theirs (``sources/credentials.py``); one that did not would be refused.
    It also reads the machine's tables of file names, a third of a megabyte, for files that the agent does not serve.
    """
    before = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    tables, mimetypes.knownfiles = mimetypes.knownfiles, []
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        mimetypes.knownfiles = tables
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
