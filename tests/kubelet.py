"""A kubelet that answers about devices over real gRPC on a real socket, in messages that Google's encoder makes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The public API v1: message → (field, number, type); "*" = repeated.
MESSAGES = {
    "ListPodResourcesResponse": [("pod_resources", 1, "*PodResources")],
    "AllocatableResourcesResponse": [("devices", 1, "*ContainerDevices"), ("cpu_ids", 2, "*int64")],
    "PodResources": [("name", 1, "string"), ("namespace", 2, "string"), ("containers", 3, "*ContainerResources")],
    "ContainerResources": [
        ("name", 1, "string"),
        ("devices", 2, "*ContainerDevices"),
        ("cpu_ids", 3, "*int64"),
        ("dynamic_resources", 5, "*DynamicResource"),
    ],
    "ContainerDevices": [
        ("resource_name", 1, "string"),
        ("device_ids", 2, "*string"),
        ("topology", 3, "TopologyInfo"),
    ],
    "TopologyInfo": [("nodes", 1, "*NUMANode")],
    "NUMANode": [("ID", 1, "int64")],
    "DynamicResource": [
        ("claim_name", 2, "string"),
        ("claim_namespace", 3, "string"),
        ("claim_resources", 4, "*ClaimResource"),
    ],
    "ClaimResource": [
        ("cdi_devices", 1, "*CDIDevice"),
        ("driver_name", 2, "string"),
        ("pool_name", 3, "string"),
        ("device_name", 4, "string"),
    ],
    "CDIDevice": [("name", 1, "string")],
}


def _classes():
    file = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            plain = kind.removeprefix("*")
            added = message.field.add(name=field, number=number, label=3 if kind != plain else 1)
            scalar = {"string": kinds.TYPE_STRING, "int64": kinds.TYPE_INT64}.get(plain)
            added.type = scalar or kinds.TYPE_MESSAGE
            if scalar is None:
                added.type_name = f".v1.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in MESSAGES}


CLASSES = _classes()


def listing(*pods):
    """The bytes of a List answer; each pod as ``pod()`` makes it."""
    return CLASSES["ListPodResourcesResponse"](pod_resources=pods).SerializeToString()


def pod(name, devices=None, *, namespace="prod", container="c", claims=()):
    """``devices``: ids by resource; ``claims``: pairs of driver and device."""
    plugged = [
        {"resource_name": resource, "device_ids": ids, "topology": {"nodes": [{"ID": 0}, {"ID": 300}]}}
        for resource, ids in (devices or {}).items()
    ]
    claimed = [
        {"cdi_devices": [{"name": "x"}], "driver_name": d, "pool_name": "n", "device_name": n} for d, n in claims
    ]
    return {
        "name": name,
        "namespace": namespace,
        "containers": [
            {"name": "sidecar", "cpu_ids": [1, 2]},
            {
                "name": container,
                "devices": plugged,
                "cpu_ids": [3, -1],
                "dynamic_resources": [{"claim_name": "g", "claim_namespace": namespace, "claim_resources": claimed}],
            },
        ],
    }


def allocatable(devices):
    """The bytes of a GetAllocatableResources answer; ids by resource."""
    plugged = [{"resource_name": resource, "device_ids": ids} for resource, ids in devices.items()]
    return CLASSES["AllocatableResourcesResponse"](devices=plugged, cpu_ids=[0, 1]).SerializeToString()


class Kubelet:
    """What it answers can be changed while it runs; None for an answer that never comes, a StatusCode for a refusal."""

    def __init__(self, listed=b"", allocated=b""):
        self.listed = listed
        self.allocated = allocated
        self.asked = 0

    @asynccontextmanager
    async def serving(self, path):
        """Listens until left; the socket is gone then, as it is when a kubelet stops."""
        path.unlink(missing_ok=True)
        server = grpc.aio.server()
        methods = {
            "List": grpc.unary_unary_rpc_method_handler(self._list),
            "GetAllocatableResources": grpc.unary_unary_rpc_method_handler(self._allocatable),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods)])
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
            path.unlink(missing_ok=True)

    async def _list(self, request, context):
        assert request == b""
        self.asked += 1
        return await _given(self.listed, context)

    async def _allocatable(self, _request, context):
        return await _given(self.allocated, context)


async def _given(answer, context):
    if answer is None:
        await asyncio.Event().wait()
    if isinstance(answer, grpc.StatusCode):
        await context.abort(answer, "no")
    return answer
