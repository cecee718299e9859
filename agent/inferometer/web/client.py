"""What a command shows to a running agent: the HTTP client file of Prometheus's tools, without secrets inside it."""

from __future__ import annotations

import base64
import http.client
import ssl
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import asdict, replace

from inferometer.config import reader, tables
from inferometer.config.faults import Faults
from inferometer.config.schema import FilePath, Tls
from inferometer.errors import ConfigError

_LONGEST_SECRET_BYTES = 65_536
_LONGEST_ANSWER_BYTES = 1 << 26


class BasicAuth(Struct, frozen=True):
    """A name and a password."""

    username: str
    password_file: FilePath


class Authorization(Struct, frozen=True):
    """A token, for a proxy that stands before the agent."""

    credentials_file: FilePath
    type: str = "Bearer"


class ClientFile(Struct, frozen=True):
    """The whole file; paths in it are relative to its folder."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: Annotated[Tls, "How to speak https with it"] = Tls()


class Answer(NamedTuple):
    """What came back."""

    status: int
    reason: str
    body: bytes


class Client:
    """Asks an agent. Files are read again for each question, so that a password may change under a watcher."""

    def __init__(self, file: ClientFile | None = None) -> None:
        self._file = file or ClientFile()

    def get(self, url: str, seconds: float) -> Answer:
        """One answer; no redirect is followed and no proxy is asked. Raises OSError, HTTPException or ConfigError."""
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port, seconds)
        try:
            connection.request("GET", parts.path or "/", headers=self._headers())
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, answer.read(_LONGEST_ANSWER_BYTES))
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
        if scheme == "https":
            return _Tls(host, port, seconds, self._context(), self._file.tls_config.server_name or host)
        return http.client.HTTPConnection(host, port, timeout=seconds)

    def _context(self) -> ssl.SSLContext:
        tls = self._file.tls_config
        try:
            context = ssl.create_default_context(cafile=tls.ca_file)
            if tls.insecure_skip_verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if tls.cert_file is not None:
                context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigError([f"tls_config: its files cannot be used ({error})"]) from error
        return context

    def _headers(self) -> dict[str, str]:
        basic, token = self._file.basic_auth, self._file.authorization
        if basic is not None:
            shown = f"{basic.username}:{_secret(basic.password_file)}".encode()
            return {"Authorization": f"Basic {base64.b64encode(shown).decode()}"}
        return {"Authorization": f"{token.type} {_secret(token.credentials_file)}"} if token is not None else {}


class _Tls(http.client.HTTPSConnection):
    """A connection to a server whose certificate may be for another name than it is asked by."""

    def __init__(self, host: str, port: int | None, seconds: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=seconds, context=context)
        self._name, self._tls = name, context

    def connect(self) -> None:
        """Connect and expect that name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def client(path: str | None) -> Client:
    """The client that a file describes. Raises ConfigError with all that is wrong with it."""
    if path is None:
        return Client()
    faults = Faults(path)
    root = reader.read(path, None, faults)
    file: ClientFile | None = tables.table(ClientFile).decode(root, (), faults) if root is not None else None
    if file is not None and file.basic_auth is not None and file.authorization is not None:
        faults.add(("authorization",), "is given beside basic_auth; keep one")
    if file is None or faults.sentences():
        raise ConfigError(faults.sentences())
    return Client(_resolved(file, Path(path).absolute().parent))


def _resolved(file: ClientFile, folder: Path) -> ClientFile:
    basic, token = file.basic_auth, file.authorization
    return ClientFile(
        None if basic is None else replace(basic, password_file=str(folder / basic.password_file)),
        None if token is None else replace(token, credentials_file=str(folder / token.credentials_file)),
        replace(file.tls_config, **_joined(file.tls_config, folder)),
    )


def _joined(tls: Tls, folder: Path) -> dict[str, str]:
    return {name: str(folder / path) for name, path in asdict(tls).items() if name.endswith("_file") and path}


def _secret(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            secret = file.read(_LONGEST_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path} cannot be read ({type(error).__name__})"]) from None
    if not secret.isprintable():
        raise ConfigError([f"{path} holds characters that no password has"])
    return secret


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
