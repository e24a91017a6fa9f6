"""A server over a real unix socket, with answers that tests can tell apart."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orlop.api.connections import Limits
from orlop.api.http import Server
from orlop.api.messages import Hijack, Reply, Request, Response, Stream


class Site:
    """A handler whose answers the tests can tell apart."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.read_bytes = 0

    async def __call__(self, request: Request) -> Reply:
        self.entered.set()
        match request.path:
            case "/echo":
                return Response(200, await request.body.read(1 << 20), "text/plain")
            case "/count":
                return await self._count(request)
            case "/stream":
                return Stream(self._pieces(), "text/plain")
            case "/flood":
                return Stream(self._flood(), "text/plain")
            case "/hang":
                return await self._hang()
            case "/hijack":
                return Hijack(self._hijack)
            case "/broken":
                raise ZeroDivisionError
        return Response(200, request.method.encode(), "text/plain")

    async def _count(self, request: Request) -> Reply:
        await self.release.wait()
        async for piece in request.body:
            self.read_bytes += len(piece)
        return Response(200, str(self.read_bytes).encode(), "text/plain")

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        await self.release.wait()
        yield b"two"

    async def _flood(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65536)
        finally:
            self.cancelled.set()

    async def _hang(self) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return Response()

    async def _hijack(self, client: socket.socket, pending: bytes) -> None:
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        with client:
            await loop.sock_sendall(client, b"early:" + pending)
            while data := await loop.sock_recv(client, 4096):
                await loop.sock_sendall(client, data.upper())


def talk(
    folder: Path,
    scene: Callable[[Site, Server, str], Coroutine[Any, Any, None]],
    *,
    limits: Limits | None = None,
) -> None:
    async def stage() -> None:
        site = Site()
        server = Server(site, headers={"Server": "test"}, limits=limits)
        path = str(folder / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        await server.listen(listener)
        try:
            async with asyncio.timeout(20):
                await scene(site, server, path)
        finally:
            await server.close(grace_s=0)

    asyncio.run(stage())


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one response with a Content-Length: head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length"))
    return head, await reader.readexactly(length)


@asynccontextmanager
async def connected(
    path: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection, which is closed in the end."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()
