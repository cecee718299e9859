"""The web configuration as it holds now: read again where a file has changed; a bad one leaves the last good one."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Mapping

from msgspec import Struct

from inferometer.errors import ConfigError
from inferometer.web import file as files
from inferometer.web import tls
from inferometer.web.schema import RateLimit, WebFile

_log = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int, int] | None, ...]
_SWITCHED = "tls_server_config: TLS cannot be switched on or off while the agent runs; restart it"


class Settings(Struct, frozen=True):
    """A file that was accepted, ready for use; ``allowed`` = names of which a client's certificate must have one."""

    context: ssl.SSLContext | None = None
    users: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    allowed: frozenset[str] = frozenset()
    limit: RateLimit | None = None


class WebConfig:
    """One web configuration file. Raises ConfigError where the first reading finds a fault.

    ``changed`` is called when new settings hold. Whether a file has changed is looked at with every request and every
    new connection; it costs a stat for each file, some microseconds.
    """

    def __init__(self, path: str) -> None:
        self._path, self._fault = path, ""
        self.changed: Callable[[], None] = _nobody
        self._watched: tuple[str, ...] = ()
        self._stamp: _Stamp = ()
        self._settings = self._load()

    @property
    def is_good(self) -> bool:
        """Whether the newest files are those in use."""
        return not self._fault

    @property
    def speaks_tls(self) -> bool:
        """Whether the server speaks TLS; fixed while it runs."""
        return self._settings.context is not None

    def current(self) -> Settings:
        """What holds now."""
        if _stamp(self._watched) != self._stamp:
            self._renew()
        return self._settings

    def context(self) -> ssl.SSLContext | None:
        """What to listen with: new connections follow the files. None without TLS."""
        return tls.live(self._now) if self.speaks_tls else None

    def _now(self) -> ssl.SSLContext:
        context = self.current().context
        if context is None:
            raise AssertionError("a change that takes TLS away is refused")
        return context

    def _renew(self) -> None:
        fault = ""
        try:
            settings = self._load()
            if (settings.context is None) == self.speaks_tls:
                fault = f"{self._path}: {_SWITCHED}"
        except ConfigError as error:
            fault = str(error)
        if fault and fault != self._fault:
            _log.error("the web configuration is bad; the last good one stays", extra={"error": fault})
        elif not fault:
            self._settings = settings
            self.changed()
            _log.info("the web configuration is loaded again", extra={"file": self._path})
        self._fault = fault

    def _load(self) -> Settings:
        """What the files say. How they look is noted before each is read: a change in between is seen next time."""
        self._watched, self._stamp = (self._path,), _stamp((self._path,))
        file, faults = files.read(self._path)
        more = tuple(_paths(file))
        self._watched, self._stamp = self._watched + more, self._stamp + _stamp(more)
        server = file.tls_server_config
        context = None if server is None else tls.context_of(server, faults)
        if faults.sentences():
            raise ConfigError(faults.sentences())
        return Settings(
            context=context,
            users=file.basic_auth_users,
            headers={name: value for name, value in file.http_server_config.headers.items() if value},
            allowed=frozenset(server.client_allowed_sans if server is not None else ()),
            limit=file.rate_limit,
        )


def _paths(file: WebFile) -> list[str]:
    server = file.tls_server_config
    if server is None:
        return []
    return [path for path in (server.cert_file, server.key_file, server.client_ca_file) if path is not None]


def _stamp(paths: tuple[str, ...]) -> _Stamp:
    """Changes when a file is rewritten, vanishes, or a link (as Kubernetes mounts secrets) comes to point elsewhere."""
    return tuple(map(_stat, paths))


def _stat(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  a third of the time, at every request
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _nobody() -> None:
    """Nobody is told before anybody asks."""
