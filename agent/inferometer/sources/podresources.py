"""Which pods hold which GPUs, from the kubelet's pod-resources socket. gRPC is an extra, imported when it is used."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inferometer.errors import SourceError
from inferometer.model import Holdings
from inferometer.sources.detached import detached
from inferometer.sources.podlist import holdings, replicas

SOURCE = "kubelet"
SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
REASONS = ("no_socket", "no_permission", "no_extra", "timeout", "protocol")
"""Every ``Holdings.error``, beside ''."""

_LIST = "/v1.PodResourcesLister/List"
_ALLOCATABLE = "/v1.PodResourcesLister/GetAllocatableResources"
_OPTIONS = (
    ("grpc.default_authority", "localhost"),  # the kubelet's server refuses the escaped path that some releases send
    ("grpc.max_receive_message_length", 16 << 20),  # what the kubelet itself allows
)


class PodResources:
    """Asks the kubelet who holds what. ``clock`` gives steady seconds.

    Each reading has a connection of its own: a kubelet that restarts makes a new socket, to which no old one leads.
    So mount the folder of the socket into a container, not the socket.
    """

    def __init__(self, socket_path: str, clock: Callable[[], float], timeout_seconds: float = 5.0) -> None:
        self._path = socket_path
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._grpc: Any = None

    async def read(self) -> Holdings:
        """Holdings by device, as the device plugin names it, within the timeout. Never raises but CancelledError.

        Names: GPU-…, MIG-… (old drivers: MIG-GPU-…/gi/ci); on GKE nvidia0 and nvidia0/gi1, and of claims gpu-0, both
        after the minor number of the device.
        """
        began = self._clock()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                listing, allocatable = await self._ask()
            pods, shared = holdings(listing), replicas(allocatable)
        except Exception as error:  # noqa: BLE001 - a source may fail, the agent may not
            fault = self._fault(error)
            at = self._clock()
            return Holdings(SOURCE, at, fault.reason, seconds=at - began, detail=str(fault))
        at = self._clock()
        return Holdings(SOURCE, at, pods=pods, replicas=shared, seconds=at - began)

    async def _ask(self) -> tuple[bytes, bytes]:
        _require_socket(self._path)
        grpc = self._grpc
        if grpc is None:  # to import it takes 0.2 s, which the event loop does not have
            grpc = self._grpc = await detached(_import, "import-grpc")
        async with grpc.aio.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
            listing = await channel.unary_unary(_LIST)(b"")
            try:
                allocatable = await channel.unary_unary(_ALLOCATABLE)(b"")
            except grpc.aio.AioRpcError:  # older kubelets have no such call, or have it switched off
                allocatable = b""
            return listing, allocatable

    def _fault(self, error: Exception) -> SourceError:
        if isinstance(error, SourceError):
            return error
        if isinstance(error, TimeoutError):
            return SourceError("timeout", f"the kubelet did not answer within {self._timeout_seconds:g} s")
        if isinstance(error, ImportError):
            return SourceError("no_extra", "gRPC is not installed: pip install 'inferometer[grpc]'")
        return _unreachable(self._path) or SourceError("protocol", _said(error))


def _import() -> Any:
    import grpc  # noqa: PLC0415 - an extra
    import grpc.aio  # noqa: PLC0415

    return grpc


def _require_socket(path: str) -> None:
    """SourceError where there is none to connect to: no machine without a kubelet need import gRPC for that."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise _no_socket(path, error) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise SourceError("no_socket", f"{path} is no socket")


def _unreachable(path: str) -> SourceError | None:
    """Why no connection can be made, which gRPC does not say in a form to rely on; None if one can."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # noqa: FBT003 - that is how it is called
        try:
            probe.connect(path)
        except BlockingIOError:
            return SourceError("timeout", "the kubelet takes no more connections")
        except OSError as error:
            return _no_socket(path, error)
    return None


def _no_socket(path: str, error: OSError) -> SourceError:
    if isinstance(error, PermissionError):
        return SourceError("no_permission", f"{path} may not be opened: only root may ask the kubelet")
    if isinstance(error, ConnectionRefusedError):
        return SourceError("no_socket", f"nobody listens on {path}; is the kubelet running?")
    hint = "; mount the folder of the kubelet's socket" if isinstance(error, FileNotFoundError) else ""
    return SourceError("no_socket", f"{path}: {error.strerror or type(error).__name__}{hint}")


def _said(error: Exception) -> str:
    """On one line, what kind of failure it is."""
    code = getattr(error, "code", None)
    status = code().name if callable(code) else type(error).__name__
    return f"the answer on the socket is not the kubelet's (pod-resources v1, Kubernetes 1.20 or newer): {status}"
