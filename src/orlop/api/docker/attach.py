"""A container's streams: attach, logs, resize."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote_plus

from orlop.api.docker.answers import stream_type
from orlop.api.docker.routing import Call
from orlop.api.docker.times import parse_time, rfc3339_padded
from orlop.api.messages import Hijack, Reply, Response, Stream
from orlop.engine.answers import LogEntry
from orlop.engine.requests import AttachRequest, LogRequest
from orlop.errors import InvalidArgumentError, OrlopError

_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


async def attach(call: Call) -> Reply:
    """POST /containers/{name}/attach."""
    container = call.engine.containers.get(call.name)
    terminal = container.options.terminal

    async def take(client: socket.socket, pending: bytes) -> None:
        request = _request(call, pending, framed=not terminal)
        handing = call.engine.containers.attach(container.id, client, request)
        await hand_over(client, handing, terminal=terminal)

    return Hijack(take, stream_type(terminal=terminal, version=call.version))


def _request(call: Call, pending: bytes, *, framed: bool) -> AttachRequest:
    query = call.query
    return AttachRequest(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        stream=query.flag("stream"),
        logs=query.flag("logs"),
        detach_keys=query.text("detachKeys") or "ctrl-p,ctrl-q",
        pending=pending,
        framed=framed,
    )


async def hand_over(client: socket.socket, work: Awaitable[None], *, terminal: bool) -> None:
    """Wait until *work* takes over the *client*; if it fails, send the error and close."""
    try:
        await work
    except OrlopError as error:
        with client:
            _tell(client, error, terminal=terminal)


def _tell(client: socket.socket, error: OrlopError, *, terminal: bool) -> None:
    """Write *error* to a hijacked connection, as standard error."""
    text = f"orlop: {error}" + ("\r\n" if terminal else "\n")
    data = text.encode() if terminal else frame("stderr", text.encode())
    with contextlib.suppress(OSError):  # the client is gone or does not read
        client.send(data, socket.MSG_DONTWAIT)


def frame(stream: str, data: bytes) -> bytes:
    """Return *data* with Docker's 8-byte header: stream and length."""
    return struct.pack(">BxxxL", _STREAMS[stream], len(data)) + data


async def resize(call: Call) -> Reply:
    """POST /containers/{name}/resize."""
    height, width = size_of(call)
    await call.engine.containers.resize(call.name, height=height, width=width)
    return Response(200)


def size_of(call: Call) -> tuple[int, int]:
    """Return a terminal's height and width from the query."""
    height, width = call.query.integer("h"), call.query.integer("w")
    if height is None or width is None or not (0 <= height < 65536 and 0 <= width < 65536):
        raise InvalidArgumentError("parameters h and w must be a terminal's height and width")
    return height, width


async def logs(call: Call) -> Reply:
    """GET /containers/{name}/logs."""
    query = call.query
    container = call.engine.containers.get(call.name)
    if not (query.flag("stdout") or query.flag("stderr")):
        raise InvalidArgumentError("Bad parameters: you must choose at least one stream")
    request = LogRequest(
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        since_ns=parse_time(query.text("since"), "since"),
        until_ns=parse_time(query.text("until"), "until"),
        tail=_tail(query.text("tail")),
        follow=query.flag("follow"),
    )
    batches = await call.engine.containers.logs(container.id, request)
    await anext(batches)  # open the log before the client is answered and removes the container
    terminal = container.options.terminal
    shape = _Shape(
        timestamps=query.flag("timestamps"), details=query.flag("details"), terminal=terminal
    )
    pieces = _render(batches, shape)
    return Stream(pieces, stream_type(terminal=terminal, version=call.version))


def _tail(text: str) -> int | None:
    if text in ("", "all"):
        return None
    if not text.isdecimal():
        return None  # Docker reads anything but a number as "all"
    return int(text)


class _Shape(NamedTuple):
    """How to send an entry."""

    timestamps: bool
    details: bool
    terminal: bool

    def of(self, entry: LogEntry) -> bytes:
        text = entry.text
        if self.details:
            text = _details(entry.attributes) + b" " + text
        if self.timestamps:
            text = rfc3339_padded(entry.time_ns).encode() + b" " + text
        return text if self.terminal else frame(entry.stream, text)


def _details(attributes: Mapping[str, str]) -> bytes:
    """Return the attributes like Docker: escaped as in a URL's query, and sorted."""
    return ",".join(
        sorted(f"{quote_plus(name)}={quote_plus(value)}" for name, value in attributes.items())
    ).encode()


async def _render(
    batches: AsyncIterator[Sequence[LogEntry]], shape: _Shape
) -> AsyncIterator[bytes]:
    async for entries in batches:
        yield b"".join(map(shape.of, entries))


async def attach_websocket(call: Call) -> Reply:
    """GET /containers/{name}/attach/ws."""
    from orlop.api.docker.websocket import relay  # rare
    from orlop.api.websocket import accept

    container = call.engine.containers.get(call.name)
    headers = accept(call.request)
    request = _request(call, b"", framed=False)

    async def take(client: socket.socket, pending: bytes) -> None:
        ours, theirs = socket.socketpair()
        relaying = asyncio.create_task(relay(client, pending, ours))
        await hand_over(
            theirs, call.engine.containers.attach(container.id, theirs, request), terminal=True
        )
        await relaying

    return Hijack(take, "", headers)
