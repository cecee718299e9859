"""The web configuration file: what is good and what is bad, in our words, and that the real promtool agrees."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from certificates import Authority
from inferometer.errors import ConfigError
from inferometer.web.client import client
from inferometer.web.config import WebConfig

DOCS = Path(__file__).parents[1] / "docs" / "security.md"
EXAMPLE = Path(__file__).parents[1] / "examples" / "web-config.yml"
HASH = "$2b$10$3Nk2TDJM7DWbFZ7QeWcYqOhHIYKzUhGEk8nVtFbQfSDjPmmrC4W6G"
PAIR = "cert_file: server.crt, key_file: server.key"
MUTUAL = f"{PAIR}, client_ca_file: authority.crt, client_auth_type: RequireAndVerifyClientCert"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates beside which files are written."""
    there = tmp_path_factory.mktemp("web")
    authority = Authority(there)
    authority.signs("server")
    authority.signs("other")
    (there / "junk").write_text("no certificate\n")
    (there / "empty").write_text("")
    subprocess.run(["mkfifo", str(there / "pipe")], check=True)
    return there


def said(folder, text):
    """What we say of a file; '' for a good one."""
    path = folder / "web.yml"
    path.write_text(text)
    try:
        WebConfig(str(path))
    except ConfigError as error:
        return str(error).replace(str(folder), "D")
    return ""


def promtool(path):
    """Whether promtool accepts the file; it has to be there in CI."""
    tool = shutil.which("promtool")
    if tool is None:
        assert os.environ.get("CI") != "true", "promtool is not installed"
        pytest.skip("promtool is not installed")
    return subprocess.run([tool, "check", "web-config", path], capture_output=True, check=False).returncode == 0


GOOD = [
    "",
    "{}",
    "tls_server_config:\nbasic_auth_users:\n",
    f"tls_server_config: {{{PAIR}}}",
    f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS13}}",
    f"tls_server_config: {{{MUTUAL}}}",
    f"tls_server_config: {{{PAIR}, client_ca_file: authority.crt, client_auth_type: VerifyClientCertIfGiven}}",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequestClientCert}}",
    f"tls_server_config: {{{PAIR}, client_auth_type: NoClientCert, prefer_server_cipher_suites: false}}",
    f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]}}",
    f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_AES_256_GCM_SHA384]}}",
    f"tls_server_config: {{{PAIR}, curve_preferences: [CurveP256]}}",
    f"tls_server_config: {{{PAIR}, curve_preferences: [X25519]}}",
    "http_server_config: {http2: true}",
    "http_server_config: {http2: false}",
    "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff, X-XSS-Protection: 0}}",
    "http_server_config: {headers: {Strict-Transport-Security: max-age=1, Content-Security-Policy: \"$(X) 'self'\"}}",
    f"basic_auth_users: {{prometheus: '{HASH}', 'Günter': '{HASH.replace('$2b', '$2y')}'}}",
]
BAD = [
    ("tls_server_config: [", ":1: is not valid YAML"),
    (
        "nonsense: 1",
        ":1: nonsense: unknown key; known here: tls_server_config, http_server_config, basic_auth_users, rate_limit",
    ),
    ("basic_auth_user: {}", ":1: basic_auth_user: unknown key; did you mean basic_auth_users?"),
    ("http_server_config:\n  http3: true", ":2: http_server_config.http3: unknown key; did you mean http2?"),
    ("http_server_config: {http2: perhaps}", ":1: http_server_config.http2: is 'perhaps'; must be true or false"),
    ("basic_auth_users: {a: b}\nbasic_auth_users: {a: b}", ":2: basic_auth_users: is given twice, first in line 1"),
    ("tls_server_config: {cert_file: server.crt}", ":1: tls_server_config: has neither key_file nor key;"),
    ("tls_server_config: {key_file: server.key}", ":1: tls_server_config: has neither cert_file nor cert;"),
    (
        "tls_server_config:\n  cert_file: none.crt\n  key_file: server.key",
        ":2: tls_server_config.cert_file: D/none.crt cannot be read: No such file or directory",
    ),
    (
        "tls_server_config: {cert_file: junk, key_file: server.key}",
        "tls_server_config.cert_file: D/junk holds no certificate; PEM text",
    ),
    (
        "tls_server_config: {cert_file: server.crt, key_file: empty}",
        "tls_server_config.key_file: D/empty holds no key; PEM",
    ),
    ("tls_server_config: {cert_file: server.crt, key_file: other.key}", "together (key values mismatch)"),
    (
        f"tls_server_config: {{{PAIR}, client_auth_type: Please}}",
        "client_auth_type: is 'Please'; must be NoClientCert,",
    ),
    (
        f"tls_server_config: {{{PAIR}, client_ca_file: authority.crt}}",
        "client_ca_file: is not used without client_auth_type; write RequireAndVerifyClientCert there",
    ),
    (
        f"tls_server_config: {{{MUTUAL.replace('authority.crt', 'none')}}}",
        "client_ca_file: D/none cannot be read: No such file or directory",
    ),
    (f"tls_server_config: {{{PAIR}, min_version: TLS14}}", "min_version: is 'TLS14'; must be TLS10, TLS11, TLS12 or"),
    (f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}}", "cipher_suites[0]: is 'TLS_RSA_WITH"),
    (f"tls_server_config: {{{PAIR}, curve_preferences: [P1]}}", "curve_preferences[0]: is 'P1'; must be X25519,"),
    ("http_server_config: {headers: {X-Mine: 1}}", "headers.X-Mine: cannot be set; Content-Security-Policy,"),
    ("http_server_config: {headers: {X-Frame-Options: DENY}}", "is 'DENY'; must be deny or sameorigin"),
    ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "is 'sniff'; must be nosniff"),
    ("basic_auth_users: {bob: cleartext}", ":1: basic_auth_users.bob: must be a password hashed with bcrypt,"),
    ("basic_auth_users: [bob]", ":1: basic_auth_users: is a list; must be a mapping"),
]
STRICTER = [
    (f"tls_server_config: {{{PAIR}, min_version: TLS10}}", "min_version: is TLS10, which is broken; write TLS12"),
    (f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}", "max_version: is TLS12, below min_"),
    (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}", "which takes any certificate that a"),
    (f"tls_server_config: {{{PAIR}, client_auth_type: RequireClientCert}}", "which takes any certificate that a"),
    (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}", "with nobody to verify by; give"),
    (
        f"tls_server_config: {{{MUTUAL.replace('authority.crt', 'junk')}}}",
        "client_ca_file: D/junk holds no certificate",
    ),
    (f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}}", "cipher_suites[0]: is 'TLS_RSA_"),
    ("tls_server_config: {min_version: TLS12}", "tls_server_config: has neither cert_file nor cert;"),
    ('http_server_config: {headers: {X-XSS-Protection: "1\\n2"}}', "X-XSS-Protection: has characters that no header"),
    (f"basic_auth_users: {{bob: '{HASH.replace('$10$', '$20$')}'}}", "bob: has the cost 20, so that each login would"),
    (f"basic_auth_users: {{'a:b': '{HASH}'}}", "is no name of a user: it must not be empty or have a colon"),
]
"""What promtool accepts and we do not."""


@pytest.mark.parametrize("text", GOOD)
def test_a_good_file_is_good_for_us_and_for_promtool(folder, text):
    assert said(folder, text) == ""
    assert promtool(folder / "web.yml")


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_bad_file_is_bad_for_us_and_for_promtool(folder, text, sentence):
    found = said(folder, text)
    assert found.startswith("D/web.yml:")
    assert sentence in found
    assert not promtool(folder / "web.yml")


@pytest.mark.parametrize(("text", "sentence"), STRICTER)
def test_what_is_unsafe_is_bad_for_us_alone(folder, text, sentence):
    assert sentence in said(folder, text)
    assert promtool(folder / "web.yml")


def test_several_curves_need_a_newer_python(folder):
    """Until then an order that cannot be kept is refused, not dropped."""
    found = said(folder, f"tls_server_config: {{{PAIR}, curve_preferences: [X25519, CurveP256]}}")
    assert found == "" if hasattr(ssl.SSLContext, "set_groups") else "can hold one curve alone" in found


def test_keys_of_newer_toolkits(folder):
    """Certificates inside the file, and the names of clients: the promtool of some distributions knows neither."""
    cert, key = ((folder / f"server.{end}").read_text().replace("\n", "\n    ") for end in ("crt", "key"))
    inline = f"tls_server_config:\n  cert: |\n    {cert}\n  key: |\n    {key}\n"
    assert said(folder, inline) == ""
    assert "key: is given beside key_file; keep one" in said(folder, inline + "  key_file: server.key\n")
    assert said(folder, f"tls_server_config: {{{MUTUAL}, client_allowed_sans: [prometheus]}}") == ""
    assert said(folder, "rate_limit: {interval: 100ms, burst: 20}") == ""
    assert "rate_limit.burst: is missing" in said(folder, "rate_limit: {interval: 100ms}")
    sentence = "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert"
    assert sentence in said(folder, f"tls_server_config: {{{PAIR}, client_allowed_sans: [prometheus]}}")


def test_all_faults_are_told_at_once_and_none_of_them_tells_a_secret(folder):
    found = said(folder, "basic_auth_users:\n  a: hunter2\n  b: 12345678\ntls_server_config:\n  key: hunter3\n")
    assert [line.partition(" ")[0] for line in found.splitlines()] == [f"D/web.yml:{n}:" for n in (2, 3, 4, 5)]
    assert not any(secret in found for secret in ("hunter", "12345678"))


def test_a_pipe_holds_nobody_up(folder):
    assert "pipe is no regular file" in said(folder, "tls_server_config: {cert_file: pipe, key_file: server.key}")


def test_a_key_with_a_password_is_refused(folder):
    command = [
        "openssl",
        "pkey",
        "-in",
        folder / "server.key",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        folder / "locked",
    ]
    subprocess.run(list(map(str, command)), check=True)
    found = said(folder, "tls_server_config: {cert_file: server.crt, key_file: locked}")
    assert "has a key that is encrypted; give one without a password" in found


def test_paths_are_relative_to_the_file(folder, monkeypatch):
    monkeypatch.chdir("/")
    assert said(folder, f"tls_server_config: {{{PAIR}}}") == ""


def test_the_page_shows_a_good_file(folder):
    """As it stands in docs/security.md."""
    (text,) = re.findall(r"```yaml\n(tls_server_config:.*?)```", DOCS.read_text(), re.DOTALL)
    (folder / "clients.crt").write_bytes((folder / "authority.crt").read_bytes())
    assert said(folder, text) == ""


def test_the_example_of_a_client_is_good():
    client(str(EXAMPLE.parent / "http-client.yml"))


def test_the_example_is_good(folder):
    assert said(folder, EXAMPLE.read_text()) == ""
    assert promtool(folder / "web.yml")
