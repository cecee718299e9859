"""One connection to a server of pages: a request out, an answer back, and again.

aiohttp's client does much that a page has no use for (cookies, streams, middlewares); with fifty pages a second that
was most of what reading them cost. What is hard about HTTP is llhttp's.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from msgspec import Struct

from inferometer.errors import SourceError

_HEAD_BYTES = 65_536
_LONG_HEAD = f"no usable HTTP answer (its header is over {_HEAD_BYTES} bytes)"
_KEPT_HEADERS = frozenset({b"location", b"content-encoding"})


class Answer(Struct, frozen=True):
    """An answer read whole. ``headers``: the few that a reader of pages looks at, by lower-case name."""

    status: int
    headers: dict[bytes, str]
    body: bytes


class Connection(asyncio.BufferedProtocol):
    """Asks one thing at a time. ``open``: it can be asked again, and nobody has since ``rests_since``.

    ``buffer``: what comes is read into it, and out of it at once, so that all connections of a loop may have the same.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.open = False
        self.rests_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._body: bytes | bytearray = b""
        self._headers: dict[bytes, str] = {}
        self._headers_bytes = self._headers_size = self._size = 0
        self._begin(0)

    async def get(self, request: bytes, limit: int) -> Answer:
        """Send a request and wait for the whole answer. Cancelled, or when it raises, the connection is closed.

        Raises ConnectionResetError where the connection breaks, and SourceError: ``reset`` where the server hung up
        before it answered, ``truncated`` after it began, ``too_large`` over ``limit`` bytes, ``protocol``.
        """
        if self._transport is None or not self.open:
            raise ConnectionResetError("the connection is closed")
        self._begin(limit)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None

    @property
    def has_begun(self) -> bool:
        """Whether anything of the newest answer has come."""
        return self._has_begun

    def close(self) -> None:
        """Let go of it at once; what was not sent or read yet is dropped."""
        self.open = False
        self._body = b""  # an error's traceback may hold on to this object for a while
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  as asyncio has it
        """Where to put what comes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """A piece of the answer, or something that nobody asked for."""
        if self._answer is None or self._answer.done():
            self.close()
            return
        self._has_begun, size = True, self._size
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ if isinstance(error.__context__, SourceError) else error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(SourceError("protocol", f"no usable HTTP answer ({type(error).__name__})"))
        self._headers_bytes = self._headers_bytes + nbytes if self._size == size else 0
        if self._headers_bytes > _HEAD_BYTES:  # a head, or a trailer, without an end
            self._fail(SourceError("protocol", _LONG_HEAD))

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, by either side."""
        self.open = False
        if error is not None:
            self._fail(error)
        elif self._in_body and not self._is_measured:
            self._finish()
        elif self._in_body:
            self._fail(SourceError("truncated", "the answer ends before its announced end"))
        else:
            self._fail(SourceError("reset", "the server hung up before it answered"))

    # -- llhttp calls these

    def on_message_begin(self) -> None:
        """An answer begins: the one that was asked for, or one too many."""
        if self._answer is None or self._answer.done():
            raise SourceError("protocol", "an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer, or of its trailer."""
        self._headers_size += len(name) + len(value)
        if self._headers_size > _HEAD_BYTES:
            raise SourceError("protocol", _LONG_HEAD)
        if self._in_body:
            return
        name = name.lower()
        if name in _KEPT_HEADERS:
            self._headers[name] = value.decode("latin-1")
        elif name == b"content-length":
            self._is_measured = True
            self._check(int(value) if value.isdigit() else 0)
        elif name == b"transfer-encoding":
            self._is_measured = True

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._in_body = True

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, out of its chunks."""
        self._size += len(piece)
        self._check(self._size)
        if not self._body:
            self._body = piece  # most bodies come in one
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += piece

    def on_message_complete(self) -> None:
        """The answer is whole, or was only one that says that another comes."""
        if self._parser.get_status_code() < 200:
            self._in_body = self._is_measured = False
            self._headers = {}
            return
        self.open = self.open and self._parser.should_keep_alive()
        self._finish()

    # --

    def _begin(self, limit: int) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._limit, self._size, self._headers_bytes, self._headers_size = limit, 0, 0, 0
        self._has_begun = self._in_body = self._is_measured = False
        self._body, self._headers = b"", {}

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise SourceError("too_large", f"the page is larger than {self._limit} bytes (max_page_bytes)")

    def _finish(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, bytes(self._body)))
            self._body = b""
        if not self.open:
            self.close()

    def _fail(self, error: BaseException) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()
