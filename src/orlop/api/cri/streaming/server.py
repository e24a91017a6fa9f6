"""The HTTP server behind the URLs that Exec, Attach and PortForward answer with.

It listens on the loopback interface, from the first such call on. A URL holds a token that is
good for one connection, and for a minute.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import NamedTuple

from orlop.api import websocket
from orlop.api.cri import v1
from orlop.api.cri.streaming.channels import Channels, WebSocketPipe
from orlop.api.cri.streaming.commands import Client, attach, execute
from orlop.api.cri.streaming.ports import Forwards, forward
from orlop.api.cri.streaming.spdy import SpdySession, SpdyStream
from orlop.api.cri.streaming.streams import Pipe, SocketPipe
from orlop.api.http import Server
from orlop.api.messages import Hijack, Reply, Request, Response
from orlop.api.websocket import WebSocket
from orlop.engine.engine import Engine
from orlop.errors import ExhaustedError, InvalidArgumentError

_GOOD_S = 60.0
_MOST_TOKENS = 1000
_STREAMS_S = 30.0  # in which a client has to open its streams
_LINGER_S = 5.0  # for a client to read the end
_SPDY = "spdy/3.1"
_COMMANDS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_FORWARD = "portforward.k8s.io"
_TUNNEL = f"SPDY/3.1+{_FORWARD}"
_CHANNELS = "v4.channel.k8s.io"
_NAMES = ("stdin", "stdout", "stderr", "error", "resize")

Asked = v1.ExecRequest | v1.AttachRequest | v1.PortForwardRequest
Take = Callable[[socket.socket, bytes], Awaitable[None]]


class _Token(NamedTuple):
    asked: Asked
    until_s: float


class Streaming:
    """Hands out URLs and serves them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._server: Server | None = None
        self._base = ""
        self._starting = asyncio.Lock()
        self._tokens: dict[str, _Token] = {}
        self._sessions: set[asyncio.Task[None]] = set()

    async def url(self, asked: Asked) -> str:
        """Return where a client can do what it has *asked* for, once."""
        async with self._starting:
            if self._server is None:
                self._server = await self._listen()
        now_s = time.monotonic()
        self._tokens = {key: one for key, one in self._tokens.items() if one.until_s > now_s}
        if len(self._tokens) >= _MOST_TOKENS:
            raise ExhaustedError("too many URLs have been handed out and not been used")
        token = secrets.token_urlsafe(16)
        self._tokens[token] = _Token(asked, now_s + _GOOD_S)
        return f"{self._base}/{token}"

    async def _listen(self) -> Server:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)  # noqa: FBT003 - has no keyword
        address, port = listener.getsockname()
        self._base = f"http://{address}:{port}"
        server = Server(self._answer)
        await server.listen(listener)
        return server

    async def close(self) -> None:
        """End all connections."""
        for session in self._sessions:
            session.cancel()
        if self._server is not None:
            await self._server.close()

    async def _answer(self, request: Request) -> Reply:
        token = self._tokens.pop(request.path.removeprefix("/"), None)
        if token is None or token.until_s < time.monotonic():
            return _text(404, "this URL is not known, has been used, or is too old")
        try:
            take, headers = self._upgrade(request, token.asked)
        except InvalidArgumentError as error:
            return _text(400, str(error))
        return Hijack(take, "", headers)

    def _upgrade(self, request: Request, asked: Asked) -> tuple[Take, dict[str, str]]:
        is_forward = isinstance(asked, v1.PortForwardRequest)
        if request.headers.get("upgrade", "").lower() == _SPDY:
            known = (_FORWARD,) if is_forward else _COMMANDS
            theirs = _words(request.headers.get("x-stream-protocol-version", ""))
            chosen = next((one for one in known if one in theirs), None)
            if chosen is None:
                raise InvalidArgumentError(f"speak one of {', '.join(known)}")
            return self._taker(asked, self._spdy), {"X-Stream-Protocol-Version": chosen}
        protocols = (_TUNNEL, _CHANNELS) if is_forward else _COMMANDS
        headers = websocket.accept(request, protocols)
        is_tunnel = headers["Sec-WebSocket-Protocol"] == _TUNNEL
        serve = self._tunnel if is_tunnel else self._channels
        return self._taker(asked, serve), headers

    def _taker(
        self, asked: Asked, serve: Callable[[socket.socket, bytes, Asked], Awaitable[None]]
    ) -> Take:
        async def take(client: socket.socket, pending: bytes) -> None:
            session = asyncio.ensure_future(serve(client, pending, asked))
            assert isinstance(session, asyncio.Task)
            self._sessions.add(session)
            session.add_done_callback(self._sessions.discard)
            with suppress(asyncio.CancelledError):
                await session

        return take

    async def _spdy(self, client: socket.socket, pending: bytes, asked: Asked) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        await self._serve_spdy(SocketPipe(reader, writer, pending), asked)

    async def _tunnel(self, client: socket.socket, pending: bytes, asked: Asked) -> None:
        await self._serve_spdy(WebSocketPipe(await WebSocket.open(client, pending)), asked)

    async def _serve_spdy(self, pipe: Pipe, asked: Asked) -> None:
        session = SpdySession(pipe)
        try:
            async with _while_open(_quietly(session.run()), session.end) as work:
                if isinstance(asked, v1.PortForwardRequest):
                    work(Forwards(self._engine, asked.pod_sandbox_id, session).serve())
                else:
                    work(self._command(asked, session))
        finally:
            pipe.close()

    async def _command(
        self, asked: v1.ExecRequest | v1.AttachRequest, session: SpdySession
    ) -> None:
        streams: dict[str, SpdyStream] = {}
        wanted = _wanted(asked)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STREAMS_S), aclosing(session.opened()) as opened:
                async for stream in opened:
                    streams.setdefault(stream.headers.get("streamtype", ""), stream)
                    if wanted <= streams.keys():
                        break
        if wanted <= streams.keys():
            chosen = {name: streams[name] if name in wanted else None for name in _NAMES}
            await self._run(asked, Client(**chosen))  # type: ignore[arg-type]

    async def _run(self, asked: v1.ExecRequest | v1.AttachRequest, client: Client) -> None:
        if isinstance(asked, v1.ExecRequest):
            await execute(self._engine, asked, client)
        else:
            await attach(self._engine, asked, client)

    async def _channels(self, client: socket.socket, pending: bytes, asked: Asked) -> None:
        connection = await WebSocket.open(client, pending)
        try:
            if isinstance(asked, v1.PortForwardRequest):
                await self._port_channels(connection, asked)
            else:
                await self._command_channels(connection, asked)
        finally:
            connection.close()

    async def _command_channels(
        self, connection: WebSocket, asked: v1.ExecRequest | v1.AttachRequest
    ) -> None:
        channels = Channels(connection, len(_NAMES))
        wanted = _wanted(asked)
        chosen = {
            name: channel if name in wanted else None
            for name, channel in zip(_NAMES, channels.all, strict=True)
        }
        first = next(name for name in ("stdout", "stderr", "error") if name in wanted)
        with suppress(ConnectionError):
            await channels.all[_NAMES.index(first)].write(b"")  # tells that the connection is made
            async with _while_open(channels.run(), channels.end) as work:
                work(self._run(asked, Client(**chosen)))  # type: ignore[arg-type]

    async def _port_channels(self, connection: WebSocket, asked: v1.PortForwardRequest) -> None:
        """Serve two channels for each port: data and errors. Each begins with the port's number."""
        channels = Channels(connection, 2 * len(asked.port))
        with suppress(ConnectionError):
            for index, channel in enumerate(channels.all):
                await channel.write((asked.port[index // 2] & 0xFFFF).to_bytes(2, "little"))
            async with _while_open(channels.run(), channels.end) as work:
                for port, data, error in zip(
                    asked.port, channels.all[::2], channels.all[1::2], strict=True
                ):
                    pod_id = asked.pod_sandbox_id
                    work(forward(self._engine, pod_id, str(port), (data, data), error))


@asynccontextmanager
async def _while_open(
    reading: Awaitable[None], end: Callable[[], Awaitable[None]]
) -> AsyncIterator[Callable[[Awaitable[None]], None]]:
    """Wait for all work that the block has begun, then *end* the connection.

    If *reading* it ends before, because the client has gone, the work is cancelled.
    """
    connection = asyncio.ensure_future(reading)
    tasks: list[asyncio.Future[None]] = []
    yield lambda work: tasks.append(asyncio.ensure_future(work))
    work = asyncio.gather(*tasks)
    try:
        await asyncio.wait((connection, work), return_when=asyncio.FIRST_COMPLETED)
        if work.done() and not connection.done():
            await end()
            await asyncio.wait((connection,), timeout=_LINGER_S)  # the client reads the end
    finally:
        for task in (connection, *tasks):
            task.cancel()
        ended = await asyncio.gather(connection, *tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            raise error


async def _quietly(reading: Awaitable[None]) -> None:
    """Let a connection whose client breaks the protocol end."""
    with suppress(ValueError):
        await reading


def _wanted(asked: v1.ExecRequest | v1.AttachRequest) -> set[str]:
    """Return the names of the streams that a client opens for a request."""
    wanted = {name for name in ("stdin", "stdout") if getattr(asked, name)}
    if asked.stderr and not asked.tty:
        wanted.add("stderr")
    if asked.tty:
        wanted.add("resize")
    return wanted | {"error"}


def _words(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _text(status: int, message: str) -> Response:
    return Response(status, f"{message}\n".encode(), "text/plain")
