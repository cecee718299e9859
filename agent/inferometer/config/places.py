"""Kinds of values that name a place: URLs, addresses, GPUs, times of day."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from inferometer.config.kinds import Json, Scalar, Text
from inferometer.config.node import Node

_GPU = r"(?:GPU|MIG)-[0-9A-Za-z/-]+"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_RECORDING = "recording:"

FILE = Text("the path of a file")
DIRECTORY = Text("the path of a directory")
CURRENCY = Text("a currency of three capital letters, e.g. USD", r"[A-Z]{3}")
NAMESPACE = Text("a namespace's name", r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAME = Text("a name of letters, digits and . _ - /", r"[A-Za-z0-9][A-Za-z0-9._/-]*")


class Address(Text, frozen=True):
    """Where to listen."""

    means: str = "an address HOST:PORT or :PORT, e.g. :10110"
    pattern: str = r"(?:[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):\d{1,5}"

    def _read(self, text: str, node: Node) -> Any:
        address = super()._read(text, node)
        if int(text.rpartition(":")[2]) > 65535:
            raise ValueError(self.refusal(node))
        return address


class Url(Scalar, frozen=True):
    """The address of a metrics page; a server without a path gets ``/metrics``."""

    recordings: bool = False

    def _noun(self) -> str:
        recording = " or recording:NAME" if self.recordings else ""
        return f"a URL such as http://127.0.0.1:8000/metrics{recording}"

    def _read(self, text: str, node: Node) -> Any:
        if self.recordings and text.startswith(_RECORDING) and text != _RECORDING:
            return text
        if "@" in text.rpartition("://")[2].partition("/")[0]:
            raise ValueError("carries a user or password; take it out (engines have bearer_token_file)")
        if re.fullmatch(r"[\w.-]+(:\d+)?(/.*)?", text) and not text.isdecimal():
            shown = node.written or text
            raise ValueError(f"is '{shown}' without a scheme; write http://{shown}")
        try:
            url = urlsplit(text)
            usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0 and not re.search(r"\s", text)
        except ValueError:  # a port that is no number, a bracket that never closes
            usable = None
        if not usable:
            raise ValueError(self.refusal(node))
        return url._replace(path=url.path if url.path.strip("/") else "/metrics").geturl()

    def _schema(self) -> Json:
        return {"type": "string", "pattern": "^(?:https?://|recording:)." if self.recordings else "^https?://."}


class ApiUrl(Scalar, frozen=True):
    """The address of a server, without a path."""

    def _noun(self) -> str:
        return "the URL of a server such as https://10.0.0.1:443"

    def _read(self, text: str, node: Node) -> Any:
        if not re.fullmatch(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?/?", text):
            raise ValueError(self.refusal(node))
        return text.rstrip("/")

    def _schema(self) -> Json:
        return {"type": "string", "pattern": "^https?://."}


class GpuId(Scalar, frozen=True):
    """One GPU or MIG instance by UUID, or a GPU by index."""

    def _noun(self) -> str:
        return "a UUID (GPU-…, MIG-…) or an index"

    def _read(self, text: str, node: Node) -> Any:
        if text.isdecimal() and text.isascii():
            return int(text)
        if not re.fullmatch(_GPU, text):
            raise ValueError(self.refusal(node))
        return text

    def _schema(self) -> Json:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_GPU}$"}]}


class Clock(Scalar, frozen=True):
    """A time of day, in minutes since midnight once read."""

    def _noun(self) -> str:
        return 'a time of day in quotes, "00:00" to "23:59"'

    def _read(self, text: str, node: Node) -> Any:
        if not re.fullmatch(_CLOCK, text, re.ASCII):
            raise ValueError(self.refusal(node))
        return int(text[:2]) * 60 + int(text[3:])

    def _schema(self) -> Json:
        return {"type": "string", "pattern": f"^{_CLOCK}$"}

    def _show(self, value: Any) -> Any:
        return f"{value // 60:02d}:{value % 60:02d}"
