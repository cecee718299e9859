"""A running agent, asked again and again from another thread: its newest board, or why there is none."""

from __future__ import annotations

import http.client
import ssl
import threading
from typing import Any, Self, TypedDict, cast
from urllib.parse import urlsplit

import msgspec

from inferometer.errors import InferometerError
from inferometer.web.client import Answer, Client

Board = dict[str, Any]


class _Engine(TypedDict):
    up: bool


class _Made(TypedDict):
    how: str


class _Workload(TypedDict):
    name: str
    windows: dict[str, dict[str, float | None]]
    made: dict[str, _Made]
    engines: list[_Engine]


class _Gpu(TypedDict):
    index: int
    up: bool
    workloads: list[str]
    power_watts: float | None
    power_limit_watts: float | None
    activity_ratio: float | None


class _Source(TypedDict):
    source: str
    up: bool
    errors: dict[str, int]
    detail: str


class _Board(TypedDict):
    """What of the board is shown."""

    wall: float
    currency: str
    windows: list[str]
    workloads: list[_Workload]
    gpus: list[_Gpu]
    sources: list[_Source]
    hints: list[str]


DEFAULT_URL = "http://localhost:10110"
_PATIENCE_SECONDS = 5.0


def address(text: str) -> str:
    """The agent's base URL: a scheme is added, a path such as /metrics is taken off. Raises InferometerError."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InferometerError(f"{text!r} is no address of an agent; write it like {DEFAULT_URL}")
    if "@" in parts.netloc:
        raise InferometerError("the address carries a name or password; take it out and give --http.config.file FILE")
    path = parts.path.removesuffix("/").removesuffix("/metrics")
    return f"{parts.scheme}://{parts.netloc}{path}"


def read(base: str, client: Client) -> Board:
    """The board of the agent at ``base``. Raises InferometerError that says what to do."""
    try:
        answer = client.get(f"{base}/api/v1/board", _PATIENCE_SECONDS)
        if answer.status != 200:
            raise InferometerError(_refused(base, answer))
        made = msgspec.json.decode(answer.body)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise InferometerError(f"{base} does not answer as an agent ({_why(error)}); {_ADVICE}") from error
    return understood(made, base)


def understood(made: object, base: str) -> Board:
    """The board that the agent at ``base`` sent, as far as it is shown. InferometerError where it is none."""
    try:
        return cast("Board", msgspec.convert(made, _Board))
    except (msgspec.ValidationError, RecursionError) as error:
        raise InferometerError(f"{base} answers, but not as an agent of this version ({error}); {_ADVICE}") from error


_ADVICE = "start one with `inferometer run` or `inferometer demo`, or give its address: inferometer top URL"


def _refused(base: str, answer: Answer) -> str:
    if answer.status == 503:
        return f"{base} has no numbers yet: its first readings are still under way; try again in a moment"
    if answer.status in {401, 403}:
        return f"{base} answers {answer.status}: it wants to know who asks; give --http.config.file FILE"
    return f"{base} answers {answer.status} {answer.reason}, so it is no agent of this version; {_ADVICE}"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        known = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason or ""
        return f"TLS: {known.replace('_', ' ').lower()}; --http.config.file FILE says whom to trust and what to show"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class Watch:
    """Reads the board again and again in a daemon thread. ``board``: the newest; ``fault``: '' while it answers."""

    def __init__(self, base: str, board: Board, client: Client, every_seconds: float = 1.0) -> None:
        self._client = client
        self.base, self.board, self.fault = base, board, ""
        self._every_seconds = every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; an answer that is still awaited is left behind."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(self._every_seconds):
            try:
                self.board, self.fault = read(self.base, self._client), ""
            except InferometerError as error:
                self.fault = str(error)
