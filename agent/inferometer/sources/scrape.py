"""Any /metrics page over HTTP: one target, one reading at a time, and every way in which it can fail by name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from msgspec.structs import replace
from yarl import URL

from inferometer.errors import SourceError
from inferometer.model import Page
from inferometer.sources.connection import Answer
from inferometer.sources.credentials import Credentials, Target
from inferometer.sources.inflate import inflate
from inferometer.sources.page import PageParser, ParsedPage, is_readable
from inferometer.sources.session import Session

__all__ = ["REASONS", "Scraper", "Target", "open_session"]

REASONS = (
    "dns", "refused", "timeout", "tls", "status", "redirect", "too_large", "truncated", "not_metrics", "reset",
    "protocol", "auth_file", "unreachable", "exhausted",
)  # fmt: skip
"""Every ``Page.error`` a Scraper gives, beside ''."""

_JSON = "no metrics page but JSON"
_COMMENTS = (b"# HELP", b"# TYPE")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_LARGE_BYTES = 1 << 20  # a larger body would hold up the event loop
_LARGE_COMPRESSED_BYTES = 1 << 14  # it can inflate a thousandfold
_JSON_REST_SECONDS = 60.0  # trtllm-serve's /metrics is a JSON list that empties when it is read: leave it to its owner
_HEADERS = ("Accept: text/plain;version=0.0.4", "Accept-Encoding: identity", "User-Agent: inferometer")

# Threads start with the first large page. Not the loop's own pool: the ledger is not to wait for a page.
_large_pages = ThreadPoolExecutor(2, "large-page")

_FAULTS: tuple[tuple[type[BaseException], str, str], ...] = (
    (TimeoutError, "timeout", "the server's machine does not answer"),
    (socket.gaierror, "dns", "the host name cannot be resolved; check the address"),
    (ssl.SSLError, "tls", "no TLS connection; check ca_file, server_name and that the port speaks TLS"),
    (ConnectionRefusedError, "refused", "no connection; is the server up and the port right?"),
    (ConnectionError, "reset", "the connection broke"),
    (OSError, "unreachable", "no connection"),
    (ValueError, "protocol", "the address cannot be used"),
)


_ERRNO = re.compile(r"\[Errno (\d+)\]")
_NO_WAY_OF_OURS = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH)  # of IPv6, where there is none
_NO_SOCKET = ("exhausted", "no socket is left on this side; raise the limit of open files")
_NO_WAY = ("unreachable", "there is no way to the server")
_ERRNOS = {
    errno.ETIMEDOUT: ("timeout", "the server's machine does not answer"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL), _NO_SOCKET),
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN), _NO_WAY),
}
"""Before the kinds of errors: only a server that refuses can be known not to have served."""


@contextlib.asynccontextmanager
async def open_session() -> AsyncIterator[Session]:
    """The one session of all targets."""
    session = Session()
    try:
        yield session
    finally:
        await session.close()


class Scraper:
    """Reads one target's page. ``wanted`` as in PageParser; ``clock`` gives steady seconds."""

    def __init__(
        self,
        target: Target,
        wanted: Collection[str] | None,
        session: Session,
        clock: Callable[[], float],
    ) -> None:
        self._target = target
        self._wanted = wanted
        self._session = session
        self._clock = clock
        self._parser = PageParser(wanted, most=target.max_page_series)
        self._credentials = Credentials(target)
        self._rests: tuple[float, Page] | None = None

    async def read(self) -> Page:
        """One reading within the target's timeout. Never raises but CancelledError; one at a time.

        An address that answered with JSON is left alone for a minute: to read it may have emptied it.
        """
        if self._rests is not None and self._clock() < self._rests[0]:
            return replace(self._rests[1], at=self._clock(), seconds=0.0)
        page = await self._read()
        self._rests = (page.at + _JSON_REST_SECONDS, page) if page.detail.startswith(_JSON) else None
        return page

    async def _read(self) -> Page:
        name, began = self._target.name, self._clock()
        try:
            body, encoding = await self._fetch_in_time()
            at = self._clock()
            parsed = await self._parse(body, encoding)
        except Exception as error:  # noqa: BLE001 - a source may fail, the agent may not
            at = self._clock()
            reason, detail = _fault(error)
            return Page(name, at, error=reason, seconds=at - began, detail=detail)
        return Page(name, at, "", parsed.layout, parsed.values, parsed.malformed, at - began)

    async def fetch(self) -> bytes:
        """The page as it is, within the target's timeout, not parsed. Raises SourceError."""
        try:
            body, encoding = await self._fetch_in_time()
            return inflate(body, encoding, self._target.max_page_bytes)
        except Exception as error:
            reason, detail = _fault(error)
            raise SourceError(reason, detail) from error

    async def _fetch_in_time(self) -> tuple[bytes, str]:
        deadline = asyncio.timeout(None)
        expire = partial(deadline.reschedule, 0.0)
        moment = self._session.deadlines.set(self._target.timeout_seconds, expire)
        try:
            async with deadline:
                return await self._fetch()
        except TimeoutError:
            if deadline.expired():
                seconds = self._target.timeout_seconds
                raise SourceError("timeout", f"no whole answer within {seconds:g} s") from None
            raise
        finally:
            self._session.deadlines.drop(moment, expire)

    async def _fetch(self) -> tuple[bytes, str]:
        """The body as it was sent and its content encoding, after at most three redirects within the host.

        Token, client certificate and trusted CA are for the configured scheme, host and port alone, and do not come
        back after a detour.
        """
        given, home = _addresses(self._target.url)
        authorization, url, at_home, has_left = self._credentials.authorization(given), home, True, False
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._get(url, "" if has_left else authorization, at_home=at_home)
            if answer.status == 200:
                return answer.body, answer.headers.get(b"content-encoding", "").strip().lower()
            url = _next(url, answer)
            _check_host(url, home)
            at_home = url.origin() == home.origin()
            has_left = has_left or not at_home
        raise SourceError("redirect", f"more than {_MAX_REDIRECTS} redirects")

    async def _get(self, url: URL, authorization: str, *, at_home: bool) -> Answer:
        limit = self._target.max_page_bytes
        if not at_home or url.scheme != "https":
            return await self._session.get(url, _request(url, authorization), limit)
        tls = self._credentials.tls()
        return await self._session.get(url, _request(url, authorization), limit, tls, self._target.server_name)

    async def _parse(self, body: bytes, encoding: str) -> ParsedPage:
        limit = self._target.max_page_bytes
        if len(body) <= (_LARGE_COMPRESSED_BYTES if encoding else _LARGE_BYTES):
            return _digest(body, encoding, limit, self._parser)
        # A parser of its own: a reading that was cancelled may leave a thread behind that still parses.
        parser = PageParser(self._wanted, most=self._target.max_page_series)
        digest = partial(_digest, body, encoding, limit, parser)
        return await asyncio.get_running_loop().run_in_executor(_large_pages, digest)


def _digest(body: bytes, encoding: str, limit: int, parser: PageParser) -> ParsedPage:
    """The page in a whole answer; SourceError when it is none or was cut off."""
    text = inflate(body, encoding, limit)
    page = parser.parse(text)
    is_suspect = not page.layout and (page.malformed or not page.complete) and not text.startswith(_COMMENTS)
    if text and (_kind(text) == "HTML" or (is_suspect and not is_readable(text))):
        kind = _kind(text)
        hint = "; TensorRT-LLM's is /prometheus/metrics" if kind == "JSON" else ""
        raise SourceError("not_metrics", f"no metrics page but {kind}; check the path of the address{hint}")
    if page.too_many:
        raise SourceError("too_large", "the page has more series than are read of one (max_page_series)")
    if not page.complete:
        raise SourceError("truncated", "the page ends in the middle of a line" if text else "the page is empty")
    return page


def _kind(text: bytes) -> str:
    return {b"<": "HTML", b"{": "JSON", b"[": "JSON"}.get(text.lstrip()[:1], "something else")


@lru_cache(maxsize=2048)
def _addresses(text: str) -> tuple[URL, URL]:
    """The address as it was given and without its user; ValueError where it is none."""
    url = URL(text)
    return url, url.with_user(None)


@lru_cache(maxsize=2048)
def _request(url: URL, authorization: str) -> bytes:
    """The same bytes at every reading."""
    more = [f"Authorization: {authorization}"] if authorization else []
    lines = (f"GET {url.raw_path_qs} HTTP/1.1", f"Host: {url.host_port_subcomponent}", *_HEADERS, *more, "", "")
    return "\r\n".join(lines).encode("latin-1")


def _next(url: URL, answer: Answer) -> URL:
    """Where an answer that is no page sends the reader."""
    location = answer.headers.get(b"location", "")
    if answer.status not in _REDIRECTS:
        hint = "; check the token" if answer.status in {401, 403} else ""
        raise SourceError("status", f"the server answered {answer.status}{hint}")
    try:
        target = url.join(URL(location)).with_user(None)
        if location and target.scheme in {"http", "https"} and target.host:
            return target
    except ValueError:
        pass
    raise SourceError("redirect", f"a redirect ({answer.status}) to no usable address")


def _check_host(url: URL, home: URL) -> None:
    """An engine may not send the agent to other machines of its network, nor from an encrypted page to an open one."""
    if url.host != home.host:
        raise SourceError("redirect", "a redirect leads to another host; if that is the one, give its address")
    if home.scheme == "https" and url.scheme != "https":
        raise SourceError("redirect", "a redirect leads from https to http; give the address that is meant")


def _fault(error: Exception) -> tuple[str, str]:
    """Reason and sentence for whatever went wrong."""
    if isinstance(error, SourceError):
        return error.reason, str(error)
    if isinstance(error, OSError) and error.errno is None and _all_refused(error):
        error = ConnectionRefusedError(errno.ECONNREFUSED, "no address takes connections")
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        reason, sentence = _ERRNOS[error.errno]
        return reason, f"{sentence} ({_cause(error)})"
    for kind, reason, sentence in _FAULTS:
        if isinstance(error, kind):
            return reason, f"{sentence} ({_cause(error)})"
    return "protocol", f"no usable HTTP answer ({_cause(error)})"


def _all_refused(error: OSError) -> bool:
    """Whether a host of several addresses refused on all that this machine has a way to."""
    errnos = {int(found) for found in _ERRNO.findall(str(error))}
    return errno.ECONNREFUSED in errnos and errnos <= {errno.ECONNREFUSED, *_NO_WAY_OF_OURS}


def _cause(error: Exception) -> str:
    """What the system or the library said, on one line and without addresses, which may hold a password."""
    if isinstance(error, OSError) and error.strerror:
        return " ".join(str(error.strerror).split())
    return type(error).__name__
