"""HTTP/1.1 over a unix socket: parse bytes to Requests, write Replies.

We have our own implementation because an upgraded connection must be passed on as a raw
socket, without losing a byte and without a proxy. One request at a time per connection:
bytes that a client sends early wait, and are passed on with the socket if the request is an
upgrade.
"""

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from collections.abc import Hashable, Mapping

import httptools

from orlop.api.connections import Admission, Limits
from orlop.api.messages import Body, Handler, Peer, Request, Response, Stream
from orlop.api.replies import send
from orlop.errors import ExhaustedError

log = logging.getLogger(__name__)

#: Maximum bytes of request line and headers. X-Registry-Auth can be long.
HEAD_LIMIT = 256 << 10
#: Maximum bytes of a following request, or of an upgraded stream, kept during a request.
BACKLOG_LIMIT = 64 << 10
_RECEIVE_BYTES = 256 << 10
#: How much of an unread body is read before the connection is closed.
_DISCARD_BYTES = 4 << 20
_DISCARD_S = 1.0
_HEAD_END = b"\r\n\r\n"


class Server:
    """The shared state of one listening socket's connections."""

    def __init__(
        self,
        handler: Handler,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.handler = handler
        self.admission = Admission(limits or Limits())
        self.common_headers = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        self.connections: set[Connection] = set()
        self.handovers: set[asyncio.Task[None]] = set()  # of sockets that were passed on
        # One buffer for all: the connection empties it before the loop serves the next.
        self.buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._listener: asyncio.Server | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Serve connections to *listener*, a bound socket, from now on."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(self)

        if listener.family != socket.AF_UNIX:
            self._listener = await loop.create_server(connection, sock=listener)
        elif sys.version_info >= (3, 13):  # would unlink a socket of a service manager
            self._listener = await loop.create_unix_server(
                connection, sock=listener, backlog=512, cleanup_socket=False
            )
        else:
            self._listener = await loop.create_unix_server(connection, sock=listener, backlog=512)

    async def close(self, *, grace_s: float = 5.0) -> None:
        """Stop listening, cut streams, let other requests end for *grace_s* seconds.

        Requests that have not ended by then are cancelled, and get a moment to end.
        """
        if self._listener is not None:
            self._listener.close()
        self.admission.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        for limit_s in (grace_s, min(grace_s, 1.0)):
            tasks = {c.task for c in self.connections if c.task is not None} | self.handovers
            if tasks:
                await asyncio.wait(tasks, timeout=limit_s)
            for connection in list(self.connections):
                connection.abort()


class Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.task: asyncio.Task[None] | None = None
        self.lost = False
        self.client: Hashable = None
        self._has_place = False
        self._transport: asyncio.Transport
        self._peer: Peer | None = None
        self._backlog = bytearray()
        self._closing = False
        self._streaming = False
        self._eof = False
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._begin()

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = _peer(transport.get_extra_info("socket"))
        self.server.connections.add(self)
        name = transport.get_extra_info("peername")
        self.client = self._peer.pid if self._peer is not None else name[:1]
        try:
            self.server.admission.take(self.client)
        except ExhaustedError as error:
            self._refuse(503, str(error))
            return
        self._has_place = True
        self.server.admission.wait_for_request(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost:  # otherwise the new owner of the socket gives the place back
            self._leave()
        self.lost = True
        self.server.connections.discard(self)
        self._body.end(lost=True)
        del self._parser  # it refers to us: a cycle that only the garbage collector breaks
        if self.task is not None:
            self.task.cancel()  # the client is gone
        self.resume_writing()

    def _leave(self) -> None:
        """Give the place back, so that another client can have it at once."""
        self.server.admission.stop_waiting(self)
        if self._has_place:
            self._has_place = False
            self.server.admission.give_back(self.client)

    def _end_handover(self, task: asyncio.Task[None]) -> None:
        self.server.handovers.discard(task)
        self._leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._receive(bytes(self.server.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Keep the connection if it is, or becomes, a stream that only the client has ended."""
        self._eof = True
        # For any other request it means that the client is gone: connection_lost() follows.
        return self._request is not None and self._request.upgrade

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- parsing requests

    def _begin(self) -> None:
        """Prepare for the next request."""
        self._parser = httptools.HttpRequestParser(self)
        self._body = Body(on_first_read=self._first_read, on_room=self._room)
        self._request: Request | None = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._tail = b""
        self._remaining: int | None = None  # bytes of the body to come; None if chunked
        self._refused = False

    def _receive(self, data: bytes) -> None:
        if self._body.ended or self._closing:
            self._backlog += data
            if len(self._backlog) > BACKLOG_LIMIT:
                self._transport.pause_reading()
            return
        try:
            rest = data if self._request is not None else self._feed_head(data)
            if rest and not self._body.ended:
                rest = self._feed_body(rest)
        except httptools.HttpParserError as error:
            self._refuse(400, f"malformed HTTP request: {error}")
            return
        if self._request is not None and self._request.upgrade and self._body.ended:
            self._backlog += rest
        elif rest:
            self._receive(rest)

    def _feed_head(self, data: bytes) -> bytes:
        """Parse up to the empty line that ends the headers; return the rest."""
        at = (self._tail + data).find(_HEAD_END)
        end = len(data) if at < 0 else at + len(_HEAD_END) - len(self._tail)
        self._tail = (self._tail + data)[-3:]
        if at < 0 and not self._head_bytes:
            self.server.admission.wait_for_headers(self)
        self._head_bytes += end
        if self._head_bytes > HEAD_LIMIT:
            self._refuse(431, f"request headers are larger than {HEAD_LIMIT} bytes")
            return b""
        self._feed(data[:end])
        if self._request is None and at >= 0 and not self._refused:
            raise httptools.HttpParserError("headers end unexpectedly")
        return data[end:]

    def _feed_body(self, data: bytes) -> bytes:
        """Parse the part of *data* that is body; return the rest."""
        if self._remaining is None:
            rest = self._feed(data)
        else:
            piece, rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(piece)
            if self._parser.should_upgrade():  # httptools expects no body in an upgrade
                self._body.feed(piece)
                if not self._remaining:
                    self._body.end()
            else:
                self._feed(piece)
        if self._body.full:
            self._transport.pause_reading()
        return rest

    def _feed(self, data: bytes) -> bytes:
        """Pass *data* to the parser; return the bytes of the upgraded protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        return b""

    # -- called by the parser

    def on_message_begin(self) -> None:
        if self._request is not None:  # only after a chunked body, which we cannot split off
            self._request.keep_alive = False

    def on_url(self, url: bytes) -> None:
        if self._request is None:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is None:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            before = self._headers.get(key)
            self._headers[key] = text if before is None else f"{before}, {text}"  # RFC 9110, 5.3

    def on_headers_complete(self) -> None:
        if self._request is not None:
            return
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=self._body,
        )
        request.keep_alive = self._parser.should_keep_alive()
        request.http_1_0 = self._parser.get_http_version() == "1.0"
        request.upgrade = self._parser.should_upgrade()
        request.peer = self._peer
        if "transfer-encoding" not in self._headers or request.upgrade:
            self._remaining = int(self._headers.get("content-length") or 0)
        self._request = request
        self.server.admission.stop_waiting(self)
        self.task = asyncio.get_running_loop().create_task(self._serve(request))

    def on_body(self, piece: bytes) -> None:
        if not self._body.ended:
            self._body.feed(piece)

    def on_message_complete(self) -> None:
        if not (self._remaining and self._parser.should_upgrade()):
            self._body.end()

    # -- writing replies

    async def _serve(self, request: Request) -> None:
        try:
            reply = await self.server.handler(request)
            self._streaming = isinstance(reply, Stream)
            await send(self, request, reply)
        except (ConnectionResetError, BrokenPipeError, asyncio.CancelledError):
            self.abort()
        except Exception:
            log.exception("answer failed", extra={"path": request.path})
            self.abort()
        finally:
            self.task = None
            self._streaming = False
            if not self.lost:
                await self._after(request)

    async def _after(self, request: Request) -> None:
        """Close the connection or continue with its next request."""
        if not self._body.ended and "expect" not in request.headers:
            await self._discard()
        if self.lost:
            return
        if not self._body.ended or not request.keep_alive or self._closing or self._eof:
            self._transport.close()
            return
        self._begin()
        self.server.admission.wait_for_request(self)
        early, self._backlog = bytes(self._backlog), bytearray()
        self._transport.resume_reading()
        if early:
            self._receive(early)

    async def _discard(self) -> None:
        """Read on for a moment, for a client that sends its whole body before it reads."""
        left = _DISCARD_BYTES
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(_DISCARD_S):
                async for piece in self._body:
                    left -= len(piece)
                    if left < 0:
                        return

    @property
    def common_headers(self) -> str:
        return self.server.common_headers

    async def write(self, data: bytes) -> None:
        """Send *data*; return when the client has read enough of it.

        Raises ConnectionResetError when the client is gone.
        """
        if self.lost:
            raise ConnectionResetError("the client went away")
        self._transport.write(data)
        if self._paused:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
            if self.lost:
                raise ConnectionResetError("the client went away")

    async def detach(self, last: bytes) -> tuple[socket.socket, bytes]:
        """Send *last*, and give the connection to the caller.

        Returns the socket, which the caller closes, and the bytes that the
        client has sent after its request.
        """
        self._transport.pause_reading()
        self._transport.set_write_buffer_limits(high=0)
        await self.write(last)
        peer = self._transport.get_extra_info("socket").dup()
        self.lost = True
        if self.task is not None:  # closing the transport must not cancel it
            self.server.handovers.add(self.task)
            self.task.add_done_callback(self._end_handover)
            self.task = None
        self._transport.close()  # everything has been sent; abort() would leave a cycle
        pending, self._backlog = bytes(self._backlog), bytearray()
        return peer, pending

    def close_when_idle(self) -> None:
        """Close now, or after the current answer; a stream might never end."""
        self._closing = True
        if self.task is None:
            self._transport.close()
        elif self._streaming:
            self.abort()

    def abort(self) -> None:
        """Close now, whatever is in progress."""
        if not self.lost:
            self._leave()
            self._transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer an invalid request, and close."""
        self._refused = self._closing = True
        self.server.admission.stop_waiting(self)
        if self._request is not None:  # its handler is reading a malformed body
            self._body.end(lost=True)
            return
        request = Request(method="GET", target="/", headers={}, body=self._body)
        request.keep_alive = False
        self._body.end()
        reply = Response.message(status, message)
        self.task = asyncio.get_running_loop().create_task(self._refusal(request, reply))

    async def _refusal(self, request: Request, reply: Response) -> None:
        try:
            await send(self, request, reply)
        except ConnectionResetError:
            return
        finally:
            self.task = None
            self._transport.close()

    def _first_read(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and not self._body.ended:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _room(self) -> None:
        if not self._body.ended:
            self._transport.resume_reading()


def _peer(client: socket.socket) -> Peer | None:
    if client.family != socket.AF_UNIX:
        return None
    packed = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", packed))
