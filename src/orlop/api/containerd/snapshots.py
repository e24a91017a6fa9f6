"""The services Snapshots and Diff."""

from collections.abc import AsyncGenerator, Iterable
from typing import Literal

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import lease, namespace
from orlop.api.containerd.masks import masked_labels
from orlop.api.containerd.shapes import descriptor, moment, parse_descriptor
from orlop.engine.engine import Engine
from orlop.engine.threads import in_thread
from orlop.errors import UnsupportedError
from orlop.model.clients import Snapshot
from orlop.model.digest import Digest
from orlop.model.image import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from orlop.model.mount import Mount

_BATCH = 100
_KINDS = {"view": v1.VIEW, "active": v1.ACTIVE, "committed": v1.COMMITTED}


class SnapshotCalls:
    """Snapshots by key. There is one snapshotter, whatever it is called."""

    def __init__(self, engine: Engine) -> None:
        self._snapshots = engine.clients.snapshots

    async def Prepare(self, request: v1.PrepareSnapshotRequest) -> v1.PrepareSnapshotResponse:
        return await self._prepare(request, "active")

    async def View(self, request: v1.PrepareSnapshotRequest) -> v1.PrepareSnapshotResponse:
        return await self._prepare(request, "view")

    async def _prepare(
        self, request: v1.PrepareSnapshotRequest, kind: Literal["active", "view"]
    ) -> v1.PrepareSnapshotResponse:
        self._snapshots.check_driver(request.snapshotter)
        mounts = await self._snapshots.prepare(
            namespace(),
            request.key,
            request.parent,
            labels=request.labels,
            kind=kind,
            lease=lease(),
        )
        return v1.PrepareSnapshotResponse(mounts=shown_mounts(mounts))

    async def Mounts(self, request: v1.MountsRequest) -> v1.MountsResponse:
        self._snapshots.check_driver(request.snapshotter)
        mounts = await in_thread(self._snapshots.mounts, namespace(), request.key)
        return v1.MountsResponse(mounts=shown_mounts(mounts))

    async def Commit(self, request: v1.CommitSnapshotRequest) -> Empty:
        self._snapshots.check_driver(request.snapshotter)
        await self._snapshots.commit(
            namespace(), request.name, request.key, labels=request.labels, lease=lease()
        )
        return Empty()

    async def Remove(self, request: v1.RemoveSnapshotRequest) -> Empty:
        self._snapshots.check_driver(request.snapshotter)
        await self._snapshots.remove(namespace(), request.key)
        return Empty()

    async def Stat(self, request: v1.StatSnapshotRequest) -> v1.StatSnapshotResponse:
        self._snapshots.check_driver(request.snapshotter)
        found = self._snapshots.get(namespace(), request.key)
        return v1.StatSnapshotResponse(info=_info(request.key, found))

    async def Update(self, request: v1.UpdateSnapshotRequest) -> v1.UpdateSnapshotResponse:
        """Change labels: nothing else of a snapshot can change."""
        self._snapshots.check_driver(request.snapshotter)
        asked, where = request.info, namespace()
        before = self._snapshots.get(where, asked.name)
        labels = masked_labels(before.labels, asked.labels, request.update_mask.paths)
        changed = self._snapshots.relabel(where, asked.name, labels)
        return v1.UpdateSnapshotResponse(info=_info(asked.name, changed))

    async def List(
        self, request: v1.ListSnapshotsRequest
    ) -> AsyncGenerator[v1.ListSnapshotsResponse, None]:
        self._snapshots.check_driver(request.snapshotter)
        wanted = matcher(request.filters)
        found = [
            _info(one.key, one.value)
            for one in self._snapshots.list(namespace())
            if wanted(_fields(one.key, one.value))
        ]
        for start in range(0, len(found), _BATCH):
            yield v1.ListSnapshotsResponse(info=found[start : start + _BATCH])

    async def Usage(self, request: v1.UsageRequest) -> v1.UsageResponse:
        """Return the bytes of a snapshot without its parents; nobody counts the inodes."""
        self._snapshots.check_driver(request.snapshotter)
        size = await in_thread(self._snapshots.usage, namespace(), request.key)
        return v1.UsageResponse(size=size)

    async def Cleanup(self, request: v1.CleanupRequest) -> Empty:
        """Do nothing: the engine removes what is left by itself."""
        self._snapshots.check_driver(request.snapshotter)
        return Empty()


class DiffCalls:
    """From a layer's blob to the files of a snapshot, and back."""

    def __init__(self, engine: Engine) -> None:
        self._snapshots = engine.clients.snapshots
        self._contents = engine.clients.contents

    async def Apply(self, request: v1.ApplyRequest) -> v1.ApplyResponse:
        diff_id, size = await self._snapshots.apply(
            namespace(), parse_descriptor(request.diff), parsed_mounts(request.mounts)
        )
        applied = Descriptor(media_type=OCI_LAYER, digest=Digest(diff_id), size=size)
        return v1.ApplyResponse(applied=descriptor(applied))

    async def Diff(self, request: v1.DiffRequest) -> v1.DiffResponse:
        """Store what the right side, an active snapshot, has more than its parent."""
        if request.media_type not in ("", OCI_LAYER_GZIP):
            raise UnsupportedError(f"layers are made as {OCI_LAYER_GZIP} only")
        where = namespace()
        layer = await self._snapshots.diff(where, parsed_mounts(request.right), lease())
        labels = {**request.labels, "containerd.io/uncompressed": layer.diff_id}
        self._contents.relabel(where, layer.descriptor.digest, labels)
        return v1.DiffResponse(diff=descriptor(layer.descriptor))


def shown_mounts(mounts: Iterable[Mount]) -> list[v1.Mount]:
    """Return *mounts* as messages."""
    return [v1.Mount(type=one.type, source=one.source, options=one.options) for one in mounts]


def parsed_mounts(mounts: Iterable[v1.Mount]) -> list[Mount]:
    """Return a request's mounts; nothing of them is checked."""
    return [Mount(one.type, one.source, one.target, tuple(one.options)) for one in mounts]


def _info(key: str, snapshot: Snapshot) -> v1.SnapshotInfo:
    return v1.SnapshotInfo(
        name=key,
        parent=snapshot.parent,
        kind=_KINDS[snapshot.kind],
        created_at=moment(snapshot.created_ns),
        updated_at=moment(snapshot.updated_ns),
        labels=snapshot.labels,
    )


def _fields(key: str, snapshot: Snapshot) -> dict[str, object]:
    kind = snapshot.kind
    return {"name": key, "parent": snapshot.parent, "kind": kind, "labels": snapshot.labels}
