"""A server behind a web configuration file, and clients of it with certificates and passwords."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager

import aiohttp
import bcrypt
from aiohttp import web
from inferometer.exposition.listen import listen
from inferometer.web.config import WebConfig
from inferometer.web.gate import Gate

PAIR = "cert_file: server.crt, key_file: server.key"
MUTUAL = f"{PAIR}, client_ca_file: authority.crt, client_auth_type: RequireAndVerifyClientCert"


def basic(text):
    return "Basic " + base64.b64encode(text).decode()


def login(name, password):
    """The header that shows them."""
    return basic(f"{name}:{password}".encode())


RIGHT, WRONG = login("bob", "right"), login("bob", "wrong")


def hashed(password, rounds=4):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def written(folder, text):
    """The web configuration file, replaced at once as Kubernetes does."""
    fresh = folder / "fresh"
    fresh.write_text(text)
    fresh.replace(folder / "web.yml")
    return str(folder / "web.yml")


async def whence(request):
    """By which of its ports the client came."""
    return web.Response(text=str(request.get_extra_info("peername")[1]))


async def endless(request):
    """A stream that its server never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"more\n")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(folder, text):
    """A server with a page, a stream and the probes; yields its base URL and its configuration."""
    config = WebConfig(written(folder, text))
    app = web.Application()
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        app.router.add_get(path, whence)
    app.router.add_get("/stream", endless)
    Gate(config).install(app)
    listener = await listen(app, "127.0.0.1:0", tls=config.context())
    try:
        yield f"{'https' if config.speaks_tls else 'http'}://localhost:{listener.port}", config
    finally:
        await listener.close()


def trusting(folder, client=None, **limits):
    """The context of a client that trusts the authority and may have a certificate."""
    context = ssl.create_default_context(cafile=str(folder / "authority.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    for name, value in limits.items():
        setattr(context, name, value)
    return context


async def get(url, context=None, authorization=""):
    """Status of one GET by a new connection; "refused" where there is none."""
    headers = {"Authorization": authorization} if authorization else {}
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=context or True, headers=headers) as response,
        ):
            await response.read()
            return response.status
    except (aiohttp.ClientError, ConnectionError):
        return "refused"
