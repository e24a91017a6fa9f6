"""Port forwards: connections to ports of a pod."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from orlop.api.cri.streaming.spdy import SpdySession, SpdyStream
from orlop.api.cri.streaming.streams import Sink, SocketPipe, Source
from orlop.engine.engine import Engine
from orlop.errors import InvalidArgumentError, OrlopError

_PAIR_S = 30.0  # in which a stream's companion has to come
_MOST_WAITING = 128
_PORTS = range(1, 65536)


async def forward(
    engine: Engine, pod_id: str, port: str, data: tuple[Source, Sink], error: Sink
) -> None:
    """Connect a stream to a *port* of a pod until both have ended; errors are told on *error*."""
    source, sink = data
    try:
        connection = await engine.pods.connect(pod_id, _number(port))
    except OrlopError as failure:
        with suppress(ConnectionError):
            await error.write(f"cannot forward to port {port}: {failure}".encode())
    else:
        await _copy(connection, source, sink)
    await sink.end()
    await error.end()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:10]) in _PORTS):
        raise InvalidArgumentError(f"{text[:50]!r} is no port")
    return int(text)


async def _copy(connection: socket.socket, source: Source, sink: Sink) -> None:
    pipe = SocketPipe(*await asyncio.open_connection(sock=connection))

    async def up() -> None:
        with suppress(ConnectionError):
            while data := await source.read():
                await pipe.write(data)
        await pipe.end()

    sending = asyncio.ensure_future(up())
    try:
        while data := await pipe.read():
            await sink.write(data)
    except ConnectionError:
        pass  # the client has gone
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        pipe.close()


class Forwards:
    """The port forwards of one SPDY connection: a stream for data and one for errors each."""

    def __init__(self, engine: Engine, pod_id: str, session: SpdySession) -> None:
        self._engine = engine
        self._pod_id = pod_id
        self._session = session
        self._waiting: dict[str, SpdyStream] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    async def serve(self) -> None:
        """Serve the streams that the client opens, until it goes."""
        try:
            async for stream in self._session.opened():
                self._take(stream)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, stream: SpdyStream) -> None:
        request = stream.headers.get("requestid") or stream.headers.get("port", "")
        other = self._waiting.pop(request, None)
        if other is None:
            self._waiting[request] = stream
            self._begin(self._expire(request, stream))
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.pop(next(iter(self._waiting)))
            return
        pair = {one.headers.get("streamtype"): one for one in (stream, other)}
        if pair.keys() == {"data", "error"}:
            self._begin(self._forward(pair["data"], pair["error"]))
        else:
            self._begin(self._drop(stream, other))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _expire(self, request: str, stream: SpdyStream) -> None:
        await asyncio.sleep(_PAIR_S)
        if self._waiting.get(request) is stream:
            del self._waiting[request]
            await self._drop(stream)

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        port = data.headers.get("port", "")
        await forward(self._engine, self._pod_id, port, (data, data), error)
        await self._drop(data, error)

    async def _drop(self, *streams: SpdyStream) -> None:
        for stream in streams:
            await stream.end()
            self._session.forget(stream)
