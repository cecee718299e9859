"""The TLS context of the server, as the web configuration file describes it."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inferometer.config.faults import Faults
from inferometer.web.names import CIPHERS, CURVES
from inferometer.web.schema import TlsServer

_LONGEST_BYTES = 1 << 20
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
_MARKS = {"cert": b"CERTIFICATE-----", "key": b"PRIVATE KEY-----", "client_ca": b"CERTIFICATE-----"}
_TLS = "tls_server_config"


class LiveContext(ssl.SSLContext):
    """What a server is given once: every connection is made with the context that is current when it begins."""

    current: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """As the current context does."""
        return self.current().wrap_bio(*args, **options)


def live(current: Callable[[], ssl.SSLContext]) -> LiveContext:
    """A context that stands for whatever ``current()`` gives."""
    context = LiveContext(ssl.PROTOCOL_TLS_SERVER)
    context.current = current
    return context


def context_of(tls: TlsServer, faults: Faults) -> ssl.SSLContext | None:
    """The context, or None after noting why the files cannot be used. Nothing that is in them is noted."""
    texts = {name: _text(tls, name, faults) for name in ("cert", "key", "client_ca")}
    if faults.sentences():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _suites(context, tls)
    _curves(context, tls)
    _certificate(context, texts["cert"] + b"\n" + texts["key"], faults)
    _authorities(context, tls, texts["client_ca"], faults)
    return None if faults.sentences() else context


def _suites(context: ssl.SSLContext, tls: TlsServer) -> None:
    """Those of TLS 1.3 cannot be chosen, neither here nor in Go."""
    old = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
    if old:
        context.set_ciphers(":".join(old))
    elif tls.cipher_suites:
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def _curves(context: ssl.SSLContext, tls: TlsServer) -> None:
    names = [CURVES[name] for name in tls.curve_preferences]
    if len(names) == 1:
        context.set_ecdh_curve(names[0])
    elif names:
        getattr(context, "set_groups")(":".join(names))  # noqa: B009  newer releases of Python have it


def _certificate(context: ssl.SSLContext, pem: bytes, faults: Faults) -> None:
    try:
        with _in_memory(pem) as path:
            context.load_cert_chain(path, password=_no_password)
    except ssl.SSLError as error:
        why = " ".join((error.reason or "not understood").replace("_", " ").lower().split())
        faults.add((_TLS,), f"has a certificate and a key that cannot be used together ({why})")
    except ValueError:
        faults.add((_TLS,), "has a key that is encrypted; give one without a password")


def _authorities(context: ssl.SSLContext, tls: TlsServer, pem: bytes, faults: Faults) -> None:
    if tls.client_auth_type not in _CLIENTS:
        return
    context.verify_mode = _CLIENTS[tls.client_auth_type]
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        key = "client_ca_file" if tls.client_ca_file else "client_ca"
        faults.add((_TLS, key), "holds no certificate of an authority; PEM text is expected")


def _text(tls: TlsServer, name: str, faults: Faults) -> bytes:
    """The PEM text of one part, inline or out of its file; b'' where there is none or a fault."""
    inline, path = getattr(tls, name), getattr(tls, f"{name}_file")
    if inline is not None:
        return str(inline).encode()
    if path is None:
        return b""
    where = (_TLS, f"{name}_file")
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            faults.add(where, f"{path} is no regular file")
            return b""
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST_BYTES)
    except (OSError, ValueError) as error:
        faults.add(where, f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no path'}")
        return b""
    if _MARKS[name] not in text:
        faults.add(where, f"{path} holds no {'key' if name == 'key' else 'certificate'}; PEM text is expected")
    return text


@contextmanager
def _in_memory(text: bytes) -> Iterator[str]:
    """A file that is nowhere on a disk: OpenSSL's certificates and keys are read by path alone."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError
