"""The completions API of a server: prompts that no cache knows, and every refusal as a sentence that names the flag."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Collection
from typing import Any

import aiohttp
from yarl import URL

from inferometer.errors import InferometerError, SourceError
from inferometer.sources import boottime, public_url
from inferometer.sources.credentials import Credentials, Target

_WORDS = """
river stone morning paper window green market number father winter school letter garden table simple music because
never under little always people should country between another through follow picture animal mother answer ground
house world above light thought together children without second enough almost family mountain listen travel early
reason across today during better however whole measure produce nothing rather
"""
_KEY = "give the server's key with --bearer-token-file FILE"
_FEWER = "it takes fewer requests at a time: lower --concurrency (prompts always come 8 at a time)"
_ADVICE = {
    401: _KEY,
    403: _KEY,
    404: "name the model with --model, or say where the API is with --api URL",
    405: "say where the API is with --api URL",
    429: _FEWER,
    503: _FEWER,
}
_LONGEST_SAID = 200
_KEPT_BYTES = 1 << 20


class RefusedError(SourceError):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__("status", text)
        self.status = status


class Completions:
    """Asks for completions under the target's address; ``patience``: seconds for an answer.

    ``model``: '' leaves it to ``choose_model``. ``ignores_eos``: answers are as long as was asked for.
    """

    def __init__(self, target: Target, session: aiohttp.ClientSession, model: str, patience: float) -> None:
        self.model = model
        self.ignores_eos = True
        self._base = URL(target.url)
        self._session, self._credentials, self._patience = session, Credentials(target), patience

    async def choose_model(self, on_page: Collection[str]) -> None:
        """Find out what the model is called: the only one that the API lists, else the only one ``on_page``."""
        if self.model:
            return
        try:
            listed = _models(await self._call("GET", "v1/models", None))
        except RefusedError as refusal:
            if refusal.status in {401, 403}:
                raise
            listed = []
        names = listed or sorted(on_page)
        if len(names) > 1:
            raise InferometerError(f"the server has {len(names)} models; name one with --model: {', '.join(names[:8])}")
        self.model = names[0] if names else ""

    async def ask(self, words: int, output_tokens: int) -> float:
        """One streamed completion of a prompt that was never sent before; the seconds that it took. SourceError."""
        prompt = " ".join(random.choices(_WORDS.split(), k=words))  # noqa: S311  text to compute on, no secret
        body: dict[str, Any] = {"prompt": prompt, "max_tokens": output_tokens, "stream": True}
        if self.model:
            body["model"] = self.model
        if self.ignores_eos:
            body["ignore_eos"] = True
        began = boottime()
        said = await self._call("POST", "v1/completions", body)
        if b'data: {"error"' in said:
            raise SourceError("api", f"the API broke an answer off: {_said(said.partition(b'data: ')[2])}")
        return boottime() - began

    async def _call(self, method: str, path: str, body: object) -> bytes:
        """The answer, read whole; its beginning."""
        url = self._base / path
        shown = public_url(str(url))
        try:
            async with asyncio.timeout(self._patience):
                status, said = await self._answer(method, url, body)
        except TimeoutError:
            raise SourceError("timeout", f"{shown}: no whole answer within {self._patience:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise SourceError("api", f"{shown}: no usable answer ({cause}); is the API there?") from error
        if status != 200:
            parts = (f"{shown}: the API answered {status}", _said(said), _ADVICE.get(status, ""))
            raise RefusedError(status, "; ".join(part for part in parts if part))
        return said

    async def _answer(self, method: str, url: URL, body: object) -> tuple[int, bytes]:
        authorization = self._credentials.authorization(url)
        headers = {"Authorization": authorization} if authorization else {}
        async with self._session.request(
            method, url.with_user(None), json=body, headers=headers, allow_redirects=False
        ) as response:
            start = b""
            async for chunk in response.content.iter_any():
                start += chunk[: _KEPT_BYTES - len(start)]
            return response.status, start


def addresses(url: str, api: str) -> tuple[str, str]:
    """The metrics page and the API's root, from the address of either. InferometerError where there is none in it."""
    page = _checked(url)
    path = page.path.rstrip("/")
    root = path.removesuffix("/metrics").removesuffix("/prometheus").removesuffix("/v1")
    if not path.endswith("/metrics"):
        page = page.with_path(f"{root}/metrics")
    base = _checked(api) if api else page
    return str(page), str(base.with_path(base.path.rstrip("/").removesuffix("/v1") if api else root))


def _checked(text: str) -> URL:
    try:
        url = URL(text)
        if url.scheme in {"http", "https"} and url.host and url.port:
            return url
    except ValueError:
        pass
    raise InferometerError(f"{public_url(text)}: this is no address of a server; write e.g. http://localhost:8000")


def _models(body: bytes) -> list[str]:
    """The names in a list of models, without adapters that build on another one of them."""
    try:
        rows = [row for row in json.loads(body)["data"] if not row.get("parent")]
        return [str(row["id"]) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _said(body: bytes) -> str:
    """What the server says about it, on one line."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        inner = found.get("error", found)
        text = str(inner.get("message") or inner.get("detail") or "") if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        text = "" if text.lstrip().startswith("<") else text
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return line if len(line) <= _LONGEST_SAID else line[: _LONGEST_SAID - 1] + "…"
