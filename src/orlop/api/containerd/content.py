"""The service Content: blobs by digest, read and written in pieces."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from itertools import islice

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.filters import matcher
from orlop.api.containerd.headers import lease, namespace
from orlop.api.containerd.masks import masked_labels
from orlop.api.containerd.shapes import moment
from orlop.engine.engine import Engine
from orlop.engine.namespaces.contents import Blob, Ingesting
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError
from orlop.model.clients import Ingest
from orlop.store.objects import Entry

_BATCH = 100


class ContentCalls:
    """The engine's own blobs: Docker's images have them too."""

    def __init__(self, engine: Engine) -> None:
        self._contents = engine.clients.contents

    async def Info(self, request: v1.ContentInfoRequest) -> v1.ContentInfoResponse:
        return v1.ContentInfoResponse(info=_info(self._contents.info(namespace(), request.digest)))

    async def Update(self, request: v1.UpdateContentRequest) -> v1.UpdateContentResponse:
        """Change labels: nothing else of a blob can change."""
        asked, where = request.info, namespace()
        before = self._contents.info(where, asked.digest)
        labels = masked_labels(before.labels, asked.labels, request.update_mask.paths)
        return v1.UpdateContentResponse(
            info=_info(self._contents.relabel(where, asked.digest, labels))
        )

    async def List(
        self, request: v1.ListContentRequest
    ) -> AsyncGenerator[v1.ListContentResponse, None]:
        wanted = matcher(request.filters)
        blobs = self._contents.list(namespace())
        while batch := await in_thread(lambda: [*islice(blobs, _BATCH)]):
            infos = [_info(one) for one in batch if wanted(_fields(one.digest, one.labels))]
            yield v1.ListContentResponse(info=infos)

    async def Delete(self, request: v1.DeleteContentRequest) -> Empty:
        await self._contents.remove(namespace(), request.digest)
        return Empty()

    async def Read(
        self, request: v1.ReadContentRequest
    ) -> AsyncGenerator[v1.ReadContentResponse, None]:
        offset = request.offset
        pieces = self._contents.read(request.digest, offset=offset, size=request.size)
        async for data in pieces:
            yield v1.ReadContentResponse(offset=offset, data=data)
            offset += len(data)

    async def Status(self, request: v1.ContentStatusRequest) -> v1.ContentStatusResponse:
        return v1.ContentStatusResponse(
            status=_status(*self._contents.status(namespace(), request.ref))
        )

    async def ListStatuses(self, request: v1.ListStatusesRequest) -> v1.ListStatusesResponse:
        wanted = matcher(request.filters)
        return v1.ListStatusesResponse(
            statuses=[
                _status(entry, offset)
                for entry, offset in self._contents.statuses(namespace())
                if wanted({"ref": entry.key})
            ]
        )

    async def Abort(self, request: v1.AbortContentRequest) -> Empty:
        self._contents.abort(namespace(), request.ref)
        return Empty()

    async def Write(
        self, requests: AsyncIterator[v1.WriteContentRequest]
    ) -> AsyncGenerator[v1.WriteContentResponse, None]:
        """Write one blob. Each request is answered with how far it is."""
        first = await anext(requests, None)
        if first is None:
            raise InvalidArgumentError("the call names no ref")
        where = namespace()
        async with self._contents.writing(
            where, first.ref, total=first.total, expected=first.expected
        ) as ingesting:
            yield await self._write(where, ingesting, first)
            while not ingesting.is_committed:
                request = await anext(requests, None)
                if request is None:
                    return
                yield await self._write(where, ingesting, request)

    async def _write(
        self, where: str, ingesting: Ingesting, request: v1.WriteContentRequest
    ) -> v1.WriteContentResponse:
        digest = ingesting.digest if request.action == v1.STAT else ""
        if request.action != v1.STAT:
            await self._append(ingesting, request)
        if request.action == v1.COMMIT:
            digest = await self._contents.commit(
                where,
                ingesting,
                total=request.total,
                expected=request.expected,
                labels=request.labels,
                lease=lease(),
            )
        record = ingesting.record
        return v1.WriteContentResponse(
            action=request.action,
            started_at=moment(record.started_ns),
            updated_at=moment(record.updated_ns),
            offset=ingesting.offset,
            total=record.total,
            digest=digest,
        )

    async def _append(self, ingesting: Ingesting, request: v1.WriteContentRequest) -> None:
        """Append a request's data; an offset of 0 begins again."""
        if request.offset and request.offset != ingesting.offset:
            raise InvalidArgumentError(
                f"the next byte is {ingesting.offset}, and not {request.offset}"
            )
        if not request.offset and ingesting.offset:
            await in_thread(ingesting.restart)
        if request.data:
            await in_thread(ingesting.write, request.data)


def _info(blob: Blob) -> v1.ContentInfo:
    return v1.ContentInfo(
        digest=blob.digest,
        size=blob.size,
        created_at=moment(blob.created_ns),
        updated_at=moment(blob.updated_ns),
        labels=blob.labels,
    )


def _fields(digest: str, labels: Mapping[str, str]) -> dict[str, object]:
    return {"digest": digest, "labels": labels}


def _status(entry: Entry[Ingest], offset: int) -> v1.ContentStatus:
    return v1.ContentStatus(
        started_at=moment(entry.value.started_ns),
        updated_at=moment(entry.value.updated_ns),
        ref=entry.key,
        offset=offset,
        total=entry.value.total,
        expected=entry.value.expected,
    )
