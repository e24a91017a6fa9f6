"""The start of a command's output, as the engine reads it for itself."""

import asyncio
import socket
from collections.abc import Iterator
from typing import NamedTuple

_HEAD = 8  # bytes of a frame: the stream's number, 0, 0, 0, the size
STDOUT, STDERR = 1, 2


class Captured(NamedTuple):
    """How a command ended. *exit_code* is None, and *why* says more, if its time was over."""

    exit_code: int | None
    frames: bytes = b""
    why: str = ""

    def output(self, *streams: int) -> bytes:
        """Return what it wrote, in order: on *streams* only, if any are given."""
        wanted = streams or (STDOUT, STDERR)
        return b"".join(data for stream, data in _frames(self.frames) if stream in wanted)


async def collect(stream: socket.socket, *, timeout_s: float, limit: int) -> tuple[bool, bytes]:
    """Return whether *stream* ended in time, and the first *limit* bytes of it."""
    stream.settimeout(0)
    loop = asyncio.get_running_loop()
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while block := await loop.sock_recv(stream, 65536):
                data += block[: max(0, limit - len(data))]
    except TimeoutError:
        return False, bytes(data)
    return True, bytes(data)


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield stream and payload of Docker's frames; the last may be cut short."""
    position = 0
    while position + _HEAD <= len(data):
        size = int.from_bytes(data[position + 4 : position + _HEAD], "big")
        position += _HEAD
        yield data[position - _HEAD], data[position : position + size]
        position += size
