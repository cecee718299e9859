"""TLS as a web configuration file has it: real certificates of openssl, and files that change under the server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import aiohttp
import pytest
from gated import MUTUAL, PAIR, RIGHT, get, hashed, serving, trusting, written
from inferometer.web.config import WebConfig
from inferometer.web.gate import names
from inferometer.web.rate import Bucket
from inferometer.web.schema import RateLimit

# -- TLS ------------------------------------------------------------------------------------------


def test_tls_is_spoken_and_nothing_else(folder):
    async def run():
        async with serving(folder, f"tls_server_config: {{{PAIR}}}") as (base, _):
            old = ssl.TLSVersion.TLSv1_2
            return [
                await get(f"{base}/metrics", trusting(folder)),
                await get(f"{base}/metrics", trusting(folder, maximum_version=old)),
                await get(f"{base}/metrics"),  # our authority is no public one
                await get(f"{base}/metrics".replace("https", "http")),
            ]

    assert asyncio.run(run()) == [200, 200, "refused", "refused"]


def test_versions_suites_and_curves_are_kept_to(folder):
    """What the file leaves out is not spoken; what it names is what the connection gets."""
    suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"

    async def spoken(text, **limits):
        async with serving(folder, f"tls_server_config: {{{PAIR}, {text}}}") as (base, _):
            context = trusting(folder, **limits)
            if await get(f"{base}/metrics", context) == "refused":
                return None
            reader, writer = await asyncio.open_connection("localhost", int(base.rpartition(":")[2]), ssl=context)
            connection = writer.get_extra_info("ssl_object")
            writer.close()
            del reader
            return connection.version(), connection.cipher()[0]

    async def run():
        old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        return [
            await spoken("min_version: TLS13", **old),
            (await spoken("max_version: TLS12"))[0],
            await spoken(f"cipher_suites: [{suite}]", **old),
            await spoken("cipher_suites: [TLS_AES_128_GCM_SHA256]", **old),
            (await spoken("curve_preferences: [CurveP384]"))[0],
        ]

    assert asyncio.run(run()) == [None, "TLSv1.2", ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"), None, "TLSv1.3"]


def test_a_client_needs_a_certificate_of_the_authority(folder):
    async def run():
        async with serving(folder, f"tls_server_config: {{{MUTUAL}}}") as (base, _):
            return [await get(f"{base}/metrics", trusting(folder, who)) for who in ("client", "foreign", None)]

    assert asyncio.run(run()) == [200, "refused", "refused"]


def test_a_certificate_that_is_optional_is_verified_where_there_is_one(folder):
    text = f"tls_server_config: {{{MUTUAL.replace('RequireAndVerifyClientCert', 'VerifyClientCertIfGiven')}}}"

    async def run():
        async with serving(folder, text) as (base, _):
            return [await get(f"{base}/metrics", trusting(folder, who)) for who in ("client", "foreign", None)]

    assert asyncio.run(run()) == [200, "refused", 200]


@pytest.mark.parametrize(
    ("allowed", "status"),
    [
        ("prometheus", 200),
        ("'2001:db8::1'", 200),
        ("a@b.example", 200),
        ("'spiffe://x/y'", 200),
        ("other, prometheus", 200),
        ("prom", 403),
        ("client", 403),  # the common name is no alternative name
    ],
)
def test_a_certificate_must_be_for_an_allowed_name(folder, allowed, status):
    async def run():
        async with serving(folder, f"tls_server_config: {{{MUTUAL}, client_allowed_sans: [{allowed}]}}") as (base, _):
            return [await get(base + path, trusting(folder, "client")) for path in ("/metrics", "/-/healthy")]

    assert asyncio.run(run()) == [status, status]


def test_only_verified_names_count():
    assert list(names({})) == []
    assert list(names({"subjectAltName": (("DNS", "a"), ("DirName", "b"))})) == ["a"]


# -- files that change ----------------------------------------------------------------------------


def serial(base):
    """Which certificate a new connection gets."""

    async def ask():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("localhost", int(base.rpartition(":")[2]), ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return der

    return ask()


def test_a_certificate_is_rotated_without_a_restart(folder, caplog):
    """The next connection has the new one; half a rotation keeps the old one, is told once, and heals itself."""
    caplog.set_level(logging.INFO)

    async def run():
        async with serving(folder, f"tls_server_config: {{{PAIR}}}") as (base, config):
            first = await serial(base)
            (folder / "server.crt").write_bytes((folder / "next.crt").read_bytes())
            half = [await serial(base) for _ in range(3)]
            bad = config.is_good
            (folder / "server.key").write_bytes((folder / "next.key").read_bytes())
            second = await serial(base)
            return half == [first] * 3, second != first, bad, config.is_good

    assert asyncio.run(run()) == (True, True, False, True)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "the web configuration is bad; the last good one stays",
        "the web configuration is loaded again",
    ]
    assert "cannot be used together (key values mismatch)" in caplog.records[0].error


def test_a_kept_connection_moves_to_the_new_certificate(folder):
    """It is answered once more and closed, so that old rules for clients do not live as long as a connection."""

    async def run():
        async with serving(folder, f"tls_server_config: {{{PAIR}}}") as (base, _), aiohttp.ClientSession() as client:
            url, context, ports = f"{base}/metrics", trusting(folder), []
            for step in range(4):
                if step == 2:
                    written(folder, f"tls_server_config: {{{PAIR}, max_version: TLS12}}")
                async with client.get(url, ssl=context) as response:
                    ports.append(await response.text())
            return ports

    first, second, third, fourth = asyncio.run(run())
    assert first == second == third != fourth


def test_a_bad_file_keeps_the_last_good_one(folder, caplog):
    good = f"basic_auth_users: {{bob: '{hashed('right')}'}}"

    async def run():
        async with serving(folder, good) as (base, config):
            seen = []
            for text in (good, "nonsense: 1", "nonsense: 1", f"tls_server_config: {{{PAIR}}}", good):
                written(folder, text)
                seen += [await get(f"{base}/metrics"), await get(f"{base}/metrics", authorization=RIGHT)]
                seen.append(config.is_good)
            (folder / "web.yml").unlink()
            return [*seen, await get(f"{base}/metrics", authorization=RIGHT), config.is_good]

    good_again, bad = [401, 200, True], [401, 200, False]
    assert asyncio.run(run()) == [*good_again, *bad, *bad, *bad, *good_again, 200, False]
    errors = [record.error for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert "nonsense: unknown key" in errors[0]
    assert errors[1].endswith("TLS cannot be switched on or off while the agent runs; restart it")
    assert "cannot be read" in errors[2]


def test_a_certificate_that_comes_later_heals_a_file(folder):
    async def run():
        async with serving(folder, f"tls_server_config: {{{PAIR}}}") as (base, config):
            first = await serial(base)
            written(folder, "tls_server_config: {cert_file: later.crt, key_file: next.key}")
            kept = await serial(base) == first
            (folder / "later.crt").write_bytes((folder / "next.crt").read_bytes())
            return kept, await serial(base) != first, config.is_good

    assert asyncio.run(run()) == (True, True, True)


def test_the_files_are_where_they_say(folder):
    """The package keeps nothing of them: a memory file is closed as soon as OpenSSL has read it."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        WebConfig(written(folder, f"tls_server_config: {{{MUTUAL}}}"))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


# -- how often ------------------------------------------------------------------------------------


def test_a_limit_is_for_all_and_follows_the_file(folder):
    async def run():
        async with serving(folder, "rate_limit: {interval: 1h, burst: 3}") as (base, _):
            seen = [await get(base + path) for path in ("/metrics", "/-/healthy", "/nowhere", "/metrics")]
            written(folder, "rate_limit: {interval: 1h, burst: 1}")
            seen += [await get(f"{base}/metrics") for _ in range(2)]
            written(folder, "")
            return [*seen, await get(f"{base}/metrics")]

    assert asyncio.run(run()) == [200, 200, 404, 429, 200, 429, 200]


def test_a_bucket_fills_by_one_in_each_interval():
    bucket, limit = Bucket(), RateLimit(interval=2.0, burst=2)
    taken = [bucket.takes(limit, at) for at in (10.0, 10.0, 10.0, 11.0, 12.0, 12.5, 100.0, 100.0, 100.0)]
    assert taken == [True, True, False, False, True, False, True, True, False]
