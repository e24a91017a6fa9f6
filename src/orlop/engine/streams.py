"""Bytes between the event loop and blocking code in a thread: neither outruns the other."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from orlop.engine.threads import beside_client
from orlop.errors import CorruptError, InvalidArgumentError, UnavailableError

_BLOCK = 1 << 18


@contextmanager
def sent_by_client() -> Iterator[None]:
    """Say of what is wrong with bytes that came with a request that the request is wrong."""
    try:
        yield
    except CorruptError as error:
        raise InvalidArgumentError(str(error.args[0]), hint=error.hint) from error


class Inflow:
    """A file for a thread to read from, filled by an async iterator. Read from one thread only."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Return up to *size* bytes, b"" at the end. Not to be called in the event loop."""
        if not self._rest and not self._ended:
            self._rest = asyncio.run_coroutine_threadsafe(self._gather(size), self._loop).result()
            self._ended = not self._rest
        if size < 0 or size >= len(self._rest):
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def _gather(self, size: int) -> bytes:
        wanted = max(size, _BLOCK)
        pieces: list[bytes] = []
        total = 0
        async for piece in self._source:
            pieces.append(piece)
            total += len(piece)
            if total >= wanted:
                break
        return b"".join(pieces)


class Outflow:
    """A file for a thread to write to; what is written comes out of stream()."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._closed = False

    def write(self, data: bytes | memoryview) -> int:
        """Take *data*; waits for the reader. UnavailableError when the reader has gone."""
        self._waiting += data
        if len(self._waiting) >= _BLOCK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        if data:
            self._put(data)

    def _put(self, piece: bytes | None) -> None:
        asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop).result()
        if self._closed:
            raise UnavailableError("the reader has gone")

    async def stream(self, work: Callable[["Outflow"], object]) -> AsyncGenerator[bytes]:
        """Run blocking *work* in a thread and yield what it writes; raise what it raises."""
        task = asyncio.ensure_future(beside_client(partial(self._run, work)))
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
            await task
        finally:
            self._closed = True
            while not task.done():
                while not self._pieces.empty():
                    self._pieces.get_nowait()
                await asyncio.wait({task}, timeout=0.05)
            task.exception()

    def _run(self, work: Callable[["Outflow"], object]) -> None:
        try:
            work(self)
            self.flush()
        finally:
            asyncio.run_coroutine_threadsafe(self._pieces.put(None), self._loop).result()
