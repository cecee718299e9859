"""What an API server sends: lists and watches of pods, in pieces. No pod, however odd, hides the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from unittest import mock

import aiohttp
import msgspec
from fuzz.draw import Draw
from inferometer.sources import kubernetes
from inferometer.sources.kubernetes import REASONS, Cluster, PodWatch, Query
from inferometer.sources.podobjects import PodObject, serving

GOOD = {"metadata": {"name": "good-0", "namespace": "n", "uid": "g", "resourceVersion": "5", "annotations": {"inferometer.dev/scrape": "true"}},
        "spec": {"containers": [{"ports": [{"containerPort": 8000, "name": "http"}], "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}}  # fmt: skip
ANNOTATIONS = tuple(
    prefix + name
    for prefix in ("inferometer.dev/", "prometheus.io/")
    for name in ("scrape", "path", "port", "scheme", "role", "workload")
)
TEXTS = ("true", "", "//x", "/a b?c#d", "http", "https", "8000", "99999999", "0", "٣", "²", "\0", "%zz", "metrics", "::1", "fe80::1%eth0", "256.1.1.1", "a b", "..", "x" * 300, "[::1", "\ud7ff\n", "prefill", "9" * 5000)  # fmt: skip
DICTIONARY = (
    *tuple(name.encode() for name in ANNOTATIONS),
    b'{"type":"ADDED","object":',
    b'"BOOKMARK"',
    b'"ERROR"',
    b'"DELETED"',
    b'"code":410',
    b'"items":[',
    b'"continue":"x"',
    b'"podIP":"',
    b"\n",
    b"null",
    b"1e999",
)


def seeds():
    """A list and a watch, and decisions."""
    listing, event = (
        json.dumps({"metadata": {"resourceVersion": "1"}, "items": [GOOD]}),
        json.dumps({"type": "ADDED", "object": GOOD}),
    )
    yield b"\0" + f"{listing}\0{event}\n{event}\n".encode()
    yield b"\1" + bytes(range(100))
    yield b"\3" + bytes(range(100))


def check(data):
    """Reasons from the closed set, and the good pod wherever a list with it was read."""
    draw = Draw(data)
    kind = draw.byte()
    if kind & 1:
        odd = _pod(draw)
        with contextlib.suppress(msgspec.MsgspecError):
            serving(msgspec.convert(odd, PodObject))
        bodies = _answers(draw, odd) if kind & 2 else []
    else:
        bodies = draw.rest().split(b"\0")[:8]
    if bodies:
        _followed(bodies)


def _followed(bodies):
    told, left = [], list(bodies)

    class Session:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        @contextlib.asynccontextmanager
        async def get(self, *_, **__):
            if not left:
                raise asyncio.CancelledError
            body = left.pop(0)
            yield SimpleNamespace(
                status=200, read=_ready(body), content=SimpleNamespace(iter_any=lambda: _pieces(body))
            )

    with (
        mock.patch.object(aiohttp, "ClientSession", return_value=Session()),
        mock.patch.object(aiohttp, "TCPConnector"),
        mock.patch.multiple(kubernetes, _FIRST_PAUSE_SECONDS=0.0, _LONGEST_PAUSE_SECONDS=0.0),
        contextlib.suppress(asyncio.CancelledError),
    ):
        _run(PodWatch(Cluster("http://127.0.0.1:1"), Query(), lambda: 5.0).follow(told.append))
    if told and not _listed(bodies[0]) <= {pod.uid for pod in told[0].pods}:
        raise AssertionError((bodies[0], told[0]))
    for pods in told:
        if pods.error and pods.error not in REASONS:
            raise AssertionError(pods)


def _listed(body):
    """The uids of the pods that serve on a list that is all there is; none of what is no list."""
    try:
        listing = msgspec.json.decode(body, type=_List)
    except ValueError:
        return set()
    found = [serving(pod).pod for pod in listing.items or ()]
    return set() if listing.metadata.get("continue") else {pod.uid for pod in found if pod is not None}


class _List(msgspec.Struct):
    metadata: dict[str, str] = {}
    items: list[PodObject] | None = None


def _run(coroutine, loop=asyncio.new_event_loop()):  # noqa: B008 - one for all executions
    return loop.run_until_complete(coroutine)


def _ready(body):
    async def read():
        return body

    return read


async def _pieces(body):
    half = len(body) // 2
    yield body[:half]
    yield body[half:]


def _pod(draw):
    """The good pod under another name, with odd parts."""
    pod = json.loads(json.dumps(GOOD))
    pod["metadata"]["uid"] = "odd"
    for _ in range(draw.below(6)):
        what = draw.below(6)
        text = draw.choose(TEXTS) if draw.byte() & 3 else draw.text(12)
        if what < 3:
            pod["metadata"]["annotations"][draw.choose(ANNOTATIONS)] = text
        elif what == 3:
            pod["status"]["podIP"] = text
        elif what == 4:
            pod["spec"]["containers"][0]["ports"] = [
                {"containerPort": int(draw.choose((0, -1, 70000, 2**40))), "name": text}
            ]
        else:
            pod["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": text}
    return pod


def _answers(draw, odd):
    """A list with both pods, then a watch."""
    listing = {"metadata": {"resourceVersion": "1"}, "items": [odd, GOOD]}
    events = [
        {"type": draw.choose(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "")), "object": odd}
        for _ in range(draw.below(4))
    ]
    return [json.dumps(listing).encode(), "\n".join(map(json.dumps, events)).encode() + b"\n"]
