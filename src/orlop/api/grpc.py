"""gRPC over a unix socket: from HTTP/2 streams to calls of a service's methods, and back.

grpclib handles the connections, and this module the calls, for three reasons. gRPC's own
libraries read an answer as Unimplemented only if it has a content-type. Messages have a maximum
size. A change that has begun continues after its client has gone.

A method that sends a stream is an async generator; one that receives a stream gets an async
iterator of its messages. Both end with their client. An error is answered with its class's
`grpc_code`; the trailer "orlop-kind" has its kind.
"""

import asyncio
import logging
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, NamedTuple

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from grpclib.config import Configuration
from grpclib.metadata import Deadline, encode_grpc_message
from grpclib.protocol import AbstractHandler, H2Protocol, Stream
from h2.config import H2Configuration
from h2.exceptions import H2Error

from orlop.api.connections import Places
from orlop.api.failures import translate_os_error
from orlop.api.protobuf import message_class
from orlop.errors import ExhaustedError, InvalidArgumentError, OrlopError, UnsupportedError, kind_of
from orlop.model.plain import one_line

log = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20  # of a message: the kubelet's own limit
_MOST_CONNECTIONS = 256
_GRACE_S = 5.0  # for calls, when the engine ends
_PREFIX = struct.Struct(">?I")  # compressed, length
_CONTENT = ("content-type", "application/grpc")
_INTERNAL = 13
_DEADLINE_EXCEEDED = 4

Headers = list[tuple[str, str]]
_headers: ContextVar[Headers] = ContextVar("headers")


def header(name: str) -> str:
    """Return the first header *name* of the call that is being answered; "" if it has none."""
    return next((value for key, value in _headers.get() if key == name), "")


class Method(NamedTuple):
    """An RPC. If it *completes*, it continues after its client has gone."""

    request: type[Message]
    call: Callable[[Any], Any]
    completes: bool
    receives_stream: bool = False
    sends_stream: bool = False


def methods_of(
    file: FileDescriptor, servicers: Mapping[str, Sequence[object]], *, broken_off: frozenset[str]
) -> dict[str, Method]:
    """Return the methods that *servicers* implement, by path; they are keyed by service in *file*.

    Streams, and methods named in *broken_off*, are cancelled when their client goes; all others
    complete.
    """
    methods = {}
    for name, several in servicers.items():
        service = file.services_by_name[name]
        for method in service.methods:
            found = (getattr(servicer, method.name, None) for servicer in several)
            call = next(filter(None, found), None)
            if call is not None:
                request = message_class(method.input_type)
                streams = (method.client_streaming, method.server_streaming)
                completes = method.name not in broken_off and not any(streams)
                path = f"/{service.full_name}/{method.name}"
                methods[path] = Method(request, call, completes, *streams)
    return methods


class Server:
    """The shared state of one socket's connections."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.methods = methods
        self.places = Places(_MOST_CONNECTIONS, _MOST_CONNECTIONS)
        self.changes: set[asyncio.Future[Any]] = set()
        self.connections: set[Connection] = set()
        self._configuration = Configuration().__for_server__()
        self._h2 = H2Configuration(
            client_side=False,
            header_encoding="ascii",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )

    def method(self, path: str) -> Method:
        """Return the method at *path*; UnsupportedError if there is none."""
        if path not in self.methods:
            raise UnsupportedError(f"there is no method {path[:200]}")
        return self.methods[path]

    def connection(self) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self, self._configuration, self._h2)

    async def close(self) -> None:
        """Let changes end for a moment, then close all connections."""
        if self.changes:
            await asyncio.wait(self.changes, timeout=_GRACE_S)
        for connection in list(self.connections):
            connection.abort()


class Connection(H2Protocol):
    """One client's connection."""

    def __init__(self, server: Server, configuration: Configuration, h2: H2Configuration) -> None:
        super().__init__(Calls(server), configuration, h2)
        self._server = server
        self._has_place = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connections.add(self)
        try:
            self._server.places.take(None)
        except ExhaustedError as error:
            log.warning("a client was refused", extra={"why": str(error)})
            self.abort()
        else:
            self._has_place = True

    def abort(self) -> None:
        """Close now; calls that do not complete are cancelled."""
        self.connection.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._has_place:
            self._has_place = False
            self._server.places.give_back(None)
        self._server.connections.discard(self)
        super().connection_lost(exc)


class Outcome(NamedTuple):
    """How a call ends."""

    code: int = 0
    text: str = ""
    kind: str = ""


class Answer:
    """What a call's client receives: messages, then the outcome."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._head: Headers = [(":status", "200"), _CONTENT]  # until it is sent

    async def begin(self) -> None:
        """Tell the client that the call has been accepted."""
        head, self._head = self._head, []
        await self._stream.send_headers(head)

    async def send(self, message: Message) -> None:
        """Send a message, when the client has room for it."""
        if self._head:
            await self.begin()
        data = message.SerializeToString()
        await self._stream.send_data(_PREFIX.pack(False, len(data)) + data)  # noqa: FBT003 - no keyword

    async def end(self, outcome: Outcome) -> None:
        """Send the outcome."""
        trailers = [*self._head, ("grpc-status", str(outcome.code))]
        if outcome.text:
            trailers.append(("grpc-message", encode_grpc_message(outcome.text)))
        if outcome.kind:
            trailers.append(("orlop-kind", outcome.kind))
        await self._stream.send_headers(trailers, end_stream=True)
        if self._stream.closable:  # the client has not ended its half
            self._stream.reset_nowait()


class Calls(AbstractHandler):
    """The calls of one connection. HTTP/2 limits how many there are at once: h2 allows 100."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: dict[Stream, asyncio.Task[None]] = {}

    def accept(self, stream: Stream, headers: Headers, release_stream: Callable[[], None]) -> None:
        """Begin to serve a call."""
        serving = asyncio.get_running_loop().create_task(self._serve(stream, headers))
        self._tasks[stream] = serving

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.pop(stream, None)
            release_stream()
            if not task.cancelled() and task.exception() is not None:
                log.error("a call failed", exc_info=task.exception())

        serving.add_done_callback(over)

    def cancel(self, stream: Stream) -> None:
        """End a call that its client has cancelled."""
        if stream in self._tasks:
            self._tasks[stream].cancel()

    def close(self) -> None:
        """End the calls of a connection that has ended."""
        for task in self._tasks.values():
            task.cancel()

    async def _serve(self, stream: Stream, headers: Headers) -> None:
        _headers.set(headers)
        path = dict(headers).get(":path", "")
        began = time.monotonic()
        answer = Answer(stream)
        try:
            outcome = await self._outcome(path, stream, headers, answer)
            ms = (time.monotonic() - began) * 1000
            log.debug("%s %d %.1f ms", path, outcome.code, ms)
            await answer.end(outcome)
        except H2Error:
            log.debug("%s: the client has gone", path)

    async def _outcome(
        self, path: str, stream: Stream, headers: Headers, answer: Answer
    ) -> Outcome:
        """Do what the call asks for, send its messages, and return how it ended."""
        try:
            method = self._server.method(path)
            async with asyncio.timeout(_seconds_left(headers)):
                await self._call(method, stream, answer)
                return Outcome()
        except TimeoutError as error:
            return Outcome(_DEADLINE_EXCEEDED, str(error) or "the deadline is exceeded")
        except OrlopError as error:
            return _refused(error)
        except H2Error:
            raise
        except OSError as error:
            log.exception("a call failed", extra={"path": path})
            return _refused(translate_os_error(error))
        except Exception:
            log.exception("a call failed", extra={"path": path})
            return Outcome(_INTERNAL, "internal error in the engine (see its log)")

    async def _call(self, method: Method, stream: Stream, answer: Answer) -> None:
        async with aclosing(_received(stream, method.request)) as messages:
            given = messages if method.receives_stream else await _only(messages)
            if method.sends_stream:
                await answer.begin()
                async with aclosing(method.call(given)) as sent:
                    async for message in sent:
                        await answer.send(message)
            else:
                await answer.send(await self._unary(method, given))

    async def _unary(self, method: Method, given: object) -> Message:
        if not method.completes:
            alone: Message = await method.call(given)
            return alone
        change = asyncio.ensure_future(method.call(given))
        self._server.changes.add(change)
        change.add_done_callback(self._ended)
        return await asyncio.shield(change)

    def _ended(self, change: asyncio.Future[Any]) -> None:
        self._server.changes.discard(change)
        if not change.cancelled():
            change.exception()  # told to the client, or to nobody if it has gone


def _seconds_left(headers: Headers) -> float | None:
    """Return the time until the client's deadline; None if it has none."""
    try:
        deadline = Deadline.from_headers(headers)
    except ValueError:
        raise InvalidArgumentError("the header grpc-timeout cannot be read") from None
    return None if deadline is None else deadline.time_remaining()


def _refused(error: OrlopError) -> Outcome:
    return Outcome(error.grpc_code, one_line(str(error)), kind_of(error))


async def _only(messages: AsyncIterator[Message]) -> Message:
    """Return the one message of a call that has no stream."""
    async for message in messages:
        return message
    raise InvalidArgumentError("the call has no message")


async def _received(stream: Stream, kind: type[Message]) -> AsyncGenerator[Message, None]:
    """Yield the messages of a call until the client ends its half."""
    while data := await _next(stream):
        try:
            yield kind.FromString(data[_PREFIX.size :])
        except DecodeError as error:
            raise InvalidArgumentError(
                "the message cannot be read", hint=str(error)[:200]
            ) from None


async def _next(stream: Stream) -> bytes:
    """Return the next message with its prefix; b"" at the end."""
    try:
        prefix = await stream.recv_data(_PREFIX.size)
        if not prefix:
            return b""
        compressed, length = _PREFIX.unpack(prefix)
        if compressed:
            raise UnsupportedError("the message is compressed", hint="send it uncompressed")
        if length > _MOST_BYTES:
            raise ExhaustedError(f"the message has {length} bytes, more than {_MOST_BYTES}")
        data = await stream.recv_data(length)
    except AssertionError:  # grpclib's, where a stream ends in the middle of a message
        raise InvalidArgumentError("the message is cut short") from None
    if len(data) < length:
        raise InvalidArgumentError("the message is cut short")
    return prefix + data
