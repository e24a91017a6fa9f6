"""Streams of JSON lines: progress of a pull, push, load, import; events; stats."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec

from orlop.api.failures import translate_os_error
from orlop.api.messages import Reply, Stream
from orlop.engine.answers import Progress
from orlop.errors import CommandFailedError, OrlopError

Message = dict[str, Any]
#: Lines kept for a client that does not read; then the oldest progress is dropped.
_BACKLOG = 1000
#: Work that was cancelled and has not ended: asyncio itself keeps only weak references.
_ending: set[asyncio.Future[Any]] = set()

_encode = msgspec.json.Encoder().encode


def line(message: object) -> bytes:
    """Encode *message* as one line, CR LF at its end as Docker's are."""
    return _encode(message) + b"\r\n"


def error_line(error: OrlopError) -> bytes:
    """Return the line that ends a stream whose status has long been sent."""
    text = str(error)
    detail: Message = {"message": text}
    if isinstance(error, CommandFailedError):
        detail = {"code": error.code, **detail}
    return line({"errorDetail": detail, "error": text})


def render_progress(progress: Progress) -> Message:
    """Return a progress line in Docker's shape, from which its clients draw bars."""
    message: Message = {"status": progress.status}
    if progress.id:
        message["id"] = progress.id
        message["progressDetail"] = {}
    if progress.total:
        message["progressDetail"] = {"current": progress.current, "total": progress.total}
    elif progress.current:
        message["progressDetail"] = {"current": progress.current}
    return message


class Lines:
    """Lines that work makes and a stream takes; a slow client loses lines, not the work."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    async def put(self, message: Message) -> None:
        """As emit(), but wait for a slow client: no line is lost."""
        while self._lines.qsize() >= _BACKLOG:
            self._taken.clear()
            await self._taken.wait()
        self.emit(message)

    def emit(self, message: Message) -> None:
        if self._lines.qsize() >= _BACKLOG:
            self._lines.get_nowait()
        self._lines.put_nowait(line(message))

    def progress(self, progress: Progress) -> None:
        self.emit(render_progress(progress))

    async def reply(self, work: Awaitable[None]) -> Reply:
        """Run *work* and stream the lines it emits.

        An error before the first line is raised, so that it gets a status of
        its own; a later one becomes the last line. Work is cancelled when the
        client goes away.
        """
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._lines.put_nowait(None))
        try:
            first = await self._lines.get()
        except asyncio.CancelledError:
            await cancel(task)
            raise
        try:
            if first is None:
                task.result()
            return Stream(self._pieces(first, task))
        finally:
            del task  # its error names this frame: a cycle that would hold the whole request

    async def _pieces(
        self, first: bytes | None, task: asyncio.Future[None]
    ) -> AsyncIterator[bytes]:
        try:
            piece = first
            while piece is not None:
                yield piece
                piece = await self._lines.get()
                self._taken.set()
            task.result()
        except OrlopError as error:
            yield error_line(error)
        except ConnectionResetError:
            raise
        except OSError as error:
            yield error_line(translate_os_error(error))
        finally:
            await cancel(task)
            del task


async def cancel(task: asyncio.Future[Any]) -> None:
    """End *task* and wait for its end; what it raises then concerns nobody.

    The caller may be cancelled meanwhile: then the task comes to its end alone.
    """
    task.cancel()
    if not task.done():
        _ending.add(task)
        task.add_done_callback(_ended)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    elif not task.cancelled():
        task.exception()  # seen, so asyncio does not warn


def _ended(task: asyncio.Future[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()
