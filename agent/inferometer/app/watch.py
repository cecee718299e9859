"""A running agent, asked again and again from another thread: its newest board, or why there is none."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from typing import Any, Self
from urllib.parse import urlsplit

from inferometer.errors import InferometerError
from inferometer.web.client import Answer, Client

Board = dict[str, Any]
DEFAULT_URL = "http://localhost:10110"
_PATIENCE_SECONDS = 5.0


def address(text: str) -> str:
    """The agent's base URL: a scheme is added, a path such as /metrics is taken off. Raises InferometerError."""
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    try:
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
        made = json.loads(answer.body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InferometerError(f"{base} does not answer as an agent ({_why(error)}); {_ADVICE}") from error
    if not isinstance(made, dict) or "workloads" not in made:
        raise InferometerError(f"{base} answers, but not as an agent; {_ADVICE}")
    return made


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
