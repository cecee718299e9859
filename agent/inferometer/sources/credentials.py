"""What the agent shows to a target, and what it asks of it: bearer token and TLS, out of files that may be replaced."""

from __future__ import annotations

import os
import ssl
import stat
from base64 import b64encode
from functools import cache
from pathlib import Path

from msgspec import Struct
from yarl import URL

from inferometer.errors import SourceError

_TOKEN_BYTES = 65_536

Stamp = tuple[tuple[int, int, int], ...]


class Target(Struct, frozen=True):
    """One /metrics address and how to read it. ``name`` is the source in its samples; files are paths, '' = none."""

    name: str
    url: str
    timeout_seconds: float = 10.0
    max_page_bytes: int = 33_554_432
    max_page_series: int = 50_000
    bearer_token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


class Credentials:
    """Header and TLS context of one target, made anew only when one of its files changes."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._token: tuple[Stamp, str] = ((), "")
        self._context: tuple[Stamp, ssl.SSLContext] | None = None

    def authorization(self, url: URL) -> str:
        """The Authorization header: the bearer token, else the user in the URL, else ''. SourceError: ``auth_file``."""
        path = self._target.bearer_token_file
        if path:
            stamp = _stamp(path)
            if stamp != self._token[0]:
                self._token = (stamp, _read_token(path))
            return f"Bearer {self._token[1]}"
        if url.user is None:
            return ""
        return "Basic " + b64encode(f"{url.user}:{url.password or ''}".encode()).decode()

    def tls(self) -> ssl.SSLContext | None:
        """The context to connect with; None = ``default_tls``. SourceError: ``auth_file``, ``tls``."""
        target = self._target
        paths = [path for path in (target.ca_file, target.cert_file, target.key_file) if path]
        if not paths and not target.insecure_skip_verify:
            return None
        stamp = _stamp(*paths)
        if self._context is None or self._context[0] != stamp:
            self._context = (stamp, _context(target))
        return self._context[1]


@cache
def default_tls() -> ssl.SSLContext:
    """The context that trusts the machine's authorities, loaded once."""
    return ssl.create_default_context()


def _stamp(*paths: str) -> Stamp:
    """Changes when a file is rewritten or a link (as Kubernetes mounts secrets) comes to point elsewhere."""
    try:
        stats = [os.stat(path) for path in paths]  # noqa: PTH116 - a third of the time, at every reading
    except (OSError, ValueError) as error:
        raise SourceError("auth_file", f"a credentials file cannot be read ({error})") from error
    return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)


def _read_token(path: str) -> str:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise SourceError("auth_file", f"{path} is no regular file")
        with Path(path).open("rb") as file:
            token = file.read(_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        raise SourceError("auth_file", f"the token in {path} cannot be read ({type(error).__name__})") from error
    if not token or not token.isprintable() or " " in token:
        raise SourceError("auth_file", f"{path} holds no token: one word of printable characters is expected")
    return token


def _context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.ca_file or None)
        if target.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if target.cert_file:
            context.load_cert_chain(target.cert_file, target.key_file or None, password=_no_password)
    except (OSError, ValueError) as error:
        raise SourceError("tls", f"the TLS files of this target cannot be used ({error})") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
