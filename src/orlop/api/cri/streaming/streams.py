"""Streams that several protocols carry side by side."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Protocol

_CHUNK = 64 << 10
_FULL = 1 << 20  # bytes that wait in one stream before its connection is read no further


class Pipe(Protocol):
    """A connection that carries bytes."""

    async def read(self) -> bytes:
        """Return the next bytes; none at the end, also if the client has gone."""

    async def write(self, data: bytes) -> None:
        """Send; ConnectionError if the client has gone."""

    async def end(self) -> None:
        """Send that there is no more."""

    def close(self) -> None:
        """Close it."""


class SocketPipe:
    """The bytes of a socket; *pending* came before."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pending: bytes = b""
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._pending = pending

    async def read(self) -> bytes:
        if self._pending:
            data, self._pending = self._pending, b""
            return data
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        with suppress(OSError):
            self._writer.write_eof()
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class Source(Protocol):
    """What a client sends on one stream."""

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""


class Sink(Protocol):
    """What a client is sent on one stream."""

    async def write(self, data: bytes) -> None:
        """Send; ConnectionError if the client has gone."""

    async def end(self) -> None:
        """Send that there is no more; no error if the client has gone."""


class Inflow:
    """What has come on one stream and was not read yet."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Add *data*; wait while too much of it is unread."""
        if self._ended or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._changed.set()
        while self._size > _FULL and not self._ended:
            self._changed.clear()
            await self._changed.wait()

    def finish(self) -> None:
        """Add nothing more; what is there can still be read."""
        self._ended = True
        self._changed.set()

    def drop(self) -> None:
        """Throw away what is there and what comes."""
        self._pieces.clear()
        self._size = 0
        self.finish()

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        while not self._pieces:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._pieces.popleft()
        self._size -= len(data)
        self._changed.set()
        return data
