"""The keys of the web configuration file, in the format of Prometheus's exporter-toolkit."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from inferometer.config.kinds import Choice, Duration, Number, Scalar
from inferometer.config.node import Node
from inferometer.config.places import FILE
from inferometer.web.names import CIPHERS, CIPHERS_13, CURVES, VERSIONS
from inferometer.web.secret import Hashed, Secret

_PEM = Secret("PEM text, -----BEGIN … to -----END …", r"\s*-----BEGIN .*-----END .*")
FilePath = Annotated[str, FILE]
Pem = Annotated[str, _PEM]


class Line(Scalar, frozen=True):
    """What a header can have; '' where it has no value."""

    def _noun(self) -> str:
        return "text on one line"

    def _read(self, text: str, node: Node) -> str:  # noqa: ARG002  a number will do
        if not text.isprintable():
            raise ValueError(f"has characters that no header can have; must be {self.noun}")
        return text


class TlsServer(Struct, frozen=True):
    """How the server speaks TLS."""

    cert_file: Annotated[FilePath | None, "Certificate, and what leads from it to its authority"] = None
    key_file: Annotated[FilePath | None, "Its key"] = None
    client_ca_file: Annotated[FilePath | None, "Authorities that sign the certificates of clients"] = None
    cert: Annotated[Pem | None, "The certificate itself instead of a file"] = None
    key: Annotated[Pem | None, "The key itself instead of a file"] = None
    client_ca: Annotated[Pem | None, "The authorities themselves instead of a file"] = None
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = "NoClientCert"
    client_allowed_sans: Annotated[tuple[str, ...], "A client's certificate must be for one of these"] = ()
    min_version: Annotated[str, Choice(VERSIONS)] = "TLS12"
    max_version: Annotated[str, Choice(VERSIONS)] = "TLS13"
    cipher_suites: tuple[Annotated[str, Choice((*CIPHERS, *CIPHERS_13))], ...] = ()
    curve_preferences: tuple[Annotated[str, Choice(tuple(CURVES))], ...] = ()
    prefer_server_cipher_suites: bool = True


class HttpServer(Struct, frozen=True):
    """What is said in HTTP."""

    http2: Annotated[bool, "Taken and without effect: this server speaks HTTP/1.1"] = True
    headers: dict[str, Annotated[str, Line()]] = {}


class RateLimit(Struct, frozen=True):
    """How often it answers, whoever asks."""

    interval: Annotated[float, Duration(), "Time in which one request more is answered"]
    burst: Annotated[int, Number(low=1, whole=True), "So many are answered at once"]


class WebFile(Struct, frozen=True):
    """The whole file; paths in it are made absolute."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, Annotated[str, Hashed()]] = {}
    rate_limit: RateLimit | None = None
