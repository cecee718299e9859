"""What may be wrong with the bytes on a connection. Each fault writes its own answer; the connection ends with it."""

from __future__ import annotations

import asyncio
import gzip
import random
from asyncio import StreamWriter
from collections.abc import Awaitable, Callable

from chaos.pages import EXACT

Fault = Callable[[random.Random, bytes, StreamWriter], Awaitable[None]]
_MEBIBYTE = 1 << 20


def head(status: str = "200 OK", *lines: str) -> bytes:
    """The head of an answer."""
    return "\r\n".join((f"HTTP/1.1 {status}", "Content-Type: text/plain", *lines, "Connection: close", "", "")).encode()


def whole(page: bytes, *lines: str) -> bytes:
    """A good answer."""
    return head("200 OK", f"Content-Length: {len(page)}", *lines) + page


async def late(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    await asyncio.sleep(rng.uniform(0, 0.2))
    to.write(whole(page))


async def drip(_: random.Random, page: bytes, to: StreamWriter) -> None:
    answer = whole(page)
    for at in range(0, len(answer), 200):
        to.write(answer[at : at + 200])
        await to.drain()
        await asyncio.sleep(0.05)


async def mute(_rng: random.Random, _page: bytes, _to: StreamWriter) -> None:
    await asyncio.sleep(5)


async def reset(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    """Before the head, within it, or within the body."""
    answer = whole(page)
    to.write(answer[: rng.choice((0, 0, rng.randrange(60), rng.randrange(len(answer) - 1)))])
    await to.drain()
    await asyncio.sleep(rng.choice((0, 0.02)))
    to.transport.abort()


async def cut(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    to.write(whole(page)[: -rng.randrange(1, len(page))])


async def too_short_a_length(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    """Less is announced than comes: the rest is no answer of anybody."""
    to.write(head("200 OK", f"Content-Length: {len(page) - rng.randrange(2, 40)}") + page)


async def bomb(_: random.Random, _page: bytes, to: StreamWriter) -> None:
    body = gzip.compress(bytes(30 * _MEBIBYTE))
    to.write(head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(body)}") + body)


async def broken_gzip(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    body = bytearray(gzip.compress(page))
    body[rng.randrange(20, len(body) - 8)] ^= 0xFF
    to.write(whole(bytes(body), "Content-Encoding: gzip"))


async def endless(_: random.Random, _page: bytes, to: StreamWriter) -> None:
    to.write(head("200 OK", "Transfer-Encoding: chunked"))
    chunk = b"vllm:without_end_total 1\n" * 4000
    for _ in range(100):
        to.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await to.drain()


async def bad_chunks(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    size = rng.choice((b"xyz", b"-5", b"ffffffffffffffffffff", b"", b"10 10"))
    to.write(head("200 OK", "Transfer-Encoding: chunked") + size + b"\r\n" + page + b"\r\n0\r\n\r\n")


async def half_the_chunks(_: random.Random, page: bytes, to: StreamWriter) -> None:
    half = page[: len(page) // 2]
    to.write(head("200 OK", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(half), half))


async def long_head(_: random.Random, page: bytes, to: StreamWriter) -> None:
    to.write(head("200 OK", f"X-Long: {'x' * 100_000}", f"Content-Length: {len(page)}") + page)


async def many_heads(_: random.Random, page: bytes, to: StreamWriter) -> None:
    to.write(head("200 OK", *(f"X-{n}: 1" for n in range(20_000)), f"Content-Length: {len(page)}") + page)


async def no_http(rng: random.Random, _page: bytes, to: StreamWriter) -> None:
    to.write(
        rng.choice((b"\x16\x03\x01\x00", b"SSH-2.0-x\r\n", b"HTTP/9.9 2000 ?\r\n\r\n", bytes(300), b"HTTP/1.1 200\r\n"))
    )


async def status(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    code = rng.choice(("204 No Content", "401 Unauthorized", "403 Forbidden", "429 Slow Down", "500 No", "503 Later"))
    to.write(
        head(code, "Content-Length: 0") if code[:3] == "204" else head(code, f"Content-Length: {len(page)}") + page
    )


async def redirect(rng: random.Random, _page: bytes, to: StreamWriter) -> None:
    where = rng.choice(("/metrics", "", "ftp://x/", "http://[", "//", "http://127.0.0.1:1/"))
    to.write(head("302 Found", f"Location: {where}", "Content-Length: 0"))


async def html(_rng: random.Random, _page: bytes, to: StreamWriter) -> None:
    to.write(whole(b"<html><body>Bad gateway</body></html>\n"))


async def empty(_rng: random.Random, _page: bytes, to: StreamWriter) -> None:
    to.write(whole(b""))


async def another_text(rng: random.Random, page: bytes, to: StreamWriter) -> None:
    to.write(whole(EXACT[rng.choice([*EXACT])](rng, page)))


REASONS: dict[Fault, set[str]] = {
    late: {"", "timeout"},
    drip: {"timeout"},
    mute: {"timeout"},
    reset: {"reset", "truncated", "protocol"},
    cut: {"truncated"},
    too_short_a_length: {"truncated", "protocol"},
    bomb: {"too_large"},
    broken_gzip: {"protocol", "truncated"},
    endless: {"too_large"},
    bad_chunks: {"protocol", "truncated", "reset"},
    half_the_chunks: {"truncated"},
    long_head: {"protocol"},
    many_heads: {"protocol"},
    no_http: {"protocol", "reset"},
    status: {"status"},
    redirect: {"redirect", "refused", "protocol"},
    html: {"not_metrics"},
    empty: {"truncated"},
    another_text: {"", "not_metrics", "unknown_engine", "truncated"},
}
"""By fault the reasons by which the agent may count it; '' where the page is read all the same."""
