"""The start of a command's output, as the engine reads it for itself."""

import asyncio
import socket


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


def demultiplexed(data: bytes) -> bytes:
    """Return the payload of Docker's 8-byte frames, whole or cut short."""
    out = bytearray()
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "big")
        out += data[position + 8 : position + 8 + size]
        position += 8 + size
    return bytes(out)
