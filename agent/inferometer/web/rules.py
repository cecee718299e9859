"""Rules between the keys of the web configuration file: the path and the sentence of every fault."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping

from inferometer.config.faults import Faults
from inferometer.config.node import Path
from inferometer.web.names import OLD_VERSIONS, VERSIONS
from inferometer.web.schema import TlsServer, WebFile

Found = Iterator[tuple[Path, str]]
_TLS = "tls_server_config"
_UNVERIFIED = frozenset({"RequireClientCert", "RequireAnyClientCert"})
VERIFYING = frozenset({"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"})
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, and to what where that is closed."""


def check(file: WebFile, faults: Faults) -> Found:
    """What the rules find beside the ``faults`` that are known; the values of faulty keys are None."""
    if file.tls_server_config is not None:
        for rule in _TLS_RULES:
            yield from (((_TLS, *path), text) for path, text in rule(file.tls_server_config))
        yield from _parts(faults)
    yield from _headers(file)
    yield from _users(file)


def _pairs(tls: TlsServer) -> Found:
    for name in ("cert", "key", "client_ca"):
        inline, path = getattr(tls, name), getattr(tls, f"{name}_file")
        if inline is not None and path is not None:
            yield (name,), f"is given beside {name}_file; keep one"


def _parts(faults: Faults) -> Found:
    for name in ("cert", "key"):
        if not any(faults.written((_TLS, key)) for key in (name, f"{name}_file")):
            yield (_TLS,), f"has neither {name}_file nor {name}; the server needs one of them to speak TLS"


def _clients(tls: TlsServer) -> Found:
    kind, has_authority = tls.client_auth_type, bool(tls.client_ca_file or tls.client_ca)
    if kind in _UNVERIFIED:
        text = f"is {kind}, which takes any certificate that a client made for itself"
        yield ("client_auth_type",), f"{text}; write RequireAndVerifyClientCert and give client_ca_file"
    elif kind in VERIFYING and not has_authority:
        yield ("client_auth_type",), f"is {kind} with nobody to verify by; give client_ca_file"
    elif kind == "NoClientCert" and has_authority:
        key = "client_ca_file" if tls.client_ca_file else "client_ca"
        yield (key,), "is not used without client_auth_type; write RequireAndVerifyClientCert there"
    if tls.client_allowed_sans and kind != "RequireAndVerifyClientCert":
        yield ("client_allowed_sans",), "needs client_auth_type RequireAndVerifyClientCert; else there is no name"


def _versions(tls: TlsServer) -> Found:
    for key in ("min_version", "max_version"):
        if getattr(tls, key) in OLD_VERSIONS:
            yield (key,), f"is {getattr(tls, key)}, which is broken; write TLS12 or TLS13"
    if VERSIONS.index(tls.min_version or "TLS12") > VERSIONS.index(tls.max_version or "TLS13"):
        yield ("max_version",), f"is {tls.max_version}, below min_version {tls.min_version}; no client could connect"


def _curves(tls: TlsServer) -> Found:
    if len(tls.curve_preferences) > 1 and not hasattr(ssl.SSLContext, "set_groups"):
        yield ("curve_preferences",), "can hold one curve alone with this Python's TLS; give one, or leave the key out"


def _headers(file: WebFile) -> Found:
    for name, value in file.http_server_config.headers.items():
        path: Path = ("http_server_config", "headers", name)
        if name not in HEADERS:
            yield path, f"cannot be set; {', '.join(HEADERS)} can"
        elif HEADERS[name] and value not in HEADERS[name]:
            yield path, f"is '{value}'; must be {' or '.join(HEADERS[name])}"


def _users(file: WebFile) -> Found:
    for name in file.basic_auth_users:
        if not name or ":" in name:
            yield ("basic_auth_users", name), "is no name of a user: it must not be empty or have a colon"


_TLS_RULES: tuple[Callable[[TlsServer], Found], ...] = (_pairs, _clients, _versions, _curves)
