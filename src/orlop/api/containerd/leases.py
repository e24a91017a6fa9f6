"""The service Leases."""

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import namespace
from orlop.api.containerd.shapes import moment
from orlop.engine.engine import Engine
from orlop.model.clients import Lease, Resource
from orlop.store.objects import Entry


class LeaseCalls:
    """Leases by id, and what they protect."""

    def __init__(self, engine: Engine) -> None:
        self._leases = engine.clients.leases

    async def Create(self, request: v1.CreateLeaseRequest) -> v1.CreateLeaseResponse:
        made = self._leases.create(namespace(), request.id, request.labels)
        return v1.CreateLeaseResponse(lease=_shown(made))

    async def Delete(self, request: v1.DeleteLeaseRequest) -> Empty:
        await self._leases.remove(namespace(), request.id, sync=request.sync)
        return Empty()

    async def List(self, request: v1.ListLeasesRequest) -> v1.ListLeasesResponse:
        wanted = matcher(request.filters)
        found = self._leases.list(namespace())
        return v1.ListLeasesResponse(leases=[_shown(one) for one in found if wanted(_fields(one))])

    async def AddResource(self, request: v1.AddResourceRequest) -> Empty:
        await self._leases.add(namespace(), request.id, _parsed(request.resource))
        return Empty()

    async def DeleteResource(self, request: v1.DeleteResourceRequest) -> Empty:
        await self._leases.drop(namespace(), request.id, _parsed(request.resource))
        return Empty()

    async def ListResources(self, request: v1.ListResourcesRequest) -> v1.ListResourcesResponse:
        lease = self._leases.get(namespace(), request.id)
        return v1.ListResourcesResponse(
            resources=[v1.Resource(id=one.id, type=one.type) for one in lease.resources]
        )


def _parsed(given: v1.Resource) -> Resource:
    return Resource(id=given.id, type=given.type)


def _shown(lease: Entry[Lease]) -> v1.Lease:
    return v1.Lease(
        id=lease.key, created_at=moment(lease.value.created_ns), labels=lease.value.labels
    )


def _fields(lease: Entry[Lease]) -> dict[str, object]:
    return {"id": lease.key, "labels": lease.value.labels}
