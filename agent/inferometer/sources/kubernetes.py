"""Which pods serve, from the API server: one list and then a watch for each namespace, for as long as the agent runs.

Spoken here over aiohttp, which is there anyway: docs/decisions/011 has what the clients for it weigh.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from inferometer.errors import SourceError
from inferometer.model import Pods
from inferometer.sources.credentials import Credentials, Target, default_tls
from inferometer.sources.podobjects import Found, Meta, PodObject, serving

SOURCE = "kubernetes"
REASONS = ("forbidden", "status", "refused", "timeout", "reset", "tls", "auth_file", "protocol", "too_large")
"""Every ``Pods.error``, beside ''."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LIST_SECONDS = 30.0
_WATCH_SECONDS = 240  # then the server ends a watch and another begins where it ended
_WATCH_SLACK_SECONDS = 30.0  # a watch that says nothing for longer than it should last is dead
_QUICK_SECONDS = 1.0  # a watch that ends at once may not be begun again at once
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_PAGE = 500  # pods
_LARGEST_OBJECT_BYTES = 16 << 20
_HTTP_GONE = 410
_DOUBTS_AFTER = 3  # failures in a row: what is known may be what the server stumbles over


class Cluster(Struct, frozen=True):
    """How to reach an API server; files are paths, '' = none."""

    url: str
    token_file: str = ""
    ca_file: str = ""


class Query(Struct, frozen=True):
    """Which pods: those of ``namespaces``, () = all, on ``node``, '' = any."""

    namespaces: tuple[str, ...] = ()
    node: str = ""


class _ListMeta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    next_token: str = msgspec.field(default="", name="continue")


class _PodList(Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: tuple[PodObject, ...] | None = None


class _Bookmark(Struct, frozen=True):
    metadata: Meta = Meta()


class _Status(Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Event(Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _GoneError(Exception):
    """What was asked for is older than what the server remembers: list anew."""


def in_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """The API server of the cluster that this process runs in; None where it runs in none."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return None
    place = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Cluster(place, str(_ACCOUNT / "token"), str(_ACCOUNT / "ca.crt"))


class PodWatch:
    """Follows the pods of a query. ``clock`` gives steady seconds."""

    def __init__(self, cluster: Cluster, query: Query, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._emit: Callable[[Pods], None] = _nobody
        self._cluster = cluster
        paths = [f"/api/v1/namespaces/{name}/pods" for name in query.namespaces] or ["/api/v1/pods"]
        self._streams = [_Stream(path, query.node, self._told) for path in paths]

    async def follow(self, emit: Callable[[Pods], None]) -> None:
        """Emit all pods that serve whenever they change, and at every failure, which they outlast; until cancelled."""
        self._emit = emit
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self._cluster.url, connector=connector, trust_env=False) as session:
            server = _Server(session, self._cluster)
            async with asyncio.TaskGroup() as tasks:
                for stream in self._streams:
                    tasks.create_task(stream.run(server, self._clock))

    def _told(self) -> None:
        """Something happened on a stream."""
        at = self._clock()
        fault = next((stream.fault for stream in self._streams if stream.fault is not None), None)
        found = [one for stream in self._streams for one in stream.pods.values()]
        self._emit(
            Pods(
                SOURCE,
                at,
                error=fault.reason if fault is not None else "",
                pods=tuple(one.pod for one in found if one.pod is not None),
                since=max(at if stream.synced_at is None else stream.synced_at for stream in self._streams),
                faults=tuple(sentence for one in found for sentence in one.faults),
                detail=str(fault) if fault is not None else "",
            )
        )


class _Server:
    """Requests to an API server. Token and certificates are read again when their files change."""

    def __init__(self, session: aiohttp.ClientSession, cluster: Cluster) -> None:
        self._session = session
        self._url = URL(cluster.url)
        target = Target(SOURCE, cluster.url, bearer_token_file=cluster.token_file, ca_file=cluster.ca_file)
        self._credentials = Credentials(target)

    async def pods(self, path: str, asked: Mapping[str, str]) -> _PodList:
        """One page of a list. Raises SourceError and _GoneError."""
        async with asyncio.timeout(_LIST_SECONDS), self._get(path, asked) as response:
            _expect_ok(response)
            return msgspec.json.decode(await response.read(), type=_PodList)

    async def events(self, path: str, asked: Mapping[str, str], silence_seconds: float) -> AsyncGenerator[_Event, None]:
        """A watch until the server ends it, or is silent for too long. Raises as above."""
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=_LIST_SECONDS, sock_read=silence_seconds)
        async with self._get(path, {**asked, "watch": "true"}, quiet) as response:
            _expect_ok(response)
            yield _Event("OPEN", msgspec.Raw(b"{}"))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield msgspec.json.decode(line, type=_Event)
                if len(rest) > _LARGEST_OBJECT_BYTES:
                    raise SourceError("too_large", f"an event is larger than {_LARGEST_OBJECT_BYTES} bytes")
            if rest.strip():
                raise SourceError("protocol", "the watch ended in the middle of a line, or is none")

    def _get(
        self, path: str, asked: Mapping[str, str], timeout: aiohttp.ClientTimeout | None = None
    ) -> aiohttp.client._RequestContextManager:
        token = self._credentials.authorization(self._url)
        return self._session.get(
            path,
            params=dict(asked),
            headers={"Accept": "application/json", "User-Agent": "inferometer"}
            | ({"Authorization": token} if token else {}),
            ssl=self._url.scheme != "https" or self._credentials.tls() or default_tls(),
            timeout=timeout or aiohttp.ClientTimeout(total=_LIST_SECONDS),
            allow_redirects=False,
        )


class _Stream:
    """The pods at one path. ``changed`` is called when they, or how the server does, changed.

    ``pods``: by uid; ``fault``: why the server does not answer just now; ``synced_at``: of the first list.
    """

    def __init__(self, path: str, node: str, changed: Callable[[], None]) -> None:
        self.pods: dict[str, Found] = {}
        self.fault: SourceError | None = None
        self.synced_at: float | None = None
        self._path, self._changed = path, changed
        self._asked = {"fieldSelector": f"spec.nodeName={node}"} if node else {}
        self._version = ""
        self._listed = False

    async def run(self, server: _Server, clock: Callable[[], float]) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            began = clock()
            try:
                if not self._version:
                    await self._list(server, began)
                await self._watch(server)
                failures = 0 if clock() - began >= _QUICK_SECONDS else failures + 1
            except _GoneError:
                self._version = ""
                failures += 1
            except Exception as error:  # noqa: BLE001 - a source may fail, the agent may not
                failures = 1 if self.fault is None else failures + 1
                self.fault = _fault(error)
                self._version = self._version if failures < _DOUBTS_AFTER else ""
                self._changed()
            if failures:
                await asyncio.sleep(_pause_seconds(failures))

    async def _list(self, server: _Server, began: float) -> None:
        """All pods at once: what is no longer among them is gone. The first time the server's memory will do."""
        asked = {**self._asked, "limit": str(_PAGE)}
        if not self._listed:
            asked["resourceVersion"] = "0"
        found: dict[str, Found] = {}
        while True:
            page = await server.pods(self._path, asked)
            found |= {pod.metadata.uid: serving(pod) for pod in page.items or ()}
            if not page.metadata.next_token:
                break
            asked = {**self._asked, "limit": str(_PAGE), "continue": page.metadata.next_token}
        self.pods = {uid: one for uid, one in found.items() if one.pod is not None or one.faults}
        self._version, self._listed = page.metadata.resource_version, True
        if self.synced_at is None:
            self.synced_at = began
        self.fault = None
        self._changed()

    async def _watch(self, server: _Server) -> None:
        asked = {
            **self._asked,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(_WATCH_SECONDS, _WATCH_SECONDS * 5 // 4)),  # noqa: S311 - not all at once
        }
        silence_seconds = _WATCH_SECONDS * 5 / 4 + _WATCH_SLACK_SECONDS
        async with contextlib.aclosing(server.events(self._path, asked, silence_seconds)) as events:
            async for event in events:
                if self._take(event):
                    self.fault = None
                    self._changed()

    def _take(self, event: _Event) -> bool:
        """Whether an event is worth telling."""
        if event.type == "OPEN":
            return self.fault is not None
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            raise _refusal(status.code, status.message)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            return True
        pod = msgspec.json.decode(event.object, type=PodObject)
        self._version = pod.metadata.resource_version or self._version
        before, found = self.pods.pop(pod.metadata.uid, None), serving(pod)
        if event.type != "DELETED" and (found.pod is not None or found.faults):
            self.pods[pod.metadata.uid] = found
        return before != self.pods.get(pod.metadata.uid)


def _expect_ok(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise _refusal(response.status, "")


def _refusal(code: int, said: str) -> Exception:
    if code == _HTTP_GONE:
        return _GoneError()
    if code in {401, 403}:
        hint = "the service account's token is refused" if code == 401 else "pods may not be listed and watched"
        return SourceError("forbidden", f"{hint}; check RBAC: the verbs list and watch on pods")
    return SourceError("status", f"the API server answered {code}{': ' if said else ''}{said}")


def _fault(error: Exception) -> SourceError:
    """Reason and sentence for whatever went wrong."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, TimeoutError):
        return SourceError("timeout", "the API server did not answer in time")
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceError("tls", "no TLS connection to the API server; check its certificate authority")
    if isinstance(error, aiohttp.ClientConnectorError):
        return SourceError("refused", "no connection to the API server; does a NetworkPolicy allow it?")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | ConnectionError):
        return SourceError("reset", "the connection to the API server broke")
    return SourceError("protocol", f"the answer is not the API server's ({type(error).__name__})")


def _pause_seconds(failures: int) -> float:
    """Longer with each failure, and never the same for two agents."""
    longest: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _nobody(_: Pods) -> None:
    """Nobody is told before anybody asks."""
