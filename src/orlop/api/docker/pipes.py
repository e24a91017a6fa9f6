"""Archives between a request and blocking code: through a pipe, so that neither waits in memory.

A thread cannot be cancelled, but a pipe can be closed: when the client goes
away, the thread's next read or write ends it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO, TypeVar

from orlop.api.docker.lines import cancel
from orlop.api.messages import Body, Stream

T = TypeVar("T")
_PIECE = 256 << 10


async def stream_from(
    work: Callable[[BinaryIO], Awaitable[object]],
    *,
    content_type: str = "application/x-tar",
    headers: dict[str, str] | None = None,
) -> Stream:
    """Return a stream of what *work* writes to the file it is given.

    An error of *work* before its first byte is raised here; a later one cuts
    the stream off, without the end that would make it look whole.
    """
    readable, writable = os.pipe2(os.O_CLOEXEC)
    task = asyncio.ensure_future(_write(work, writable))
    first = await _read_first(readable, task)
    return Stream(_pieces(readable, task, first), content_type, headers=headers or {})


async def _write(work: Callable[[BinaryIO], Awaitable[object]], writable: int) -> None:
    with os.fdopen(writable, "wb", buffering=0) as out:
        await work(out)


async def _read_first(readable: int, task: asyncio.Future[None]) -> bytes:
    try:
        os.set_blocking(readable, False)
        first = await _read(readable)
        if not first:
            await task
    except BaseException:
        os.close(readable)
        await cancel(task)
        raise
    return first


async def _pieces(readable: int, task: asyncio.Future[None], first: bytes) -> AsyncIterator[bytes]:
    try:
        piece = first
        while piece:
            yield piece
            piece = await _read(readable)
        await task
    finally:
        task.cancel()
        os.close(readable)
        await cancel(task)


async def _read(readable: int) -> bytes:
    """Read what is there, waiting for it without a thread."""
    while True:
        try:
            return os.read(readable, _PIECE)
        except BlockingIOError:
            await _ready(readable, writing=False)


async def consume(body: Body, work: Callable[[BinaryIO], Awaitable[T]]) -> T:
    """Let *work* read *body* as a file, and return what it returns.

    Work that does not want all of the body ends the copying.
    """
    readable, writable = os.pipe2(os.O_CLOEXEC)
    task = asyncio.ensure_future(_feed(work, readable))
    try:
        await _copy(body, writable)
    except BaseException:
        task.cancel()  # first, for the end of the pipe would look like the end of the body
        os.close(writable)
        await cancel(task)
        raise
    os.close(writable)
    return await task


async def _feed(work: Callable[[BinaryIO], Awaitable[T]], readable: int) -> T:
    with os.fdopen(readable, "rb", buffering=_PIECE) as source:
        return await work(source)


async def _copy(body: Body, writable: int) -> None:
    os.set_blocking(writable, False)
    async for piece in body:
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(writable, view) :]
            except BlockingIOError:
                await _ready(writable, writing=True)
            except BrokenPipeError:
                return


async def _ready(descriptor: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    if writing:
        loop.add_writer(descriptor, wake)
    else:
        loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        if writing:
            loop.remove_writer(descriptor)
        else:
            loop.remove_reader(descriptor)
