"""Store archives from clients, read by confined workers. docs/decisions/hostile-layers.md.

    client -> engine -> pipe -> worker -> content store

The engine forwards bytes without reading them, and does not trust the worker's reports: it
checks names and digests, and whether the blobs are in the store.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Literal

from orlop.engine.context import Context
from orlop.engine.threads import in_thread
from orlop.errors import CorruptError, UnavailableError
from orlop.images.archives.load import LoadedImage
from orlop.images.job import ArchiveJob, Report
from orlop.images.pull import Layer
from orlop.model.digest import DiffID, Digest, parse_digest
from orlop.model.reference import parse_reference
from orlop.store.leases import Lease

_PIPE_BYTES = 1 << 20
_END_S = 5.0


async def load(
    context: Context, source: AsyncIterator[bytes], lease: Lease
) -> Sequence[LoadedImage]:
    """Store the images of an archive. Errors as load_tar()'s, and ConnectionResetError."""
    images: list[LoadedImage] = []

    def hear(report: Report) -> None:
        if report.image is not None:
            images.append(report.image)

    await _take_apart(context, source, lease, holds="images", hear=hear)
    for image in images:
        for name in image.names:
            if str(parse_reference(name)) != name:
                raise CorruptError(f"the archive names an image {name[:100]!r}")
        parse_digest(image.config)
        for blob in (image.target, image.manifest):
            _check_stored(context, blob.digest, blob.size, lease)
    return images


async def import_layer(context: Context, source: AsyncIterator[bytes], lease: Lease) -> Layer:
    """Store the tar of a root file system as a layer. Errors as images.build.import_layer()'s."""
    layers: list[Layer] = []

    def hear(report: Report) -> None:
        if report.layer is not None:
            layers.append(report.layer)

    await _take_apart(context, source, lease, holds="root", hear=hear)
    if not layers:
        raise UnavailableError("the worker does not say what it has stored")
    layer = layers[0]
    _check_stored(context, layer.descriptor.digest, layer.descriptor.size, lease)
    return layer._replace(diff_id=DiffID(parse_digest(layer.diff_id)))


def _check_stored(context: Context, digest: Digest, size: int, lease: Lease) -> None:
    """Check that a blob, which is leased now, is still in the store."""
    if parse_digest(digest) not in lease.digests or not context.content.has(digest, size):
        raise UnavailableError(f"blob {digest} is no longer there", hint="send the archive again")


async def _take_apart(
    context: Context,
    source: AsyncIterator[bytes],
    lease: Lease,
    *,
    holds: Literal["images", "root"],
    hear: Callable[[Report], None],
) -> None:
    """Forward *source* to a worker until it has finished, or either of them fails."""

    async def keep(digest: Digest) -> None:
        await in_thread(lease.add, parse_digest(digest))  # waits for a running collection

    def listen(report: Report) -> Coroutine[None, None, None] | None:
        hear(report)
        return keep(report.digest) if report.digest is not None else None

    with _pipe() as (path, pipe):
        job = ArchiveJob(
            stream=path,
            content=str(context.settings.content),
            holds=holds,
            budget=context.settings.layer_budget,
        )
        working = asyncio.ensure_future(context.workers.run(job, listen))
        sending = asyncio.ensure_future(_send(source, pipe))
        try:
            await asyncio.wait({working, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                sending.result()
            await working
        except BaseException:
            context.sweep_soon()  # the blobs that came before the failure
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            pipe.close()
            await _ended(working)


async def _ended(working: asyncio.Future[int]) -> None:
    """Let a worker whose archive has ended clean up; kill it if it does not end."""
    await asyncio.wait({working}, timeout=_END_S)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[str, "_Pipe"]]:
    """Yield a path where a child of ours opens a pipe for reading, and our end of it."""
    reader, writer = os.pipe()
    pipe = _Pipe(writer)
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        yield f"/proc/{os.getpid()}/fd/{reader}", pipe
    finally:
        os.close(reader)
        pipe.close()


class _Pipe:
    """The writing end of a pipe, in the event loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Write all of *data*, as fast as the reader reads."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await self._writable()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._fd, _resolve, ready)
        try:
            await ready
        finally:
            if self._fd >= 0:
                loop.remove_writer(self._fd)

    def close(self) -> None:
        """Close, so that the reader sees the end."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _send(source: AsyncIterator[bytes], pipe: _Pipe) -> None:
    async for piece in source:
        await pipe.write(piece)
    pipe.close()
